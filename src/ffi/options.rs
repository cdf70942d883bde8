//! Structs that cross the ABI: the rules of `struct_size`, and C enumerators to Rust enums.
//!
//! Every option and out struct begins with the `struct_size` of the header that the caller was compiled with:
//! - 0, less than the field itself, or not a multiple of the alignment: never right, refused;
//! - shorter than ours (an older caller): options get our defaults for the missing tail, outputs are cut;
//! - longer than ours (a newer caller): accepted only when all bytes we do not know are zero, because a field that is
//!   not zero asks for something we would silently leave out.

use crate::engine::error::{Result, fail};

/// A `repr(C)` struct that begins with a `u32 struct_size` and holds only integers, floats, raw pointers and arrays of
/// them.
///
/// # Safety
/// The type must be `repr(C)`, its first field `struct_size: u32`, it must have no padding, and every bit pattern must
/// be a valid value.
pub(super) unsafe trait Versioned: Copy {
    /// The struct's name in the header.
    const NAME: &'static str;
}

/// Marks structs as [`Versioned`], each with its name in the header.
macro_rules! versioned {
    ($($name:ident),*) => { $(
        // SAFETY: declared in this folder by these rules; `-Wpadded` over the generated header checks the padding,
        // and the types are integers, floats and raw pointers.
        unsafe impl $crate::ffi::options::Versioned for $name {
            const NAME: &'static str = stringify!($name);
        }
    )* };
}
pub(super) use versioned;

/// The caller's `struct_size`, checked against the bytes behind it.
fn checked_size<T: Versioned>(given: *const T) -> Result<usize> {
    if given.is_null() {
        fail!(Argument, "the {} is NULL", T::NAME)
    }
    // SAFETY: not NULL, so by the conventions it points to a struct that begins with this field.
    let size = unsafe { given.cast::<u32>().read_unaligned() } as usize;
    check_size::<T>(size)?;
    let ours = size_of::<T>();
    for at in ours..size {
        // SAFETY: the caller's struct is `size` bytes long, by its own word, and `at` is within.
        if unsafe { given.cast::<u8>().add(at).read() } != 0 {
            fail!(Argument, "{}: byte {at} is set, but this library knows only the first {ours}", T::NAME)
        }
    }
    Ok(size)
}

/// Refuses sizes that no version of the struct has.
fn check_size<T: Versioned>(size: usize) -> Result<()> {
    // A struct this large was never declared: the field was not set.
    const MOST: usize = 1 << 16;
    if size < align_of::<T>().max(4) || !size.is_multiple_of(align_of::<T>()) || size > MOST {
        fail!(Argument, "{}: struct_size {size}; set it to sizeof({})", T::NAME, T::NAME)
    }
    Ok(())
}

/// The caller's options, over `defaults` where an older header does not know a field yet.
pub(super) fn read<T: Versioned>(given: *const T, defaults: T) -> Result<T> {
    let size = checked_size(given)?.min(size_of::<T>());
    let mut options = defaults;
    // SAFETY: `given` is at least `size` bytes long, `options` too, and every bit pattern is a value of `T`.
    unsafe { std::ptr::copy_nonoverlapping(given.cast::<u8>(), (&raw mut options).cast(), size) };
    Ok(options)
}

/// Address of element `index` of the caller's array of structs: they stand as far apart as the caller's header says
/// they are long, which the first one's `struct_size` tells.
pub(super) fn element<T: Versioned>(first: *const T, index: usize) -> Result<*const T> {
    let size = checked_size(first)?;
    let Some(offset) = size.checked_mul(index).filter(|offset| *offset <= isize::MAX as usize) else {
        fail!(Argument, "{}: element {index} is outside memory", T::NAME)
    };
    Ok(first.cast::<u8>().wrapping_add(offset).cast())
}

/// Fills a struct that the caller declared `size` bytes long, for `gomlx_*_init`.
pub(super) fn init<T: Versioned>(out: *mut T, size: usize, defaults: T) -> Result<()> {
    if out.is_null() {
        fail!(Argument, "the {} is NULL", T::NAME)
    }
    check_size::<T>(size)?;
    // SAFETY: the caller's struct is `size` bytes long, by its own word; `size` fits u32 (checked above).
    unsafe {
        out.cast::<u8>().write_bytes(0, size);
        std::ptr::copy_nonoverlapping((&raw const defaults).cast::<u8>(), out.cast(), size.min(size_of::<T>()));
        out.cast::<u32>().write_unaligned(size as u32);
    }
    Ok(())
}

