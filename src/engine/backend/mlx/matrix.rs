//! A weight matrix on the device, in the layout it is stored in.

use std::cell::RefCell;
use std::rc::Rc;

use mlx_rs::{Array, Dtype, ops};

use super::array::{done, from_bytes, size, slice};
use crate::engine::error::{Result, fail};
use crate::engine::memory::{self, Kind, Reservation};
use crate::engine::weights::{self, DType, Storage, Tensor};

/// Rows from which on a GPU multiplies with the expanded matrix: MLX's quantised product reads the weights once for
/// every few rows, and its dense product is the vendor's.
const EXPAND_ROWS: usize = 9;

/// A weight matrix `[rows, cols]` = `[outputs, inputs]`: some rows of what lies together on the device.
#[derive(Debug)]
pub struct Matrix {
    first: usize,
    rows: usize,
    whole: Rc<Whole>,
}

/// What one product multiplies with.
#[derive(Debug)]
struct Whole {
    rows: usize,
    cols: usize,
    layout: Layout,
    /// Of quantised matrices: `[rows, cols]` in the backend's type, once many rows met it and memory allowed it.
    expanded: RefCell<Option<(Array, Reservation)>>,
    _active: Reservation,
}

#[derive(Debug)]
enum Layout {
    /// `[rows, cols]`.
    Dense(Array),
    /// See [`weights::Affine`]. Scales and biases are in the backend's type.
    Affine { bits: i32, group: i32, packed: Array, scales: Array, biases: Array },
}

impl Matrix {
    /// Brings `stored` to the device; real numbers become `dtype`.
    pub fn new(stored: &weights::Matrix, dtype: Dtype) -> Result<Self> {
        let (rows, cols) = (stored.rows, stored.cols);
        if rows == 0 || cols == 0 {
            fail!(Format, "a matrix of {rows} by {cols}")
        }
        let layout = match &stored.storage {
            Storage::Dense(tensor) => Layout::Dense(reals(tensor, rows, cols, dtype)?),
            Storage::Affine(affine) => {
                let name = &affine.weight.name;
                if !matches!(affine.bits, 2 | 3 | 4 | 5 | 6 | 8) || !matches!(affine.group, 32 | 64 | 128) {
                    fail!(Unsupported, "{name}: {} bits in groups of {}", affine.bits, affine.group)
                }
                if cols % affine.group != 0 {
                    fail!(Format, "{name}: {cols} inputs are not whole groups of {}", affine.group)
                }
                if affine.weight.dtype != DType::U32 {
                    fail!(Format, "{name}: packed weights are {:?}, not U32", affine.weight.dtype)
                }
                let words = cols / 32 * affine.bits as usize;
                let packed = from_bytes(affine.weight.bytes.as_slice(), &[rows, words], Dtype::Uint32, 4)
                    .map_err(|fault| fault.at(name))?;
                Layout::Affine {
                    bits: affine.bits as i32,
                    group: affine.group as i32,
                    packed,
                    scales: reals(&affine.scales, rows, cols / affine.group, dtype)?,
                    biases: reals(&affine.biases, rows, cols / affine.group, dtype)?,
                }
            }
        };
        Self::with(rows, cols, layout)
    }

    fn with(rows: usize, cols: usize, layout: Layout) -> Result<Self> {
        let parts = layout.parts();
        let bytes = parts.iter().map(|part| part.nbytes()).sum();
        let active = memory::reserve(bytes, Kind::Device, "weights")?;
        done(mlx_rs::transforms::eval(parts))?;
        let whole = Whole { rows, cols, layout, expanded: RefCell::default(), _active: active };
        Ok(Self { first: 0, rows, whole: Rc::new(whole) })
    }

    /// Lays matrices that always meet the same input one below the other, where they are stored alike, so that one
    /// product serves them all.
    pub fn join(parts: &mut [&mut Matrix]) -> Result<()> {
        let Some((first, others)) = parts.split_first() else { return Ok(()) };
        let alike = |other: &&mut Matrix| other.cols() == first.cols() && other.whole.layout.alike(&first.whole.layout);
        let whole = |part: &Matrix| part.rows == part.whole.rows;
        if others.is_empty() || !others.iter().all(alike) || !parts.iter().all(|part| whole(part)) {
            return Ok(());
        }
        let stack = |which: usize| {
            let arrays: Vec<&Array> = parts.iter().map(|part| part.whole.layout.parts()[which]).collect();
            done(ops::concatenate(&arrays, 0))
        };
        let layout = match &parts[0].whole.layout {
            Layout::Dense(_) => Layout::Dense(stack(0)?),
            Layout::Affine { bits, group, .. } => {
                Layout::Affine { bits: *bits, group: *group, packed: stack(0)?, scales: stack(1)?, biases: stack(2)? }
            }
        };
        let joint = Self::with(parts.iter().map(|part| part.rows).sum(), parts[0].cols(), layout)?;
        let mut first = 0;
        for part in parts {
            (part.first, part.whole) = (first, joint.whole.clone());
            first += part.rows;
        }
        Ok(())
    }

    /// Outputs.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Inputs.
    pub fn cols(&self) -> usize {
        self.whole.cols
    }

