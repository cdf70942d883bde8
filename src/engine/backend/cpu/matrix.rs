//! A weight matrix in use: the stored bytes where the checkpoint has them, and how to read them.

use crate::engine::error::{Result, fail};
use crate::engine::weights::{self, Bytes, DType, Storage, Tensor};

use super::kernels::unpack::Float;

/// A weight matrix `[rows, cols]` = `[outputs, inputs]`. Nothing is copied, converted or rearranged.
#[derive(Debug)]
pub struct Matrix {
    rows: usize,
    cols: usize,
    pub(super) layout: Layout,
}

/// How the elements lie.
#[derive(Debug)]
pub(super) enum Layout {
    Dense {
        numbers: Bytes,
        float: Float,
    },
    /// See [`weights::Affine`].
    Affine {
        bits: usize,
        group: usize,
        packed: Bytes,
        scales: Bytes,
        biases: Bytes,
        /// Of scales and biases.
        float: Float,
    },
}

impl Matrix {
    /// Takes `stored` into use. Fails where its parts do not have the sizes and types that its layout says.
    pub fn new(stored: &weights::Matrix) -> Result<Self> {
        let (rows, cols) = (stored.rows, stored.cols);
        let layout = match &stored.storage {
            Storage::Dense(tensor) => {
                let float = float_of(tensor)?;
                sized(tensor, rows, cols, float.size())?;
                Layout::Dense { numbers: tensor.bytes.clone(), float }
            }
            Storage::Affine(affine) => {
                let name = &affine.weight.name;
                if !matches!(affine.bits, 2 | 3 | 4 | 5 | 6 | 8) {
                    fail!(Unsupported, "{name}: {} bits a weight; 2, 3, 4, 5, 6 and 8 are known", affine.bits)
                }
                if !matches!(affine.group, 32 | 64 | 128) {
                    fail!(Unsupported, "{name}: groups of {}; 32, 64 and 128 are known", affine.group)
                }
                if cols % affine.group != 0 {
                    fail!(Format, "{name}: {cols} inputs are not whole groups of {}", affine.group)
                }
                if affine.weight.dtype != DType::U32 {
                    fail!(Format, "{name}: packed weights are {:?}, not U32", affine.weight.dtype)
                }
                let bits = affine.bits as usize;
                // A multiple of 32 columns: whole words.
                sized(&affine.weight, rows, cols / 32 * bits, 4)?;
                let float = float_of(&affine.scales)?;
                sized(&affine.scales, rows, cols / affine.group, float.size())?;
                if affine.biases.dtype != affine.scales.dtype {
                    let (biases, scales) = (&affine.biases, &affine.scales);
                    fail!(Format, "{}: {:?}, but its scales are {:?}", biases.name, biases.dtype, scales.dtype)
                }
                sized(&affine.biases, rows, cols / affine.group, float.size())?;
                Layout::Affine {
                    bits,
                    group: affine.group,
                    packed: affine.weight.bytes.clone(),
                    scales: affine.scales.bytes.clone(),
                    biases: affine.biases.bytes.clone(),
                    float,
                }
            }
        };
        if rows == 0 || cols == 0 {
            fail!(Format, "a matrix of {rows} by {cols}")
        }
        Ok(Self { rows, cols, layout })
    }

    /// Outputs.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Inputs.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Rows `rows`, dequantised and times `scale`, one after the other into `out` (`[rows.len(), cols]`). Fails for
    /// a row that is not there.
    pub fn decode_rows(&self, rows: &[u32], scale: f32, out: &mut [f32]) -> Result<()> {
        if out.len() != rows.len() * self.cols {
            fail!(Internal, "decode_rows: room for {} numbers, not {} rows of {}", out.len(), rows.len(), self.cols)
        }
        for (row, out) in rows.iter().zip(out.chunks_exact_mut(self.cols)) {
            if *row as usize >= self.rows {
                fail!(Argument, "row {row} of a matrix of {} rows", self.rows)
            }
            self.decode_row(*row as usize, out);
            if scale != 1.0 {
                out.iter_mut().for_each(|v| *v *= scale);
            }
        }
        Ok(())
    }

    fn decode_row(&self, row: usize, out: &mut [f32]) {
        match &self.layout {
            Layout::Dense { numbers, float } => {
                let bytes = self.cols * float.size();
                floats(&numbers.as_slice()[row * bytes..][..bytes], *float, out);
            }
            Layout::Affine { bits, group, packed, scales, biases, float } => {
                let groups = self.cols / group;
                let at = row * groups * float.size()..(row + 1) * groups * float.size();
                let (scales, biases) = (&scales.as_slice()[at.clone()], &biases.as_slice()[at]);
                let row_bytes = self.cols / 8 * bits;
                let packed = &packed.as_slice()[row * row_bytes..][..row_bytes];
                let of_group = out.chunks_exact_mut(*group).zip(packed.chunks_exact(group / 8 * bits));
                for (g, (out, packed)) in of_group.enumerate() {
                    let at = g * float.size()..(g + 1) * float.size();
                    let (mut scale, mut bias) = ([0.0], [0.0]);
                    floats(&scales[at.clone()], *float, &mut scale);
                    floats(&biases[at], *float, &mut bias);
                    // Eight elements are `bits` whole bytes.
                    for (out, packed) in out.chunks_exact_mut(8).zip(packed.chunks_exact(*bits)) {
                        let mut word = [0; 8];
                        word[..*bits].copy_from_slice(packed);
                        let mut word = u64::from_le_bytes(word);
                        for out in out {
                            let q = word & ((1 << bits) - 1);
                            word >>= bits;
                            *out = scale[0] * q as f32 + bias[0];
                        }
                    }
                }
            }
        }
    }

    /// Bytes that a pass over all of it reads.
    pub fn bytes(&self) -> usize {
        match &self.layout {
            Layout::Dense { numbers, .. } => numbers.as_slice().len(),
            Layout::Affine { packed, scales, biases, .. } => {
                packed.as_slice().len() + scales.as_slice().len() + biases.as_slice().len()
            }
        }
    }
}

/// Little-endian numbers to `f32`.
fn floats(bytes: &[u8], float: Float, out: &mut [f32]) {
    let halves = bytes.chunks_exact(2).map(|b| u16::from_le_bytes([b[0], b[1]]));
    match float {
        Float::F32 => {
            for (out, b) in out.iter_mut().zip(bytes.chunks_exact(4)) {
                *out = f32::from_le_bytes([b[0], b[1], b[2], b[3]]);
            }
        }
        Float::F16 => out.iter_mut().zip(halves).for_each(|(out, h)| *out = half::f16::from_bits(h).to_f32()),
        Float::BF16 => out.iter_mut().zip(halves).for_each(|(out, h)| *out = f32::from_bits(u32::from(h) << 16)),
    }
}

fn float_of(tensor: &Tensor) -> Result<Float> {
    Ok(match tensor.dtype {
        DType::F32 => Float::F32,
        DType::F16 => Float::F16,
        DType::BF16 => Float::BF16,
        other => fail!(Format, "{}: {other:?} where real numbers belong", tensor.name),
    })
}

fn sized(tensor: &Tensor, rows: usize, cols: usize, size: usize) -> Result<()> {
    let bytes = rows.checked_mul(cols).and_then(|n| n.checked_mul(size));
    if bytes != Some(tensor.bytes.as_slice().len()) {
        let have = tensor.bytes.as_slice().len();
        fail!(Format, "{}: {have} bytes do not make {rows} rows of {cols} elements of {size} bytes", tensor.name)
    }
    Ok(())
}
