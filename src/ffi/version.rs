//! Versions of the library and of its ABI.

use std::ffi::c_char;

/// The ABI that this header declares. `gomlx_abi_version` says the loaded library's; they must be equal. It is also
/// the number in the library's SONAME (`libgomlx.so.1`) and changes only when something old stops working.
#[repr(C)]
pub enum gomlx_abi {
    /// The number.
    GOMLX_ABI_VERSION = 1, // build.rs reads this line for the SONAME
}

/// The ABI of the loaded library.
#[unsafe(no_mangle)]
pub extern "C" fn gomlx_abi_version() -> u32 {
    gomlx_abi::GOMLX_ABI_VERSION as u32
}

/// The version of the loaded library, such as `0.1.0`. NUL-terminated, valid for ever.
#[unsafe(no_mangle)]
pub extern "C" fn gomlx_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}
