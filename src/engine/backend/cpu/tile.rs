//! Many rows: panels of weights in the first-level cache, multiplied with block after block of activations.
//!
//! A tile is sixteen or thirty-two outputs. It is computed chunk by chunk along the columns: sixteen rows of weights
//! are unpacked side by side into a panel, the panel is multiplied with every block of activation rows, and the
//! accumulators are carried on to the next chunk.

use std::ops::Range;

use super::kernels::lanes::{LANES, Strided, prefetch};
use super::kernels::product::{Operands, Scales};
use super::kernels::table::Table;
use super::matrix::{Layout, Matrix};
use super::pack::{Format, Packed};
use super::scratch::Worker;
use crate::engine::error::Result;

/// Rows whose accumulators a thread keeps at a time.
pub(super) const MAX_ROWS: usize = 512;
/// Bytes of a panel: the tile's panels and the blocks of activations beside them stay in the first-level cache.
const PANEL_BYTES: usize = 16 * 1024;

/// Groups whose scales are transposed together: 16-bit scales of 32 groups fill a cache line.
const SCALE_GROUPS: usize = 32;

/// Some outputs of one matrix for some blocks of rows.
pub(super) struct Tile<'a> {
    pub table: &'static Table,
    pub matrix: &'a Matrix,
    pub packed: &'a Packed,
    /// First output.
    pub first: usize,
    /// Panels: the table's, or fewer at the matrix's end.
    pub panels: usize,
    /// First output of the tile that this thread computes next.
    pub next: usize,
    pub blocks: Range<usize>,
}

/// Makes a worker's buffers large enough for any tile, but for its accumulators.
pub(super) fn grow(worker: &mut Worker, table: &Table) -> Result<()> {
    let panels = table.panels();
    // A group of 128 is the least step: 32 words of bytes, 128 of floats.
    worker.panel.ensure(panels * PANEL_BYTES.max(128 * LANES * 4))?;
    worker.bytes.ensure(PANEL_BYTES.max(32 * LANES * 4))?;
    worker.scales.ensure(2 * panels * SCALE_GROUPS * LANES * 4)
}

