//! Handles: the only place where a C pointer becomes an owned Rust value, or the other way round.
//!
//! A handle points to a counted [`Block`]. Every call holds a count of its own while it runs, so a handle that another
//! thread frees meanwhile ends when the last call leaves it, not under its feet. A tag at the block's head says what
//! the pointer points to and whether it was freed: a wrong or stale pointer then usually gives GOMLX_ERR_ARGUMENT
//! rather than a crash. It can't be more than usually: freed memory may already hold something else.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed};

use crate::engine::error::{Result, error, fail};

/// A type that C knows only by pointer, and what stands behind it.
pub(super) trait Opaque: Sized {
    /// The owned value.
    type Value;
    /// Which of the kinds it is.
    const KIND: Kind;
}

/// The kinds of handles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Control,
    Catalog,
    Model,
    Generation,
}

/// Live handles of each kind, for tests that look for leaks; `gomlx_runtime_describe` shows them.
static LIVE: [AtomicUsize; 4] = [const { AtomicUsize::new(0) }; 4];

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Kind::Control => "gomlx_control",
            Kind::Catalog => "gomlx_catalog",
            Kind::Model => "gomlx_model",
            Kind::Generation => "gomlx_generation",
        }
    }
    /// The mark at the head of a live block: letters that no heap pattern looks like.
    const fn tag(self) -> u32 {
        u32::from_le_bytes(*b"gx\0!") | (self as u32) << 16
    }
    /// Handles of this kind that were given out and not freed.
    pub fn live(self) -> u64 {
        LIVE[self as usize].load(Relaxed) as u64
    }
}

/// The tag of a handle that was freed.
const FREED: u32 = 0;

/// What a handle points to.
#[repr(C)]
pub(super) struct Block<V> {
    tag: AtomicU32,
    /// The process that made it.
    pid: u32,
    value: V,
}

impl<V> Block<V> {
    /// Whether the handle was freed while this call ran.
    pub fn is_freed(&self) -> bool {
        self.tag.load(Relaxed) == FREED
    }
}

impl<V> Deref for Block<V> {
    type Target = V;
    fn deref(&self) -> &V {
        &self.value
    }
}

/// Hands `value` to C, as one owned handle.
pub(super) fn give<O: Opaque>(value: O::Value) -> *mut O {
    LIVE[O::KIND as usize].fetch_add(1, Relaxed);
    let block = Block { tag: AtomicU32::new(O::KIND.tag()), pid: std::process::id(), value };
    Arc::into_raw(Arc::new(block)).cast_mut().cast()
}

/// The block behind a handle that the caller keeps.
pub(super) fn get<O: Opaque>(handle: *const O) -> Result<Arc<Block<O::Value>>> {
    let kind = O::KIND;
    let block = handle.cast::<Block<O::Value>>();
    if block.is_null() {
        fail!(Argument, "the {} is NULL", kind.name())
    }
    // SAFETY: by the conventions a pointer of this type came from `give` and was not freed, so its block is alive.
    // Looking at the tag first, through the pointer, is for callers who break them.
    if unsafe { (*block).tag.load(Relaxed) } != kind.tag() {
        fail!(Argument, "not a live {}: freed, or a pointer of another kind", kind.name())
    }
    // SAFETY: the block is alive and was made by `Arc::into_raw` in `give`; the caller's own count outlives this
    // line, so raising it to two and taking one over leaves the caller's where it was.
    Ok(unsafe {
        Arc::increment_strong_count(block);
        Arc::from_raw(block)
    })
}

/// [`get`] for what lives on threads: `Forked` in a child of the process that made the handle, where those threads
/// are not.
pub(super) fn get_here<O: Opaque>(handle: *const O) -> Result<Arc<Block<O::Value>>> {
    let block = get(handle)?;
    if block.pid != std::process::id() {
        return Err(error!(Forked, "made by process {} before it forked; load the model in the child", block.pid));
    }
    Ok(block)
}

/// The value behind a handle for the length of one call, without counting, allocating or reporting: for what a signal
/// handler may call. `None` for NULL and for what is not a live handle.
pub(super) fn peek<'a, O: Opaque>(handle: *const O) -> Option<&'a O::Value> {
    let block = handle.cast::<Block<O::Value>>();
    // SAFETY: as in `get`; the caller keeps the handle during the call, and the reference does not leave it.
    unsafe { (!block.is_null() && (*block).tag.load(Relaxed) == O::KIND.tag()).then(|| &(*block).value) }
}

/// Takes a handle back. NULL and a handle that is seen to be freed already are left alone.
pub(super) fn free<O: Opaque>(handle: *mut O) {
    drop(take(handle));
}

/// [`free`] that leaves what the handle owned to the caller; `None` where `free` does nothing.
pub(super) fn take<O: Opaque>(handle: *mut O) -> Option<Arc<Block<O::Value>>> {
    let block = handle.cast_const().cast::<Block<O::Value>>();
    if block.is_null() {
        return None;
    }
    // SAFETY: as in `get`. Of two threads that free one handle at once only one sees the tag.
    let freed = unsafe { (*block).tag.compare_exchange(O::KIND.tag(), FREED, Relaxed, Relaxed) };
    freed.ok().map(|_| {
        LIVE[O::KIND as usize].fetch_sub(1, Relaxed);
        // SAFETY: this is the count that `give` handed out, and the tag's change made sure that it is taken once.
        unsafe { Arc::from_raw(block) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::error::Status;

    struct Thing;
    impl Opaque for Thing {
        type Value = Arc<()>;
        const KIND: Kind = Kind::Catalog;
    }
    struct Other;
    impl Opaque for Other {
        type Value = Arc<()>;
        const KIND: Kind = Kind::Model;
    }

    #[test]
    fn a_call_in_progress_outlives_free() {
        let value = Arc::new(());
        let handle = give::<Thing>(value.clone());
        let call = get(handle).expect("alive");
        free(handle);
        assert!(call.is_freed());
        assert_eq!(Arc::strong_count(&value), 2, "freed under the call's feet");
        drop(call);
        assert_eq!(Arc::strong_count(&value), 1, "leaked");
    }

    #[test]
    fn null_wrong_kind_and_second_free_are_refused() {
        assert_eq!(get::<Thing>(std::ptr::null()).err().map(|e| e.status()), Some(Status::Argument));
        free::<Thing>(std::ptr::null_mut());
        let handle = give::<Thing>(Arc::new(()));
        assert_eq!(get(handle.cast::<Other>()).err().map(|e| e.status()), Some(Status::Argument));
        let call = get(handle).expect("alive"); // keeps the memory ours, so that looking again is sound
        free(handle);
        free(handle);
        assert_eq!(get(handle).err().map(|e| e.status()), Some(Status::Argument));
        drop(call);
    }
}
