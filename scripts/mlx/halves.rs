
// Appended by gomlx's scripts/mlx/prepare: on x86-64, mlx-c's half.h leaves these out; mlx-rs names them.
#[cfg(target_arch = "x86_64")]
mod halves {
    #[repr(C)]
    #[derive(Clone, Copy, Debug, Default)]
    pub struct float16_t(pub u16);
    pub type bfloat16_t = u16;
    unsafe extern "C" {
        pub fn mlx_array_item_float16(res: *mut float16_t, arr: crate::mlx_array) -> ::std::os::raw::c_int;
        pub fn mlx_array_item_bfloat16(res: *mut bfloat16_t, arr: crate::mlx_array) -> ::std::os::raw::c_int;
        pub fn mlx_array_data_float16(arr: crate::mlx_array) -> *const float16_t;
        pub fn mlx_array_data_bfloat16(arr: crate::mlx_array) -> *const bfloat16_t;
    }
}
#[cfg(target_arch = "x86_64")]
pub use halves::*;
