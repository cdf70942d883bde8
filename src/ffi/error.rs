//! The error record: on the caller's stack, and once more in the thread's own copy.

use std::cell::UnsafeCell;
use std::ffi::c_char;

use crate::engine::error::Error;

/// The outcome of a call: one of `enum gomlx_status_value`. Zero and above is success, below zero is failure.
pub type gomlx_status = i32;

/// The values of `gomlx_status`. They never change meaning.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum gomlx_status_value {
    /// Done as asked.
    GOMLX_OK = 0,
    /// The generation is complete; no chunk was written.
    GOMLX_DONE = 1,
    /// Nothing new within the time given; no chunk was written.
    GOMLX_PENDING = 2,
    /// Something that can never be right: NULL, invalid UTF-8, an unknown enum value, NaN.
    GOMLX_ERR_ARGUMENT = -1,
    /// Right call, wrong moment: two threads inside one generation, a model that is being freed.
    GOMLX_ERR_STATE = -2,
    /// The operating system refused: a file is missing or may not be read.
    GOMLX_ERR_IO = -3,
    /// A file was read but does not hold what its format promises.
    GOMLX_ERR_FORMAT = -4,
    /// Well-formed, but not something this library can run.
    GOMLX_ERR_UNSUPPORTED = -5,
    /// The memory limit, or the machine's memory, does not allow it.
    GOMLX_ERR_MEMORY = -6,
    /// The prompt does not fit the context.
    GOMLX_ERR_CONTEXT_FULL = -7,
    /// The buffer is too small; the needed size was written.
    GOMLX_ERR_BUFFER = -8,
    /// The caller cancelled.
    GOMLX_ERR_CANCELLED = -9,
    /// The device that computes failed.
    GOMLX_ERR_BACKEND = -10,
    /// A defect of the library; the message says where.
    GOMLX_ERR_INTERNAL = -11,
    /// Too many requests wait already.
    GOMLX_ERR_BUSY = -12,
    /// The process forked after the model was loaded; load it again in the child.
    GOMLX_ERR_FORKED = -13,
    /// The request's deadline passed.
    GOMLX_ERR_DEADLINE = -14,
}

/// What went wrong, on the caller's stack. Written by failing calls only.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct gomlx_error {
    /// The status that the call returned.
    pub code: gomlx_status,
    /// One line for a person, NUL-terminated, cut at a character's border where it is too long.
    pub message: [c_char; 508],
}

impl gomlx_error {
    const NONE: Self = Self { code: 0, message: [0; 508] };

    fn new(error: &Error) -> Self {
        let mut this = Self { code: error.status() as gomlx_status, ..Self::NONE };
        let text = error.message();
        let end = text.floor_char_boundary(this.message.len() - 1);
        for (to, from) in this.message.iter_mut().zip(text.bytes().take(end)) {
            // A NUL would hide the rest of the line.
            *to = if from == 0 { b' ' as c_char } else { from as c_char };
        }
        this
    }
}

thread_local! {
    // No destructor, so it can be read as long as the thread runs any code at all.
    static LAST: UnsafeCell<gomlx_error> = const { UnsafeCell::new(gomlx_error::NONE) };
}

/// Writes `failure` to the caller's record (nullable) and to the thread's own; its code, to be returned.
pub(super) fn record(error: *mut gomlx_error, failure: &Error) -> gomlx_status {
    let filled = gomlx_error::new(failure);
    // SAFETY: the cell belongs to this thread and no reference into it is ever made, only this write and C's reads.
    LAST.with(|last| unsafe { *last.get() = filled });
    if !error.is_null() {
        // SAFETY: not NULL, and by the conventions it then points to a gomlx_error that the caller owns. Unaligned
        // because bindings may place the record in a byte buffer.
        unsafe { error.write_unaligned(filled) };
    }
    filled.code
}

/// This thread's latest failure; code `GOMLX_OK` and an empty message before the first. Never NULL, valid until the
/// thread's next failing call. For C and PHP; a language whose tasks move between threads (Go, Swift) passes its own
/// record to each call instead.
#[unsafe(no_mangle)]
pub extern "C" fn gomlx_last_error() -> *const gomlx_error {
    LAST.with(|last| last.get().cast_const())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::error::Status;

    fn text(error: &gomlx_error) -> String {
        let bytes: Vec<u8> = error.message.iter().map(|byte| *byte as u8).take_while(|byte| *byte != 0).collect();
        String::from_utf8(bytes).expect("whole UTF-8")
    }

    #[test]
    fn long_messages_are_cut_between_characters() {
        for pad in 0..4 {
            let long = format!("{}{}", "a".repeat(pad), "😀".repeat(200));
            let cut = text(&gomlx_error::new(&Error::new(Status::Io, long.clone())));
            assert!(long.starts_with(&cut) && cut.len() > 503 && cut.len() < 508, "{}", cut.len());
        }
    }

    #[test]
    fn a_nul_does_not_hide_the_rest() {
        assert_eq!(text(&gomlx_error::new(&Error::new(Status::Io, "a\0b"))), "a b");
    }

    #[test]
    fn numbers_are_the_engines() {
        use gomlx_status_value::*;
        let pairs = [
            (GOMLX_ERR_ARGUMENT, Status::Argument),
            (GOMLX_ERR_STATE, Status::State),
            (GOMLX_ERR_IO, Status::Io),
            (GOMLX_ERR_FORMAT, Status::Format),
            (GOMLX_ERR_UNSUPPORTED, Status::Unsupported),
            (GOMLX_ERR_MEMORY, Status::Memory),
            (GOMLX_ERR_CONTEXT_FULL, Status::ContextFull),
            (GOMLX_ERR_BUFFER, Status::Buffer),
            (GOMLX_ERR_CANCELLED, Status::Cancelled),
            (GOMLX_ERR_BACKEND, Status::Backend),
            (GOMLX_ERR_INTERNAL, Status::Internal),
            (GOMLX_ERR_BUSY, Status::Busy),
            (GOMLX_ERR_FORKED, Status::Forked),
            (GOMLX_ERR_DEADLINE, Status::Deadline),
        ];
        for (ours, theirs) in pairs {
            assert_eq!(ours as i32, theirs as i32, "{theirs:?}");
        }
    }
}
