//! The tests' oracle of the matrix products: `f64`, bit by bit, nothing shared with what it judges.

use crate::engine::weights::{self, DType, Storage, Tensor};

/// Element `index` of a tensor of numbers.
fn number(tensor: &Tensor, index: usize) -> f64 {
    let bytes = tensor.bytes.as_slice();
    match tensor.dtype {
        DType::F32 => f32::from_le_bytes(bytes[4 * index..4 * index + 4].try_into().unwrap()).into(),
        DType::F16 => half::f16::from_le_bytes(bytes[2 * index..2 * index + 2].try_into().unwrap()).to_f64(),
        DType::BF16 => half::bf16::from_le_bytes(bytes[2 * index..2 * index + 2].try_into().unwrap()).to_f64(),
        other => panic!("{other:?}"),
    }
}

/// All of `matrix`, dequantised.
pub fn weights(matrix: &weights::Matrix) -> Vec<f64> {
    let (rows, cols) = (matrix.rows, matrix.cols);
    match &matrix.storage {
        Storage::Dense(tensor) => (0..rows * cols).map(|i| number(tensor, i)).collect(),
        Storage::Affine(affine) => {
            let stream = affine.weight.bytes.as_slice();
            let row_bytes = cols * affine.bits as usize / 8;
            let element = |row: usize, col: usize| {
                (0..affine.bits as usize).fold(0u32, |q, i| {
                    let bit = col * affine.bits as usize + i;
                    q | u32::from(stream[row * row_bytes + bit / 8] >> (bit % 8) & 1) << i
                })
            };
            let at = |i: usize| {
                let (row, col) = (i / cols, i % cols);
                let group = row * (cols / affine.group) + col / affine.group;
                number(&affine.scales, group) * f64::from(element(row, col)) + number(&affine.biases, group)
            };
            (0..rows * cols).map(at).collect()
        }
    }
}

/// `x Wᵀ`, with `Σ |x w|` beside each element: what rounding errors are measured against.
pub fn product(x: &[f32], w: &[f64], cols: usize) -> Vec<(f64, f64)> {
    let dot = |x: &[f32], w: &[f64]| {
        x.iter().zip(w).fold((0.0, 0.0), |(sum, size), (x, w)| {
            let term = f64::from(*x) * w;
            (sum + term, size + term.abs())
        })
    };
    x.chunks_exact(cols).flat_map(|x| w.chunks_exact(cols).map(move |w| dot(x, w))).collect()
}
