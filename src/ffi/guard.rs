//! The panic boundary: the only `catch_unwind` of the ABI, which every entry passes.
//!
//! A panic in here is a defect of ours. It must neither end the host (unwinding out of `extern "C"` aborts) nor write
//! to its stderr, which belongs to the host; its message and place go into the error record instead.
//!
//! Printing is done by the process-wide panic hook, before unwinding begins, so a boundary alone can't keep a panic
//! quiet. The first guarded call therefore wraps the hook that it finds: panics inside a guarded call, or on a thread
//! of ours, are noted for the error record; all others go on to the wrapped hook as if we were not there. In the cdylib and the staticlib
//! of a C host the hook is our own copy's, so nobody else can notice. A Rust host that links the rlib and never calls
//! the C ABI keeps its hook untouched; one that sets a hook after us simply wins (and sees our panics printed).

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic::{self, AssertUnwindSafe, PanicHookInfo};
use std::sync::Once;

use super::error::{gomlx_error, gomlx_status, record};
use crate::engine::defect;
use crate::engine::error::{Error, Result, Status};

/// Names of the engine's threads begin so; their panics reach callers as errors, too.
const THREAD_PREFIX: &str = "gomlx";

thread_local! {
    /// Guarded calls this thread is inside of: a callback may call back into the ABI.
    static DEPTH: Cell<u32> = const { Cell::new(0) };
    /// Place and message of the latest panic inside a guarded call.
    static NOTE: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Runs the body of a function that returns a status, and records a failure in `error` (nullable) and in the
/// thread's latest error.
pub(super) fn status(error: *mut gomlx_error, body: impl FnOnce() -> Result<()>) -> gomlx_status {
    code(error, || body().map(|()| 0))
}

/// [`status`] for the function that has more than one way to succeed: the body's number is returned.
pub(super) fn code(error: *mut gomlx_error, body: impl FnOnce() -> Result<gomlx_status>) -> gomlx_status {
    contain(body).unwrap_or_else(|failure| record(error, &failure))
}

/// Runs the body of a function that returns a value; `fallback` stands for failure, whose story is in the thread's
/// latest error.
pub(super) fn value<T>(fallback: T, body: impl FnOnce() -> Result<T>) -> T {
    contain(body).unwrap_or_else(|failure| {
        record(std::ptr::null_mut(), &failure);
        fallback
    })
}

/// Turns a panic of `body` into `Internal`.
///
/// `AssertUnwindSafe` is sound because what a panic may leave half-done is either dropped with the closure or guarded
/// by its owner: a generation interrupted by a panic refuses to go on (`generation.rs`).
fn contain<T>(body: impl FnOnce() -> Result<T>) -> Result<T> {
    static QUIET: Once = Once::new();
    QUIET.call_once(|| {
        if !std::thread::panicking() {
            panic::set_hook(quiet(panic::take_hook()));
        }
    });
    DEPTH.set(DEPTH.get() + 1);
    let outcome = panic::catch_unwind(AssertUnwindSafe(body));
    DEPTH.set(DEPTH.get() - 1);
    outcome.unwrap_or_else(|payload| {
        let story = NOTE.take().unwrap_or_else(|| message(&*payload).to_owned());
        if !payload.is::<String>() && !payload.is::<&str>() {
            // A stranger's payload may panic when dropped, and nothing would catch that one.
            std::mem::forget(payload);
        }
        Err(Error::new(Status::Internal, format!("a defect of gomlx: {story}")))
    })
}

type Hook = Box<dyn Fn(&PanicHookInfo<'_>) + Sync + Send>;

/// A hook that notes our panics and passes the others to `next`.
fn quiet(next: Hook) -> Hook {
    Box::new(move |info| {
        // A thread that is being torn down has no thread-locals any more: its panic is not inside a call.
        let inside = DEPTH.try_with(|depth| depth.get() > 0).unwrap_or(false);
        let ours = inside || std::thread::current().name().is_some_and(|name| name.starts_with(THREAD_PREFIX));
        if !ours {
            return next(info);
        }
        let text = message(info.payload());
        let note = match info.location() {
            Some(place) => format!("{}:{}: {text}", place.file(), place.line()),
            None => text.to_owned(),
        };
        match inside {
            true => NOTE.set(Some(note)),
            false => defect::note(note),
        }
    })
}

/// What `panic!` was given.
fn message(payload: &(dyn Any + Send)) -> &str {
    match (payload.downcast_ref::<&str>(), payload.downcast_ref::<String>()) {
        (Some(text), _) => text,
        (_, Some(text)) => text,
        _ => "a panic without a message",
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::CStr;
    use std::process::Command;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use super::*;
    use crate::ffi::error::gomlx_last_error;

    fn last_message() -> String {
        // SAFETY: gomlx_last_error never returns NULL and its message is NUL-terminated.
        unsafe { CStr::from_ptr((*gomlx_last_error()).message.as_ptr()) }.to_string_lossy().into_owned()
    }

    #[test]
    fn a_panic_becomes_an_internal_error_with_message_and_place() {
        let code = status(std::ptr::null_mut(), || panic!("row {} of {}", 7, 3));
        assert_eq!(code, Status::Internal as i32);
        let message = last_message();
        assert!(message.contains("row 7 of 3") && message.contains("guard.rs:"), "{message}");
    }

    #[test]
    fn a_panic_inside_a_nested_call_ends_only_that_call() {
        let outer = value(-1, || {
            let inner = status(std::ptr::null_mut(), || panic!("inner"));
            Ok(inner)
        });
        assert_eq!(outer, Status::Internal as i32);
        assert_eq!(DEPTH.get(), 0);
    }

    #[test]
    fn a_strange_payload_is_not_dropped() {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                panic!("dropped");
            }
        }
        let code = status(std::ptr::null_mut(), || panic::panic_any(Bomb));
        assert_eq!(code, Status::Internal as i32);
        assert!(last_message().contains("a panic without a message"));
    }

    const CHILD: &str = "GOMLX_TEST_GUARD_CHILD";

    /// The hook is the process's, so what it does is seen in a process of its own: this test once more, as a child.
    #[test]
    fn hook_is_quiet_only_inside() {
        if std::env::var_os(CHILD).is_some() {
            return panic_inside_and_outside();
        }
        let child = Command::new(std::env::current_exe().expect("the test's own path"))
            .args(["--exact", "ffi::guard::tests::hook_is_quiet_only_inside", "--nocapture"])
            .env(CHILD, "1")
            .output()
            .expect("the test's own binary runs");
        let (stdout, stderr) = (String::from_utf8_lossy(&child.stdout), String::from_utf8_lossy(&child.stderr));
        assert!(child.status.success() && stdout.contains("1 passed"), "{stdout}{stderr}");
        assert_eq!(stderr, "", "a caught panic printed");
    }

    fn panic_inside_and_outside() {
        let seen = Arc::new(AtomicUsize::new(0));
        let count = seen.clone();
        panic::set_hook(Box::new(move |_| {
            count.fetch_add(1, Relaxed);
        }));
        status(std::ptr::null_mut(), || panic!("inside"));
        assert_eq!(seen.load(Relaxed), 0, "the host's hook saw our panic");
        let _ = panic::catch_unwind(|| panic!("outside"));
        assert_eq!(seen.load(Relaxed), 1, "the host's hook lost its own panic");
        let ours = std::thread::Builder::new().name("gomlx-test".into()).spawn(|| panic!("ours"));
        let _ = ours.expect("a thread").join();
        assert_eq!(seen.load(Relaxed), 1, "the host's hook saw a panic of our thread");
        assert!(defect::latest().contains("guard.rs:") && defect::latest().ends_with("ours"), "{}", defect::latest());
    }
}
