//! Aligned memory whose allocation can fail without taking the host down.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ptr::NonNull;

use crate::engine::error::{Result, error};

/// A cache line, and the widest vector.
pub const ALIGN: usize = 64;
/// What the system's allocator aligns to by itself. Asking for no more keeps `alloc_zeroed` a plain `calloc`, which
/// gives large blocks as untouched zero pages instead of writing them.
const SYSTEM_ALIGN: usize = 16;

/// Zeroed bytes, aligned to [`ALIGN`], with at least [`ALIGN`] readable bytes beyond their end, so that a vector
/// load may start at any element.
#[derive(Debug)]
pub struct Buffer {
    block: NonNull<u8>,
    layout: Layout,
    start: NonNull<u8>,
    bytes: usize,
}

impl Buffer {
    /// Fails with `Memory` when the system has none; `what` names the holding.
    pub fn new(bytes: usize, what: &str) -> Result<Self> {
        let refused = || error!(Memory, "{what}: the system refused {bytes} bytes");
        let total = bytes.checked_add(2 * ALIGN).ok_or_else(refused)?;
        let layout = Layout::from_size_align(total, SYSTEM_ALIGN).map_err(|_| refused())?;
        // SAFETY: the size is not zero.
        let block = NonNull::new(unsafe { alloc_zeroed(layout) }).ok_or_else(refused)?;
        // SAFETY: fewer than ALIGN bytes further, inside the block of `bytes + 2 * ALIGN`.
        let start = unsafe { block.add(block.align_offset(ALIGN)) };
        Ok(Self { block, layout, start, bytes })
    }

    /// Bytes asked for.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The first byte. Whoever writes through it keeps to the rules of aliasing.
    pub fn as_ptr(&self) -> *mut u8 {
        self.start.as_ptr()
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this layout.
        unsafe { dealloc(self.block.as_ptr(), self.layout) }
    }
}

/// Makes `values` at least `len` long, or fails with `Memory`; never shrinks, so a steady state allocates nothing.
pub fn grow<T: Copy + Default>(values: &mut Vec<T>, len: usize, what: &str) -> Result<()> {
    if values.len() < len {
        let more = len - values.len();
        values.try_reserve(more).map_err(|_| error!(Memory, "{what}: the system refused {len} elements"))?;
        values.resize(len, T::default());
    }
    Ok(())
}
