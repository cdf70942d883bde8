//! What the caller points to: strings and arrays, checked before anybody looks inside.

use std::ffi::c_char;

use crate::engine::error::{Result, error, fail};

/// The caller's array as a slice. NULL stands for none of them when `count` is 0. `what` names it in messages.
///
/// The slice must not outlive the call: its lifetime is the caller's promise, not the compiler's.
pub(super) fn array<'a, T: Copy>(what: &str, start: *const T, count: usize) -> Result<&'a [T]> {
    if count == 0 {
        return Ok(&[]);
    }
    if start.is_null() {
        fail!(Argument, "{what} is NULL, but its length is {count}")
    }
    if !start.is_aligned() {
        fail!(Argument, "{what} is not aligned to {} bytes", align_of::<T>())
    }
    if count.checked_mul(size_of::<T>()).is_none_or(|bytes| bytes > isize::MAX as usize) {
        fail!(Argument, "{what}: a length of {count} is more than memory holds")
    }
    // SAFETY: aligned, not NULL, and by the conventions `count` elements long and unchanged during the call. `T` is a
    // plain C type, so whatever the bytes are, they are values.
    Ok(unsafe { std::slice::from_raw_parts(start, count) })
}

/// A text of the caller inside a struct, or a text of the library that the caller may read.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct gomlx_string {
    /// UTF-8. Given by the caller: no terminator needed, may be NULL when `len` is 0. Given by the library:
    /// NUL-terminated, never NULL.
    pub data: *const c_char,
    /// Bytes, the terminator not counted.
    pub len: usize,
}

impl gomlx_string {
    pub(super) const EMPTY: Self = Self { data: std::ptr::null(), len: 0 };

    /// The caller's text. `what` names it in messages.
    pub(super) fn text<'a>(self, what: &str) -> Result<&'a str> {
        text(what, self.data, self.len)
    }
}

/// The caller's text, which must be UTF-8.
pub(super) fn text<'a>(what: &str, start: *const c_char, len: usize) -> Result<&'a str> {
    let bytes = array(what, start.cast::<u8>(), len)?;
    std::str::from_utf8(bytes).map_err(|e| error!(Argument, "{what} is not UTF-8 from byte {}", e.valid_up_to()))
}

/// The caller's array of texts, copied. `what` names it in messages.
pub(super) fn texts(what: &str, start: *const gomlx_string, count: usize) -> Result<Vec<String>> {
    let texts = array(what, start, count)?;
    texts.iter().enumerate().map(|(at, text)| Ok(text.text(&format!("{what}[{at}]"))?.to_owned())).collect()
}
