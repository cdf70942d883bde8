//! What this backend needs of MLX beside mlx-rs' operations: host memory in and out, MLX's failures as ours, and the
//! few calls that mlx-rs does not offer.

use std::cell::RefCell;
use std::ffi::{CStr, c_char, c_void};
use std::sync::Once;

use mlx_rs::error::Exception;
use mlx_rs::{Array, Dtype, Stream};

use crate::engine::error::{Error, Result, Status, error, fail};

thread_local! {
    /// What MLX said when a call of this thread failed.
    static SAID: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Has MLX report failures to us. mlx-c's own handler ends the process, and mlx-rs' keeps the message to itself;
/// mlx-rs sets its handler once, at its first call, so that ours comes after it and stays.
pub fn install_handler() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let _ = mlx_rs::memory::memory_limit();
        // SAFETY: the handler is a function of this program, needs no data and never unwinds.
        unsafe { mlx_sys::mlx_set_error_handler(Some(hear), std::ptr::null_mut(), None) };
    });
}

extern "C" fn hear(message: *const c_char, _data: *mut c_void) {
    if message.is_null() {
        return;
    }
    // SAFETY: MLX passes a NUL-terminated text that lives during this call.
    let message = unsafe { CStr::from_ptr(message) }.to_string_lossy();
    // A thread that is ending has no place for it any more.
    let _ = SAID.try_with(|said| {
        if let Ok(mut said) = said.try_borrow_mut() {
            *said = Some(message.into_owned());
        }
    });
}

/// The failure that this thread's last call ended with.
pub fn last_failure(fallback: &str) -> Error {
    let said = SAID.with(RefCell::take).unwrap_or_else(|| fallback.to_owned());
    // "... at /path/mlx-c/mlx/c/ops.cpp:123" says nothing to a host.
    let what = said.rsplit_once(" at /").map_or(said.as_str(), |(message, _)| message);
    let signs = ["allocat", "ut of memory", "OutOfMemory", "bad_alloc", "MemoryAllocation"];
    let status = if signs.iter().any(|sign| what.contains(sign)) { Status::Memory } else { Status::Backend };
    Error::new(status, format!("MLX: {}", what.replace('\n', " ")))
}

/// `result` with MLX's failure as ours.
pub fn done<T>(result: std::result::Result<T, Exception>) -> Result<T> {
    result.map_err(|exception| last_failure(exception.what()))
}

/// A size as MLX counts.
pub fn size(n: usize) -> Result<i32> {
    i32::try_from(n).map_err(|_| error!(Memory, "MLX: {n} elements in one dimension"))
}

/// Element types that host memory comes in.
pub trait Host: Copy {
    /// MLX's name of it.
    const DTYPE: Dtype;
}

impl Host for f32 {
    const DTYPE: Dtype = Dtype::Float32;
}

impl Host for i32 {
    const DTYPE: Dtype = Dtype::Int32;
}

/// A copy of `values` on the device.
pub fn from_host<T: Host>(values: &[T], shape: &[usize]) -> Result<Array> {
    // SAFETY: plain numbers, read as the bytes they are.
    let bytes = unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), std::mem::size_of_val(values)) };
    from_bytes(bytes, shape, T::DTYPE, size_of::<T>())
}

/// A copy of stored elements, which need not be aligned, on the device.
pub fn from_bytes(bytes: &[u8], shape: &[usize], dtype: Dtype, element: usize) -> Result<Array> {
    let count = shape.iter().try_fold(element, |all, n| all.checked_mul(*n));
    if count != Some(bytes.len()) {
        fail!(Internal, "{} bytes for {shape:?} elements of {element} bytes", bytes.len())
    }
    let dims = shape.iter().map(|n| size(*n)).collect::<Result<Vec<i32>>>()?;
    let data = bytes.as_ptr().cast();
    // SAFETY: `bytes` holds what the shape says. MLX copies it before it returns; NULL stands for a failure.
    let raw = unsafe { mlx_sys::mlx_array_new_data(data, dims.as_ptr(), dims.len() as i32, dtype.into()) };
    if raw.ctx.is_null() {
        return Err(last_failure("no room for an array"));
    }
    // SAFETY: a live array that nobody else owns.
    Ok(unsafe { Array::from_ptr(raw) })
}

/// Replaces `out` by the elements of a float array of whatever type, computing it if need be.
pub fn to_host(x: &Array, out: &mut Vec<f32>) -> Result<()> {
    out.clear();
    let x = done(x.as_dtype(Dtype::Float32))?;
    let x = done(x.contiguous())?;
    done(x.eval())?;
    let slice = x.try_as_slice::<f32>().map_err(|fault| error!(Backend, "MLX: reading an array: {fault}"))?;
    out.try_reserve(slice.len()).map_err(|_| error!(Memory, "the system refused {} floats", slice.len()))?;
    out.extend_from_slice(slice);
    Ok(())
}

/// An operation of mlx-c that fills in an array.
fn filled(call: impl FnOnce(*mut mlx_sys::mlx_array, mlx_sys::mlx_stream) -> i32) -> Result<Array> {
    let stream = Stream::thread_local_or_default();
    // SAFETY: an empty handle, which the call fills in or leaves; `out` owns it either way.
    let (status, out) = unsafe {
        let mut raw = mlx_sys::mlx_array_new();
        let status = call(&mut raw, stream.as_ptr());
        (status, Array::from_ptr(raw))
    };
    if status == 0 { Ok(out) } else { Err(last_failure("an operation failed")) }
}

/// Elements `start .. stop` in each dimension, a view.
pub fn slice(x: &Array, start: &[i32], stop: &[i32]) -> Result<Array> {
    let ones = [1; 8];
    check_dims(x, &[start.len(), stop.len()])?;
    let n = start.len();
    // SAFETY: live arrays, and as many numbers behind each pointer as its count says.
    filled(|out, stream| unsafe {
        mlx_sys::mlx_slice(out, x.as_ptr(), start.as_ptr(), n, stop.as_ptr(), n, ones.as_ptr(), n, stream)
    })
}

/// `x` with elements `start .. stop` of each dimension replaced, in place if nobody else holds `x` when it is computed.
pub fn slice_update(x: &Array, update: &Array, start: &[i32], stop: &[i32]) -> Result<Array> {
    let ones = [1; 8];
    check_dims(x, &[start.len(), stop.len()])?;
    let n = start.len();
    let (a, u) = (x.as_ptr(), update.as_ptr());
    // SAFETY: as in `slice`.
    filled(|out, stream| unsafe {
        mlx_sys::mlx_slice_update(out, a, u, start.as_ptr(), n, stop.as_ptr(), n, ones.as_ptr(), n, stream)
    })
}

fn check_dims(x: &Array, counts: &[usize]) -> Result<()> {
    if counts.iter().any(|n| *n != x.ndim() || *n > 8) {
        fail!(Internal, "a slice in {counts:?} dimensions of an array with {}", x.ndim())
    }
    Ok(())
}
