//! Finding a weight matrix by name, dense or in MLX's affine layout, and the layout's definition in plain code.

use super::{Affine, DType, Matrix, QuantBlock, QuantParams, Storage, Tensor, TensorSource};
use crate::engine::error::{Result, fail};

/// The matrix `[rows, cols]` whose tensors are called `{base}.weight` and, where it is quantised, `{base}.scales` and
/// `{base}.biases`; or `None` where there is no `{base}.weight`.
///
/// A matrix is quantised exactly where scales stand beside it. Bits and group follow from the shapes, and `block`
/// must not say otherwise. `Format` names the tensor and both values; `Unsupported` names a mode other than affine.
pub fn matrix(
    source: &dyn TensorSource,
    base: &str,
    rows: usize,
    cols: usize,
    block: Option<&QuantBlock>,
) -> Result<Option<Matrix>> {
    let name = format!("{base}.weight");
    if !source.contains(&name) {
        return Ok(None);
    }
    let scales_name = format!("{base}.scales");
    let scaled = source.contains(&scales_name);
    let promised = block.and_then(|block| block.of(base));
    if let Some(params) = promised.filter(|params| scaled && params.mode != "affine") {
        fail!(Unsupported, "{}: quantisation mode {}", source.place(&name), params.mode)
    }
    let Some(weight) = source.get(&name)? else { return Ok(None) };
    if !scaled {
        return dense(source, weight, rows, cols).map(Some);
    }
    if block.is_some_and(|block| block.of(base).is_none()) {
        fail!(Format, "{}: present, but the quantization block says {base}: false", source.place(&scales_name))
    }
    let Some(scales) = source.get(&scales_name)? else { return Ok(None) };
    let biases_name = format!("{base}.biases");
    let Some(biases) = source.get(&biases_name)? else {
        if scales.dtype == DType::U8 {
            fail!(Unsupported, "{}: U8 scales: a microscaling mode", source.place(&scales_name))
        }
        fail!(Format, "{}: absent beside its scales", source.place(&biases_name))
    };
    let affine = affine(source, weight, scales, biases, rows, cols, promised)?;
    Ok(Some(Matrix { rows, cols, storage: Storage::Affine(affine) }))
}

fn dense(source: &dyn TensorSource, weight: Tensor, rows: usize, cols: usize) -> Result<Matrix> {
    if weight.dtype == DType::U32 {
        fail!(Format, "{}: packed (U32), but no scales stand beside it", source.place(&weight.name))
    }
    if !weight.dtype.is_float() {
        fail!(Format, "{}: dtype {:?}, expected F32, F16 or BF16", source.place(&weight.name), weight.dtype)
    }
    expect_shape(source, &weight, &[rows, cols])?;
    Ok(Matrix { rows, cols, storage: Storage::Dense(weight) })
}

fn affine(
    source: &dyn TensorSource,
    weight: Tensor,
    scales: Tensor,
    biases: Tensor,
    rows: usize,
    cols: usize,
    promised: Option<&QuantParams>,
) -> Result<Affine> {
    if weight.dtype != DType::U32 {
        fail!(Format, "{}: dtype {:?}, expected U32 beside scales", source.place(&weight.name), weight.dtype)
    }
    for tensor in [&scales, &biases] {
        if !tensor.dtype.is_float() {
            fail!(Format, "{}: dtype {:?}, expected F32, F16 or BF16", source.place(&tensor.name), tensor.dtype)
        }
    }
    if biases.dtype != scales.dtype {
        let place = source.place(&biases.name);
        fail!(Format, "{place}: dtype {:?}, but its scales are {:?}", biases.dtype, scales.dtype)
    }
    let (words, groups) = match (&weight.shape[..], &scales.shape[..]) {
        (&[a, words], &[b, groups]) if a == rows && b == rows => (words, groups),
        (&[a, _], _) if a == rows => {
            fail!(Format, "{}: shape {:?}, expected [{rows}, groups]", source.place(&scales.name), scales.shape)
        }
        _ => fail!(Format, "{}: shape {:?}, expected [{rows}, words]", source.place(&weight.name), weight.shape),
    };
    let bits = words.checked_mul(32).filter(|bits| cols > 0 && bits % cols == 0).map_or(0, |bits| bits / cols);
    if !matches!(bits, 2 | 3 | 4 | 5 | 6 | 8) {
        let place = source.place(&weight.name);
        fail!(Format, "{place}: shape {:?} does not hold {cols} inputs of 2, 3, 4, 5, 6 or 8 bits", weight.shape)
    }
    let group = if groups > 0 && cols.is_multiple_of(groups) { cols / groups } else { 0 };
    if !matches!(group, 32 | 64 | 128) {
        let place = source.place(&scales.name);
        fail!(Format, "{place}: shape {:?} does not split {cols} inputs in groups of 32, 64 or 128", scales.shape)
    }
    expect_shape(source, &biases, &scales.shape)?;
    if let Some(params) = promised {
        if params.bits as usize != bits {
            let place = source.place(&weight.name);
            fail!(Format, "{place}: {bits} bits by its shape, but the quantization block says {}", params.bits)
        }
        if params.group != group {
            let place = source.place(&scales.name);
            fail!(Format, "{place}: groups of {group} by its shape, but the quantization block says {}", params.group)
        }
    }
    Ok(Affine { bits: bits as u32, group, weight, scales, biases })
}

