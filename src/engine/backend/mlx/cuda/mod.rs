//! Kernels of our own for CUDA, compiled by MLX when first used. On CUDA a decoding step is bound by the number of
//! graph nodes, not by bytes: each kernel here stands for three to eight of MLX's operations.
//!
//! `GOMLX_MLX_KERNELS=off` leaves them out.

use std::ffi::{CStr, CString};

use mlx_rs::{Array, Dtype, Stream};

use super::array::{last_failure, size};
use crate::engine::error::{Result, error, fail};

/// A kernel's text and the names of what goes in and out.
struct Source {
    name: &'static CStr,
    inputs: &'static [&'static CStr],
    outputs: &'static [&'static CStr],
    text: &'static str,
    /// `ensure_row_contiguous` copies what is not; caches are always contiguous and must never be copied.
    contiguous: bool,
}

/// Norms, turns and places queries, keys and values.
const PLACE: Source = Source {
    name: c"gomlx_place",
    inputs: &[c"qkv", c"qb", c"kb", c"vb", c"qw", c"kw", c"eps", c"cosines", c"sines", c"at", c"kc", c"vc"],
    outputs: &[c"q", c"k", c"v"],
    text: include_str!("place.cu"),
    contiguous: true,
};
/// Attention of single rows over their pages.
const ATTEND: Source = Source {
    name: c"gomlx_attend",
    inputs: &[c"q", c"kc", c"vc", c"at", c"owners", c"tables", c"factors"],
    outputs: &[c"out"],
    text: include_str!("attend.cu"),
    contiguous: true,
};
/// Adds to the residual stream and norms it for what follows.
const ADD_NORM: Source = Source {
    name: c"gomlx_add_norm",
    inputs: &[c"acc", c"y", c"post", c"next", c"eps"],
    outputs: &[c"x", c"normed"],
    text: include_str!("add_norm.cu"),
    contiguous: true,
};
/// The MLP's gate.
const GATED: Source = Source {
    name: c"gomlx_gated",
    inputs: &[c"both"],
    outputs: &[c"out"],
    text: include_str!("gated.cu"),
    contiguous: true,
};

/// All of them.
pub struct Kernels {
    /// See [`PLACE`].
    pub place: Kernel,
    /// See [`ATTEND`].
    pub attend: Kernel,
    /// See [`ADD_NORM`].
    pub add_norm: Kernel,
    /// See [`GATED`].
    pub gated: Kernel,
}

impl Kernels {
    /// Where this MLX has CUDA and nobody wants them off.
    pub fn new() -> Result<Option<Self>> {
        let mut cuda = false;
        // SAFETY: `cuda` is a flag to write to.
        let asked = unsafe { mlx_sys::mlx_cuda_is_available(&mut cuda) };
        if asked != 0 || !cuda || std::env::var("GOMLX_MLX_KERNELS").is_ok_and(|kernels| kernels == "off") {
            return Ok(None);
        }
        Ok(Some(Self {
            place: Kernel::new(&PLACE)?,
            attend: Kernel::new(&ATTEND)?,
            add_norm: Kernel::new(&ADD_NORM)?,
            gated: Kernel::new(&GATED)?,
        }))
    }
}

/// A kernel, ready to be applied.
pub struct Kernel {
    raw: mlx_sys::mlx_fast_cuda_kernel,
    inputs: usize,
    outputs: usize,
}

/// A constant of one compilation.
pub enum Constant {
    /// An element type.
    Type(Dtype),
    /// A number.
    Int(i32),
}

/// A result's shape and element type.
pub type Shape<'a> = (&'a [i32], Dtype);