    /// `x Wᵀ` for each of `parts`, `x` of `rows` rows; one product where they lie together. On a GPU many rows meet
    /// the expanded matrix.
    pub fn multiply(parts: &[&Matrix], x: &Array, rows: usize, gpu: bool) -> Result<Vec<Array>> {
        let Some(y) = Self::multiply_joined(parts, x, rows, gpu)? else {
            return parts.iter().map(|part| part.own()?.whole.multiply(x, rows, gpu)).collect();
        };
        if parts.len() == 1 {
            return Ok(vec![y]);
        }
        let ends = parts[..parts.len() - 1].iter().map(|part| size(part.first + part.rows));
        done(y.split_at_indices(&ends.collect::<Result<Vec<_>>>()?, 1))
    }

    /// The products side by side in one array, `None` where the parts do not lie together.
    pub fn multiply_joined(parts: &[&Matrix], x: &Array, rows: usize, gpu: bool) -> Result<Option<Array>> {
        let mut next = 0;
        let together = parts.iter().all(|part| {
            let follows = part.first == next && Rc::ptr_eq(&part.whole, &parts[0].whole);
            next += part.rows;
            follows
        });
        if !together || next != parts[0].whole.rows {
            return Ok(None);
        }
        parts[0].whole.multiply(x, rows, gpu).map(Some)
    }

    /// This matrix alone.
    fn own(&self) -> Result<Self> {
        if self.rows == self.whole.rows {
            return Ok(Self { first: 0, rows: self.rows, whole: self.whole.clone() });
        }
        let (first, last) = (size(self.first)?, size(self.first + self.rows)?);
        let part = |array: &Array| slice(array, &[first, 0], &[last, array.dim(1)]);
        let layout = match &self.whole.layout {
            Layout::Dense(numbers) => Layout::Dense(part(numbers)?),
            Layout::Affine { bits, group, packed, scales, biases } => Layout::Affine {
                bits: *bits,
                group: *group,
                packed: part(packed)?,
                scales: part(scales)?,
                biases: part(biases)?,
            },
        };
        Self::with(self.rows, self.cols(), layout)
    }

    /// The named rows in real numbers.
    pub fn lookup(&self, rows: &Array) -> Result<Array> {
        self.own()?.whole.layout.numbers(Some(rows))
    }
}

impl Whole {
    fn multiply(&self, x: &Array, rows: usize, gpu: bool) -> Result<Array> {
        match &self.layout {
            Layout::Dense(numbers) => done(ops::matmul(x, done(numbers.transpose())?)),
            Layout::Affine { .. } if gpu && rows >= EXPAND_ROWS => {
                done(ops::matmul(x, done(self.expand()?.transpose())?))
            }
            Layout::Affine { bits, group, packed, scales, biases } => {
                done(ops::quantized_matmul(x, packed, scales, biases, true, *group, *bits))
            }
        }
    }

    /// All of it in real numbers: kept while the memory limit allows, else computed anew each time.
    fn expand(&self) -> Result<Array> {
        if let Some((expanded, _)) = &*self.expanded.borrow() {
            return Ok(expanded.clone());
        }
        let expanded = self.layout.numbers(None)?;
        if let Ok(active) = memory::reserve(expanded.nbytes(), Kind::Device, "expanded weights") {
            done(expanded.eval())?;
            *self.expanded.borrow_mut() = Some((expanded.clone(), active));
        }
        Ok(expanded)
    }
}

impl Layout {
    fn parts(&self) -> Vec<&Array> {
        match self {
            Layout::Dense(numbers) => vec![numbers],
            Layout::Affine { packed, scales, biases, .. } => vec![packed, scales, biases],
        }
    }

    /// Whether rows of both can lie in one array.
    fn alike(&self, other: &Layout) -> bool {
        match (self, other) {
            (Layout::Dense(_), Layout::Dense(_)) => true,
            (Layout::Affine { bits, group, .. }, Layout::Affine { bits: b, group: g, .. }) => (bits, group) == (b, g),
            _ => false,
        }
    }

    /// The named rows, or all, in real numbers.
    fn numbers(&self, rows: Option<&Array>) -> Result<Array> {
        let pick = |part: &Array| match rows {
            Some(rows) => done(part.take_axis(rows, 0)),
            None => Ok(part.clone()),
        };
        match self {
            Layout::Dense(numbers) => pick(numbers),
            Layout::Affine { bits, group, packed, scales, biases } => {
                done(ops::dequantize(pick(packed)?, pick(scales)?, &pick(biases)?, *group, *bits))
            }
        }
    }
}

/// A tensor of real numbers as `dtype`.
fn reals(tensor: &Tensor, rows: usize, cols: usize, dtype: Dtype) -> Result<Array> {
    let stored = match tensor.dtype {
        DType::F32 => Dtype::Float32,
        DType::F16 => Dtype::Float16,
        DType::BF16 => Dtype::Bfloat16,
        other => fail!(Format, "{}: {other:?} where real numbers belong", tensor.name),
    };
    let array = from_bytes(tensor.bytes.as_slice(), &[rows, cols], stored, tensor.dtype.size())
        .map_err(|fault| fault.at(&tensor.name))?;
    if stored == dtype { Ok(array) } else { done(array.as_dtype(dtype)) }
}