/// `Format` unless `tensor` has exactly this shape.
pub fn expect_shape(source: &dyn TensorSource, tensor: &Tensor, expected: &[usize]) -> Result<()> {
    if tensor.shape != expected {
        fail!(Format, "{}: shape {:?}, expected {expected:?}", source.place(&tensor.name), tensor.shape)
    }
    Ok(())
}

/// `Format` naming the first element that is NaN or infinite. Reads every element once, as fast as memory delivers.
pub fn expect_finite(source: &dyn TensorSource, tensor: &Tensor) -> Result<()> {
    let bytes = tensor.bytes.as_slice();
    // An exponent of all ones is an infinity or NaN.
    let at = match tensor.dtype {
        DType::F32 => first_u32(bytes, 0x7f80_0000),
        DType::BF16 => first_u16(bytes, 0x7f80),
        DType::F16 => first_u16(bytes, 0x7c00),
        DType::U32 | DType::U8 => None,
    };
    let Some(at) = at else { return Ok(()) };
    let place = source.place(&tensor.name);
    fail!(Format, "{place}: element {at} of shape {:?} is not a finite number", tensor.shape)
}

/// Elements looked at before asking whether one of them matched; the inner loop has no branch and vectorises.
const BLOCK: usize = 1024;

fn first_u16(bytes: &[u8], exponent: u16) -> Option<usize> {
    let matches = |b: &[u8]| u16::from_le_bytes([b[0], b[1]]) & exponent == exponent;
    let mut blocks = bytes.chunks(2 * BLOCK).enumerate();
    let (number, block) =
        blocks.find(|(_, block)| block.chunks_exact(2).fold(false, |any, element| any | matches(element)))?;
    block.chunks_exact(2).position(matches).map(|at| number * BLOCK + at)
}

fn first_u32(bytes: &[u8], exponent: u32) -> Option<usize> {
    let matches = |b: &[u8]| u32::from_le_bytes([b[0], b[1], b[2], b[3]]) & exponent == exponent;
    let mut blocks = bytes.chunks(4 * BLOCK).enumerate();
    let (number, block) =
        blocks.find(|(_, block)| block.chunks_exact(4).fold(false, |any, element| any | matches(element)))?;
    block.chunks_exact(4).position(matches).map(|at| number * BLOCK + at)
}

/// The matrix as `f32`, row-major, by the layout's definition: for tests and paths where speed does not matter.
pub fn dequantise(matrix: &Affine) -> Result<Vec<f32>> {
    let (scales, biases) = (matrix.scales.to_f32()?, matrix.biases.to_f32()?);
    let bits = matrix.bits as usize;
    let rows = matrix.weight.shape.first().copied().unwrap_or(0);
    let row_bytes = matrix.weight.shape.get(1).map_or(0, |words| words * 4);
    let groups = matrix.scales.shape.get(1).copied().unwrap_or(0);
    let mut out = Vec::with_capacity(rows * groups * matrix.group);
    for (row, stream) in matrix.weight.bytes.as_slice().chunks_exact(row_bytes.max(1)).enumerate() {
        for column in 0..groups * matrix.group {
            let at = row * groups + column / matrix.group;
            out.push(scales[at] * element(stream, column * bits, bits) as f32 + biases[at]);
        }
    }
    Ok(out)
}

/// `bits` bits of a little-endian bit stream from bit `start`; at most 8, so they lie in two bytes.
fn element(stream: &[u8], start: usize, bits: usize) -> u32 {
    let low = stream[start / 8] as u32;
    let high = stream.get(start / 8 + 1).copied().unwrap_or(0) as u32;
    ((low | high << 8) >> (start % 8)) & ((1 << bits) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_straddle_bytes_as_the_bit_stream_says() {
        // 3 bits: values 0..8 packed little-endian are 24 bits: 0b111_110_101_100_011_010_001_000.
        let packed = 0b111_110_101_100_011_010_001_000u32.to_le_bytes();
        let values: Vec<u32> = (0..8).map(|at| element(&packed, at * 3, 3)).collect();
        assert_eq!(values, [0, 1, 2, 3, 4, 5, 6, 7]);
        let packed = (31u64 | 1 << 5 | 30 << 10 | 2 << 15 | 29 << 20 | 3 << 25 | 28 << 30 | 4 << 35).to_le_bytes();
        let values: Vec<u32> = (0..8).map(|at| element(&packed, at * 5, 5)).collect();
        assert_eq!(values, [31, 1, 30, 2, 29, 3, 28, 4]);
    }

    #[test]
    fn the_first_element_that_is_not_finite_is_found_wherever_it_stands() {
        for at in [0, 1, BLOCK - 1, BLOCK, 3 * BLOCK + 7] {
            let mut numbers = vec![half::bf16::from_f32(1e30); 4 * BLOCK];
            let bytes = |numbers: &[half::bf16]| numbers.iter().flat_map(|n| n.to_le_bytes()).collect::<Vec<u8>>();
            assert_eq!(first_u16(&bytes(&numbers), 0x7f80), None);
            numbers[at] = half::bf16::NAN;
            assert_eq!(first_u16(&bytes(&numbers), 0x7f80), Some(at));
            let mut numbers = vec![f32::MAX; 4 * BLOCK];
            numbers[at] = f32::NEG_INFINITY;
            let bytes: Vec<u8> = numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
            assert_eq!(first_u32(&bytes, 0x7f80_0000), Some(at));
        }
    }
}
