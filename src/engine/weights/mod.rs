//! Tensors as files hold them: name → dtype, shape and a view of the bytes, and what each quantised layout means.
//!
//! A leaf: it knows files and layouts, not models or backends.

mod affine;
mod bytes;
mod header;
pub mod mapping;
mod quantisation;
mod safetensors;

pub use affine::{dequantise, expect_finite, expect_shape, matrix};
pub use bytes::Bytes;
pub use mapping::WeightsMode;
pub use quantisation::{QuantBlock, QuantParams};
pub use safetensors::Checkpoint;

use super::error::{Result, fail};

/// Element type of a stored tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DType {
    /// IEEE single precision.
    F32,
    /// IEEE half precision.
    F16,
    /// The upper half of an `F32`.
    BF16,
    /// 32-bit words: packed quantised weights.
    U32,
    /// Bytes: scales of the microscaling layouts.
    U8,
}

impl DType {
    /// Bytes an element takes.
    pub fn size(self) -> usize {
        match self {
            DType::F32 | DType::U32 => 4,
            DType::F16 | DType::BF16 => 2,
            DType::U8 => 1,
        }
    }
    /// Its usual short name.
    pub fn name(self) -> &'static str {
        match self {
            DType::F32 => "f32",
            DType::F16 => "f16",
            DType::BF16 => "bf16",
            DType::U32 => "u32",
            DType::U8 => "u8",
        }
    }
    /// Whether the elements are real numbers that need no dequantisation.
    pub fn is_float(self) -> bool {
        matches!(self, DType::F32 | DType::F16 | DType::BF16)
    }
}

/// One stored tensor: row-major, little-endian, its bytes still where the file put them.
#[derive(Clone, Debug)]
pub struct Tensor {
    /// Name in the checkpoint.
    pub name: String,
    /// Element type.
    pub dtype: DType,
    /// Extent of each dimension, outermost first.
    pub shape: Vec<usize>,
    /// `shape.product() * dtype.size()` bytes. Not aligned: safetensors promises only 1-byte alignment.
    pub bytes: Bytes,
}

/// Where tensors come from: one or several safetensors files, later GGUF.
pub trait TensorSource {
    /// The tensor of that name, or `None` where there is none. `Unsupported` where its element type is not a
    /// [`DType`].
    fn get(&self, name: &str) -> Result<Option<Tensor>>;
    /// Whether a tensor of that name is there, of whatever element type.
    fn contains(&self, name: &str) -> bool;
    /// Every name, in no particular order.
    fn names(&self) -> Vec<&str>;
    /// The name with the file that holds it in front, for messages.
    fn place(&self, name: &str) -> String;
}

/// A weight matrix `[rows, cols]` = `[outputs, inputs]` as stored.
#[derive(Clone, Debug)]
pub struct Matrix {
    /// Outputs.
    pub rows: usize,
    /// Inputs.
    pub cols: usize,
    /// How the elements are stored.
    pub storage: Storage,
}

/// How a matrix's elements are stored.
#[derive(Clone, Debug)]
pub enum Storage {
    /// F32, F16 or BF16 elements, row-major.
    Dense(Tensor),
    /// MLX's affine layout.
    Affine(Affine),
}

/// MLX's affine quantisation: along each row, every `group` consecutive inputs share a scale and a bias, and
/// `w[r][c] = scales[r][c / group] * q[r][c] + biases[r][c / group]` with `q` unsigned, `bits` wide.
///
/// `q` is packed little-endian into a bit stream of `cols * bits` bits a row, stored as `u32` words
/// (`[rows, cols * bits / 32]`): element `c` occupies bits `c * bits ..` of its row's stream. For 2, 4 and 8 bits
/// no element crosses a word; for 3, 5 and 6 bits elements may straddle bytes (3 bits: 8 elements in 3 bytes;
/// 5 bits: 8 in 5; 6 bits: 4 in 3). Source: `mlx/ops.cpp`, `quantize`.
#[derive(Clone, Debug)]
pub struct Affine {
    /// 2, 3, 4, 5, 6 or 8.
    pub bits: u32,
    /// 32, 64 or 128; divides `cols`.
    pub group: usize,
    /// U32 `[rows, cols * bits / 32]`.
    pub weight: Tensor,
    /// F32, F16 or BF16 `[rows, cols / group]`.
    pub scales: Tensor,
    /// Same dtype and shape as `scales`.
    pub biases: Tensor,
}

impl Tensor {
    /// The elements as `f32`, converted; for norms, biases and tests. Fails for packed dtypes.
    pub fn to_f32(&self) -> Result<Vec<f32>> {
        let bytes = self.bytes.as_slice();
        Ok(match self.dtype {
            DType::F32 => bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
            DType::F16 => bytes.chunks_exact(2).map(|b| half::f16::from_le_bytes([b[0], b[1]]).to_f32()).collect(),
            DType::BF16 => bytes.chunks_exact(2).map(|b| half::bf16::from_le_bytes([b[0], b[1]]).to_f32()).collect(),
            other => fail!(Format, "{}: {other:?} elements are not numbers", self.name),
        })
    }
}