impl Kernel {
    fn new(source: &Source) -> Result<Self> {
        let text = CString::new(source.text).map_err(|_| error!(Internal, "a kernel with NUL"))?;
        // SAFETY: live NUL-terminated texts, which MLX copies; both vectors are freed here.
        let raw = unsafe {
            let names = |names: &[&CStr]| {
                let vector = mlx_sys::mlx_vector_string_new();
                for name in names {
                    mlx_sys::mlx_vector_string_append_value(vector, name.as_ptr());
                }
                vector
            };
            let (inputs, outputs) = (names(source.inputs), names(source.outputs));
            let (name, text) = (source.name.as_ptr(), text.as_ptr());
            let header = c"".as_ptr();
            let raw = mlx_sys::mlx_fast_cuda_kernel_new(name, inputs, outputs, text, header, source.contiguous, 0);
            mlx_sys::mlx_vector_string_free(inputs);
            mlx_sys::mlx_vector_string_free(outputs);
            raw
        };
        if raw.ctx.is_null() {
            return Err(last_failure("a kernel was refused"));
        }
        Ok(Self { raw, inputs: source.inputs.len(), outputs: source.outputs.len() })
    }

    /// Results of shapes `outputs` from `blocks` blocks of `threads` threads.
    pub fn apply(
        &self,
        inputs: &[&Array],
        outputs: &[Shape<'_>],
        constants: &[(&CStr, Constant)],
        blocks: usize,
        threads: usize,
    ) -> Result<Vec<Array>> {
        if inputs.len() != self.inputs || outputs.len() != self.outputs {
            fail!(Internal, "a kernel with {} inputs and {} outputs", inputs.len(), outputs.len())
        }
        let all = size(blocks.saturating_mul(threads))?;
        let threads = size(threads)?;
        let stream = Stream::thread_local_or_default();
        // SAFETY: every handle is live until it is freed at the end; shapes and names are copied by MLX; the results
        // are arrays that only this vector holds until each gets a handle of its own.
        unsafe {
            let config = mlx_sys::mlx_fast_cuda_kernel_config_new();
            for (shape, dtype) in outputs {
                let (dims, count) = (shape.as_ptr(), shape.len());
                mlx_sys::mlx_fast_cuda_kernel_config_add_output_arg(config, dims, count, (*dtype).into());
            }
            mlx_sys::mlx_fast_cuda_kernel_config_set_grid(config, all, 1, 1);
            mlx_sys::mlx_fast_cuda_kernel_config_set_thread_group(config, threads, 1, 1);
            for (name, constant) in constants {
                let name = name.as_ptr();
                match constant {
                    Constant::Type(dtype) => {
                        mlx_sys::mlx_fast_cuda_kernel_config_add_template_arg_dtype(config, name, (*dtype).into())
                    }
                    Constant::Int(value) => {
                        mlx_sys::mlx_fast_cuda_kernel_config_add_template_arg_int(config, name, *value)
                    }
                };
            }
            let given = mlx_sys::mlx_vector_array_new();
            for input in inputs {
                mlx_sys::mlx_vector_array_append_value(given, input.as_ptr());
            }
            let mut made = mlx_sys::mlx_vector_array_new();
            let status = mlx_sys::mlx_fast_cuda_kernel_apply(&mut made, self.raw, given, config, stream.as_ptr());
            let mut results = Vec::with_capacity(outputs.len());
            if status == 0 {
                for index in 0..outputs.len() {
                    let mut raw = mlx_sys::mlx_array_new();
                    mlx_sys::mlx_vector_array_get(&mut raw, made, index);
                    results.push(Array::from_ptr(raw));
                }
            }
            mlx_sys::mlx_vector_array_free(made);
            mlx_sys::mlx_vector_array_free(given);
            mlx_sys::mlx_fast_cuda_kernel_config_free(config);
            if status == 0 { Ok(results) } else { Err(last_failure("a kernel failed")) }
        }
    }
}

impl Drop for Kernel {
    fn drop(&mut self) {
        // SAFETY: a live handle, freed once.
        unsafe { mlx_sys::mlx_fast_cuda_kernel_free(self.raw) };
    }
}
