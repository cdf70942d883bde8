//! Where the caller wants results: out-pointers and buffers.

use std::ffi::c_char;

use super::input::gomlx_string;
use crate::engine::error::{Result, fail};

/// An out-pointer of the caller, checked before the work begins.
pub(super) struct Place<T>(*mut T);

impl<T> Place<T> {
    /// Refuses NULL. `what` names the parameter.
    pub fn new(what: &str, place: *mut T) -> Result<Self> {
        if place.is_null() {
            fail!(Argument, "{what} is NULL")
        }
        Ok(Self(place))
    }
    /// Hands the result over.
    pub fn write(&self, value: T) {
        // SAFETY: not NULL, and by the conventions it points to a `T` of the caller.
        unsafe { self.0.write_unaligned(value) }
    }
}

/// A text that out structs point to: NUL-terminated, kept by the handle that it is read through.
#[derive(Debug)]
pub(super) struct Kept(Box<[u8]>);

impl Kept {
    /// Keeps `text`.
    pub fn new(text: impl Into<String>) -> Self {
        let mut bytes = text.into().into_bytes();
        bytes.push(0);
        Self(bytes.into())
    }
    /// What C sees of it.
    pub fn view(&self) -> gomlx_string {
        gomlx_string { data: self.0.as_ptr().cast(), len: self.0.len() - 1 }
    }
}

/// Copies `values` to a buffer of `capacity` elements and their number to `count`. When they do not fit, the number is
/// still written, and the status is `Buffer`. A NULL buffer of capacity 0 asks for the number only.
pub(super) fn fill<T: Copy>(
    what: &str,
    values: &[T],
    buffer: *mut T,
    capacity: usize,
    count: &Place<usize>,
) -> Result<()> {
    fill_with_end(what, values, None, buffer, capacity, count)
}

/// [`fill`] for text: one place more is needed, for a NUL that is not counted.
pub(super) fn fill_text(
    what: &str,
    text: &str,
    buffer: *mut c_char,
    capacity: usize,
    count: &Place<usize>,
) -> Result<()> {
    fill_with_end(what, text.as_bytes(), Some(0), buffer.cast(), capacity, count)
}

fn fill_with_end<T: Copy>(
    what: &str,
    values: &[T],
    end: Option<T>,
    buffer: *mut T,
    capacity: usize,
    count: &Place<usize>,
) -> Result<()> {
    let needed = values.len() + usize::from(end.is_some());
    if buffer.is_null() && capacity > 0 {
        fail!(Argument, "{what} is NULL, but its capacity is {capacity}")
    }
    if !buffer.is_aligned() {
        fail!(Argument, "{what} is not aligned to {} bytes", align_of::<T>())
    }
    count.write(values.len());
    if needed > capacity {
        fail!(Buffer, "{what}: a capacity of {needed} is needed, {capacity} were given")
    }
    if needed > 0 {
        // SAFETY: aligned, not NULL, and by the conventions `capacity` ≥ `needed` elements long.
        unsafe {
            std::ptr::copy_nonoverlapping(values.as_ptr(), buffer, values.len());
            if let Some(end) = end {
                buffer.add(values.len()).write(end);
            }
        }
    }
    Ok(())
}

/// A buffer for exactly as many values as the call yields, checked before the work begins.
pub(super) struct Buffer<T> {
    start: *mut T,
    len: usize,
}

impl<T: Copy> Buffer<T> {
    /// Refuses NULL, a wrong alignment and, with `Buffer`, a `capacity` below `len`. `what` names the parameter.
    pub fn new(what: &str, start: *mut T, capacity: usize, len: usize) -> Result<Self> {
        if capacity < len {
            fail!(Buffer, "{what}: a capacity of {len} is needed, {capacity} were given")
        }
        if start.is_null() && len > 0 {
            fail!(Argument, "{what} is NULL")
        }
        if !start.is_aligned() {
            fail!(Argument, "{what} is not aligned to {} bytes", align_of::<T>())
        }
        Ok(Self { start, len })
    }
    /// The same where NULL means that the caller does not want it; its length is then the caller's promise.
    pub fn nullable(what: &str, start: *mut T, len: usize) -> Result<Option<Self>> {
        if start.is_null() { Ok(None) } else { Self::new(what, start, len, len).map(Some) }
    }
    /// Writes `values` from place `at` on; what does not fit is a defect of ours and left out.
    pub fn write(&self, at: usize, values: &[T]) {
        let count = values.len().min(self.len.saturating_sub(at));
        // SAFETY: not NULL where `len` > 0, aligned, and by the conventions at least `len` elements long.
        unsafe { std::ptr::copy_nonoverlapping(values.as_ptr(), self.start.wrapping_add(at), count) }
    }
}