/// An out struct of the caller, checked before the work begins, so that no result is lost to a bad one.
pub(super) struct Out<T: Versioned> {
    place: *mut T,
    size: usize,
}

impl<T: Versioned> Out<T> {
    /// Checks `place`.
    pub fn new(place: *mut T) -> Result<Self> {
        Ok(Self { place, size: checked_size(place)? })
    }
    /// The same where NULL means that the caller does not want it.
    pub fn nullable(place: *mut T) -> Result<Option<Self>> {
        if place.is_null() { Ok(None) } else { Self::new(place).map(Some) }
    }
    /// Writes `value` up to where the caller's struct ends; its `struct_size` stays.
    pub fn write(&self, value: T) {
        let head = size_of::<u32>();
        let size = self.size.min(size_of::<T>());
        // SAFETY: both are at least `size` bytes long, and `size` is at least `head` (checked in `new`).
        unsafe {
            let from = (&raw const value).cast::<u8>().add(head);
            std::ptr::copy_nonoverlapping(from, self.place.cast::<u8>().add(head), size - head);
        }
    }
}

/// What an enumerator of a C enum means to the engine: `choose!("backend", value, A => X, B => Y)`.
macro_rules! choose {
    ($field:literal, $value:expr, $($enumerator:path => $meaning:expr),+ $(,)?) => {
        match $value {
            $(value if value == $enumerator as i32 => Ok($meaning),)+
            value => Err($crate::engine::error::error!(Argument, "{}: unknown value {value}", $field)),
        }
    };
}
pub(super) use choose;

#[cfg(test)]
mod tests {
    use super::*;

    #[repr(C)]
    #[derive(Clone, Copy, Debug, PartialEq)]
    struct Old {
        struct_size: u32,
        a: u32,
    }
    #[repr(C)]
    #[derive(Clone, Copy, Debug, PartialEq)]
    struct New {
        struct_size: u32,
        a: u32,
        b: u32,
    }
    versioned!(Old, New);

    const DEFAULTS: New = New { struct_size: 12, a: 10, b: 20 };

    #[test]
    fn an_older_caller_gets_our_defaults_for_what_it_does_not_know() {
        let old = Old { struct_size: 8, a: 1 };
        assert_eq!(read((&raw const old).cast::<New>(), DEFAULTS).map(|o| (o.a, o.b)), Ok((1, 20)));
    }

    #[test]
    fn a_newer_caller_is_understood_while_its_news_is_zero() {
        let mut new = New { struct_size: 12, a: 1, b: 0 };
        let as_old = Old { struct_size: 8, a: 10 };
        assert_eq!(read((&raw const new).cast::<Old>(), as_old).map(|o| o.a), Ok(1));
        new.b = 1 << 24;
        let refused = read((&raw const new).cast::<Old>(), as_old).expect_err("asks for more than we know");
        assert!(refused.message().contains("byte 11"), "{refused}");
    }

    #[test]
    fn absurd_sizes_are_refused() {
        for size in [0, 1, 3, 6, 1 << 20, u32::MAX] {
            let given = Old { struct_size: size, a: 0 };
            let refused = read(&given, given).expect_err("absurd");
            assert!(refused.message().contains("sizeof(Old)"), "{refused}");
        }
        assert!(read(std::ptr::null::<Old>(), Old { struct_size: 8, a: 0 }).is_err());
    }

    #[test]
    fn outputs_end_where_the_callers_struct_ends() {
        let mut place = [8u32, 0, 77];
        let out = Out::new(place.as_mut_ptr().cast::<New>()).expect("an older caller's struct");
        out.write(New { struct_size: 12, a: 5, b: 6 });
        assert_eq!(place, [8, 5, 77]);
    }

    #[test]
    fn init_fills_what_fits_and_zeroes_the_rest() {
        let mut place = [9u32; 5];
        init(place.as_mut_ptr().cast::<New>(), 16, DEFAULTS).expect("a newer caller's struct");
        assert_eq!(place, [16, 10, 20, 0, 9]);
        init(place.as_mut_ptr().cast::<New>(), 8, DEFAULTS).expect("an older caller's struct");
        assert_eq!(place, [8, 10, 20, 0, 9]);
    }
}