impl Tile<'_> {
    /// Computes the tile into the worker's accumulators: `[rows of the blocks][panels * 16]`.
    ///
    /// # Safety
    /// The table's instruction set must be there; `worker` must have [`grow`]n and have
    /// room for the accumulators.
    pub unsafe fn compute(&self, worker: &mut Worker) {
        let rows = self.blocks.len() * self.packed.blocks.size();
        // SAFETY: the caller made room for the accumulators of these rows and a full tile.
        unsafe { worker.acc.ptr_mut::<f32>().write_bytes(0, rows * self.panels * LANES) };
        match &self.matrix.layout {
            // SAFETY: handed on, here and below.
            Layout::Affine { .. } => unsafe { self.affine(worker) },
            Layout::Dense { .. } => unsafe { self.dense(worker) },
        }
    }

    /// All columns of a quantised matrix, as bytes or, for exact arithmetic, as floats.
    unsafe fn affine(&self, worker: &mut Worker) {
        let Layout::Affine { bits, group, packed, scales, biases, float } = &self.matrix.layout else { return };
        let (table, cols) = (self.table, self.matrix.cols());
        let (groups, quads, r) = (cols / group, group / 4, self.packed.blocks.size());
        let exact = matches!(self.packed.format, Format::Floats { .. });
        let weights = Strided::new(packed.as_slice(), cols / 8 * bits);
        let scale_rows = Strided::new(scales.as_slice(), groups * float.size());
        let bias_rows = Strided::new(biases.as_slice(), groups * float.size());
        let words_of_group = if exact { *group } else { quads };
        let step = (PANEL_BYTES / (words_of_group * LANES * 4)).clamp(1, SCALE_GROUPS);
        let scale_stride = SCALE_GROUPS * LANES;
        let scales_at = worker.scales.ptr_mut::<f32>();
        let biases_at = scales_at.wrapping_add(self.panels * scale_stride);
        let panel = worker.panel.ptr_mut::<u32>();
        let panel_stride = step * words_of_group * LANES;
        let floats = table.floats[*float as usize];

        for chunk in (0..groups).step_by(SCALE_GROUPS) {
            let chunk_groups = (groups - chunk).min(SCALE_GROUPS);
            for p in 0..self.panels {
                let skip = chunk * float.size();
                for (rows, at) in [(scale_rows, scales_at), (bias_rows, biases_at)] {
                    self.prefetch(rows, p, skip, chunk_groups * float.size());
                    // SAFETY: `chunk_groups` scales from `skip` on are inside the rows; a panel's share of the buffer
                    // holds SCALE_GROUPS vectors.
                    unsafe { floats(&rows.rows(self.output(p)), skip, chunk_groups, at.add(p * scale_stride)) };
                }
            }
            for within in (0..chunk_groups).step_by(step) {
                let now = (chunk_groups - within).min(step);
                let at = chunk + within;
                for p in 0..self.panels {
                    let rows = weights.rows(self.output(p));
                    let skip = at * group / 8 * bits;
                    self.prefetch(weights, p, skip, now * group / 8 * bits);
                    let to = panel.wrapping_add(p * panel_stride);
                    let scale_at = p * scale_stride + within * LANES;
                    // SAFETY: `now` groups from `at` on are inside the rows; a panel holds `step` groups.
                    unsafe {
                        if exact {
                            let bytes = worker.bytes.ptr_mut::<u32>();
                            (table.bytes[*bits])(&rows, skip, now * group, bytes);
                            let (scales, biases) = (scales_at.add(scale_at), biases_at.add(scale_at));
                            (table.dequantise)(bytes, now, quads, scales, biases, to.cast());
                        } else {
                            (table.bytes[*bits])(&rows, skip, now * group, to);
                        }
                    }
                }
                for block in self.blocks.clone() {
                    let operands = Operands {
                        panel,
                        panel_stride,
                        x: self.packed.words(block, at * words_of_group),
                        acc: self.acc(worker, block),
                        steps: now * words_of_group,
                    };
                    // SAFETY: the panels were just filled with `now` groups; the packed rows have as many from `at`
                    // on; the accumulators of the block are inside the buffer.
                    unsafe {
                        if exact {
                            table.dot_f32[self.panels - 1][r - 1](&operands);
                        } else {
                            let scales = Scales {
                                groups: now,
                                quads,
                                scales: scales_at.add(within * LANES),
                                biases: biases_at.add(within * LANES),
                                stride: scale_stride,
                                x: self.packed.scales(block, at),
                            };
                            table.dot_i8[usize::from(*bits == 8)][self.panels - 1][r - 1](&operands, &scales);
                        }
                    }
                }
            }
        }
    }

    /// All columns of a dense matrix, as bf16 pairs or as floats.
    unsafe fn dense(&self, worker: &mut Worker) {
        let Layout::Dense { numbers, float } = &self.matrix.layout else { return };
        let (table, cols, format) = (self.table, self.matrix.cols(), self.packed.format);
        let r = self.packed.blocks.size();
        let weights = Strided::new(numbers.as_slice(), cols * float.size());
        let halves = format == Format::Halves;
        let step_words = PANEL_BYTES / (LANES * 4);
        let step = if halves { 2 * step_words } else { step_words };
        let panel = worker.panel.ptr_mut::<u32>();
        let panel_stride = step_words * LANES;
        for at in (0..cols).step_by(step) {
            let now = (cols - at).min(step);
            for p in 0..self.panels {
                let rows = weights.rows(self.output(p));
                let (skip, bytes) = (at * float.size(), now * float.size());
                self.prefetch(weights, p, skip, bytes);
                let to = panel.wrapping_add(p * panel_stride);
                // SAFETY: `now` numbers from `at` on are inside the rows; a panel holds `step` of them.
                unsafe {
                    if halves {
                        (table.words)(&rows, skip, bytes, to);
                    } else {
                        (table.floats[*float as usize])(&rows, skip, now, to.cast());
                    }
                }
            }
            for block in self.blocks.clone() {
                let operands = Operands {
                    panel,
                    panel_stride,
                    x: self.packed.words(block, format.steps(at)),
                    acc: self.acc(worker, block),
                    steps: format.steps(now),
                };
                let dot = if halves { table.dot_bf16 } else { table.dot_f32 };
                // SAFETY: the panels were just filled with `now` columns; the packed rows have as many from `at` on
                // (`step` is even); the accumulators of the block are inside the buffer.
                unsafe { dot[self.panels - 1][r - 1](&operands) };
            }
        }
    }

    /// First output of panel `p`.
    fn output(&self, p: usize) -> usize {
        self.first + p * LANES
    }

    /// Asks for as much of the next tile's panel `p` as `bytes` of each row from `skip` on are, in the order in which
    /// it lies in memory.
    fn prefetch(&self, rows: Strided, p: usize, skip: usize, bytes: usize) {
        let from = rows.at(self.next + p * LANES).wrapping_add(skip * LANES);
        for at in (0..bytes * LANES).step_by(64) {
            prefetch(from.wrapping_add(at));
        }
    }

    /// Accumulators of `block`.
    fn acc(&self, worker: &mut Worker, block: usize) -> *mut f32 {
        let row = (block - self.blocks.start) * self.packed.blocks.size();
        worker.acc.ptr_mut::<f32>().wrapping_add(row * self.panels * LANES)
    }
}
