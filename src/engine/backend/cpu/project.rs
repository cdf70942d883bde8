//! `y = x Wᵀ + bias` for one input and several matrices: one packing, one fork, one join.
//!
//! The outputs of all matrices are cut into units of whole panels; threads claim units until none is left. A unit is
//! computed chunk by chunk along the columns: unpack sixteen rows of weights side by side into a panel that stays in
//! the first-level cache, multiply it with every block of activation rows, carry the accumulators on. With few rows
//! the chunks are as short as cache lines and the unpacking keeps pace with memory; with many the panel is used
//! again and again. An element's arithmetic is the same either way (see [`product`](super::kernels::product)).

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use crate::engine::error::{Result, fail};

use super::kernels::Isa;
use super::kernels::lanes::LANES;
use super::kernels::product::{Operands, Scales};
use super::kernels::table::Table;
use super::matrix::{Layout, Matrix, Strided};
use super::pack::{Format, Packed, pack};
use super::scratch::{Scratch, Worker};
use super::team::Team;

/// Who computes, and how.
pub struct Context<'a> {
    /// The threads.
    pub team: &'a Team,
    /// The kernels; must be available ([`Isa::is_available`]).
    pub isa: Isa,
    /// Keep activations in `f32` and multiply with the dequantised weights in `f32`, instead of 8-bit dot products
    /// and the BF16 unit.
    pub exact: bool,
}

/// Up to this many rows memory is the limit: panels are short, so that loading never pauses for long.
const FEW_ROWS: usize = 16;
/// Bytes of a panel with few rows, and with many.
const PANEL_BYTES: [usize; 2] = [2 * 1024, 16 * 1024];
/// Groups whose scales are transposed together: 16-bit scales of 32 groups fill a cache line.
const SCALE_GROUPS: usize = 32;
/// Rows whose accumulators a thread keeps at a time.
const MAX_ROWS: usize = 512;
/// Stored bytes a unit should have, for its first loads (which nobody prefetched) not to count.
const UNIT_BYTES: usize = 64 * 1024;

/// For each `(matrix, bias)` of `to`, `out[i] = x · matrixᵀ + bias`: `x` is `[rows, cols]`, `out[i]`
/// `[rows, matrix.rows()]`, all row-major. All matrices have the same `cols`.
///
/// On the same instruction set an output element depends only on its row of `x` and its row of weights, bit for bit:
/// not on `rows`, the team or the other matrices.
pub fn project(
    cx: &Context,
    x: &[f32],
    rows: usize,
    to: &[(&Matrix, Option<&[f32]>)],
    out: &mut [&mut [f32]],
    scratch: &mut Scratch,
) -> Result<()> {
    let Some(cols) = to.first().map(|(matrix, _)| matrix.cols()) else { return Ok(()) };
    if out.len() != to.len() || x.len() != rows * cols {
        fail!(Internal, "project: {} outputs for {} matrices, {} inputs for {rows} rows", out.len(), to.len(), x.len())
    }
    for ((matrix, bias), out) in to.iter().zip(out.iter()) {
        let fits = matrix.cols() == cols && out.len() == rows * matrix.rows();
        if !fits || bias.is_some_and(|bias| bias.len() != matrix.rows()) {
            let (m, k) = (matrix.rows(), matrix.cols());
            fail!(Internal, "project: a matrix of {m} by {k} for {cols} inputs and {} outputs", out.len())
        }
    }
    if !cx.isa.is_available() {
        fail!(Unsupported, "this processor does not have {}", cx.isa.name())
    }
    if rows == 0 {
        return Ok(());
    }
    let table = Table::of(cx.isa);

    let mut formats: Vec<Format> = Vec::with_capacity(to.len());
    let mut parts = Vec::with_capacity(to.len());
    for ((matrix, bias), out) in to.iter().zip(out.iter_mut()) {
        let format = Format::of(matrix, table, cx.exact);
        let index = formats.iter().position(|f| *f == format).unwrap_or_else(|| {
            formats.push(format);
            formats.len() - 1
        });
        parts.push((*matrix, *bias, Output(out.as_mut_ptr()), index));
    }
    for (index, format) in formats.iter().enumerate() {
        pack(cx, table, x, cols, *format, scratch, index)?;
    }
    let few = usize::from(rows > FEW_ROWS);
    scratch.workers(cx.team.threads(), |worker| grow(worker, table, rows, PANEL_BYTES[few]))?;
    scratch.account()?;

    let wanted = 4 * cx.team.threads();
    let parts: Vec<Part> = parts
        .into_iter()
        .map(|(matrix, bias, out, index)| {
            let packed = &scratch.packed[index];
            Part::new(table, matrix, bias, out, packed, PANEL_BYTES[few], wanted)
        })
        .collect();
    let units: usize = parts.iter().map(Part::units).sum();
    let find = |mut unit: usize| {
        parts.iter().find_map(|part| {
            let here = (unit < part.units()).then(|| part.unit(unit));
            unit = unit.wrapping_sub(part.units());
            here
        })
    };
    let next = AtomicUsize::new(0);
    let workers = &scratch.workers;
    cx.team.run_on(cx.team.threads().min(units), &|_, worker| {
        // SAFETY: the team gives each of its threads its own number.
        let scratch = unsafe { workers[worker].get() };
        let mut unit = find(next.fetch_add(1, Relaxed));
        while let Some(now) = unit {
            // Claimed before the current unit is computed, so that its weights can be on their way by its end.
            unit = find(next.fetch_add(1, Relaxed));
            // SAFETY: the instruction set is there; units are disjoint parts of the outputs.
            unsafe { now.compute(unit.as_ref(), scratch) };
        }
    });
    Ok(())
}

/// Makes a worker's buffers large enough for any part of this call.
fn grow(worker: &mut Worker, table: &Table, rows: usize, panel_bytes: usize) -> Result<()> {
    let panels = table.panels();
    // A group of 128 is the least step: 32 words of bytes, 128 of floats.
    worker.panel.ensure(panels * panel_bytes.max(128 * LANES * 4))?;
    worker.bytes.ensure(panel_bytes.max(32 * LANES * 4))?;
    worker.scales.ensure(2 * panels * SCALE_GROUPS * LANES * 4)?;
    worker.acc.ensure(rows.min(MAX_ROWS + table.rows) * panels * LANES * 4)
}

/// Where an output is written: `[rows, matrix.rows()]`.
#[derive(Clone, Copy)]
struct Output(*mut f32);
// SAFETY: threads write disjoint units of it.
unsafe impl Sync for Output {}
// SAFETY: as above.
unsafe impl Send for Output {}

/// One matrix of the call.
struct Part<'a> {
    table: &'static Table,
    matrix: &'a Matrix,
    bias: Option<&'a [f32]>,
    out: Output,
    packed: &'a Packed,
    /// Bytes a panel may take.
    panel_bytes: usize,
    /// Outputs of a unit: whole tiles of panels.
    unit_outputs: usize,
    /// Blocks of a unit.
    unit_blocks: usize,
}

/// Some outputs of one matrix for some blocks of rows.
struct Unit<'a> {
    part: &'a Part<'a>,
    outputs: Range<usize>,
    blocks: Range<usize>,
}

impl<'a> Part<'a> {
    fn new(
        table: &'static Table,
        matrix: &'a Matrix,
        bias: Option<&'a [f32]>,
        out: Output,
        packed: &'a Packed,
        panel_bytes: usize,
        wanted: usize,
    ) -> Self {
        let tile = table.panels() * LANES;
        let tiles = matrix.rows().div_ceil(tile);
        let tile_bytes = matrix.bytes() / tiles;
        let unit_tiles = (UNIT_BYTES / tile_bytes.max(1)).min(tiles / wanted).max(1);
        let blocks = packed.blocks.count();
        // Many rows or few tiles: rows are shared out too.
        let row_parts = blocks.div_ceil(MAX_ROWS / table.rows).max((wanted / tiles).min(blocks));
        let unit_blocks = blocks.div_ceil(row_parts);
        Self { table, matrix, bias, out, packed, panel_bytes, unit_outputs: unit_tiles * tile, unit_blocks }
    }

    fn row_parts(&self) -> usize {
        self.packed.blocks.count().div_ceil(self.unit_blocks)
    }

    fn units(&self) -> usize {
        self.matrix.rows().div_ceil(self.unit_outputs) * self.row_parts()
    }

    fn unit(&'a self, index: usize) -> Unit<'a> {
        let (outputs, blocks) =
            (index / self.row_parts() * self.unit_outputs, index % self.row_parts() * self.unit_blocks);
        Unit {
            part: self,
            outputs: outputs..(outputs + self.unit_outputs).min(self.matrix.rows()),
            blocks: blocks..(blocks + self.unit_blocks).min(self.packed.blocks.count()),
        }
    }
}

/// One tile of panels being computed: sixteen or thirty-two outputs.
struct Tile<'a> {
    part: &'a Part<'a>,
    first: usize,
    /// Panels: 1 at a matrix's end, else the table's.
    panels: usize,
    /// First output of the tile after this, where it is in the same matrix.
    next: Option<usize>,
    blocks: Range<usize>,
}

impl Unit<'_> {
    /// Computes all of it. `following` is what this thread will do next.
    ///
    /// # Safety
    /// The table's instruction set must be there, and nobody else may touch these outputs.
    unsafe fn compute(&self, following: Option<&Unit>, worker: &mut Worker) {
        let tile = self.part.table.panels() * LANES;
        let after = following.filter(|unit| std::ptr::eq(unit.part, self.part)).map(|unit| unit.outputs.start);
        for first in self.outputs.clone().step_by(tile) {
            let left = self.part.matrix.rows() - first;
            let next = if first + tile < self.outputs.end { Some(first + tile) } else { after };
            let panels = left.min(tile).div_ceil(LANES);
            // SAFETY: handed on.
            unsafe { Tile { part: self.part, first, panels, next, blocks: self.blocks.clone() }.compute(worker) };
        }
    }
}

impl Tile<'_> {
    unsafe fn compute(&self, worker: &mut Worker) {
        let blocks = &self.part.packed.blocks;
        let rows = blocks.start(self.blocks.end) - blocks.start(self.blocks.start);
        let acc = worker.acc.ptr_mut::<f32>();
        // SAFETY: the accumulators of this unit's rows and a full tile fit, see `grow`.
        unsafe { acc.write_bytes(0, rows * self.panels * LANES) };
        match &self.part.matrix.layout {
            // SAFETY: handed on, here and below.
            Layout::Affine { .. } => unsafe { self.affine(worker) },
            Layout::Dense { .. } => unsafe { self.dense(worker) },
        }
        // SAFETY: as above; the unit's part of the output is ours alone.
        unsafe { self.write(acc, rows) };
    }

    /// All columns of a quantised matrix, as bytes or, for exact arithmetic, as floats.
    unsafe fn affine(&self, worker: &mut Worker) {
        let Layout::Affine { bits, group, packed, scales, biases, float } = &self.part.matrix.layout else { return };
        let (table, cols) = (self.part.table, self.part.matrix.cols());
        let (groups, quads) = (cols / group, group / 4);
        let exact = matches!(self.part.packed.format, Format::Floats { .. });
        let weights = Strided::new(packed.as_slice(), cols / 8 * bits);
        let scale_rows = Strided::new(scales.as_slice(), groups * float.size());
        let bias_rows = Strided::new(biases.as_slice(), groups * float.size());
        let words_of_group = if exact { *group } else { quads };
        let step = (self.part.panel_bytes / (words_of_group * LANES * 4)).clamp(1, SCALE_GROUPS);
        let scale_stride = SCALE_GROUPS * LANES;
        let scales_at = worker.scales.ptr_mut::<f32>();
        let biases_at = scales_at.wrapping_add(self.panels * scale_stride);
        let panel = worker.panel.ptr_mut::<u32>();
        let panel_stride = step * words_of_group * LANES;
        let wide = usize::from(*bits == 8);

        for chunk in (0..groups).step_by(SCALE_GROUPS) {
            let chunk_groups = (groups - chunk).min(SCALE_GROUPS);
            for p in 0..self.panels {
                let skip = chunk * float.size();
                let (first, next) = self.panel(p);
                let floats = table.floats[*float as usize];
                // SAFETY: `chunk_groups` scales from `skip` on are inside the rows; a panel's share of the buffer
                // holds SCALE_GROUPS vectors.
                unsafe {
                    floats(&scale_rows.rows(first, next).skip(skip), chunk_groups, scales_at.add(p * scale_stride));
                    floats(&bias_rows.rows(first, next).skip(skip), chunk_groups, biases_at.add(p * scale_stride));
                }
            }
            for within in (0..chunk_groups).step_by(step) {
                let now = (chunk_groups - within).min(step);
                let at = chunk + within;
                for p in 0..self.panels {
                    let (first, next) = self.panel(p);
                    let rows = weights.rows(first, next).skip(at * group / 8 * bits);
                    let to = panel.wrapping_add(p * panel_stride);
                    let scale_at = p * scale_stride + within * LANES;
                    // SAFETY: `now` groups from `at` on are inside the rows; a panel holds `step` groups.
                    unsafe {
                        if exact {
                            let bytes = worker.bytes.ptr_mut::<u32>();
                            (table.bytes[*bits])(&rows, now * group, bytes);
                            let (scales, biases) = (scales_at.add(scale_at), biases_at.add(scale_at));
                            (table.dequantise)(bytes, now, quads, scales, biases, to.cast());
                        } else {
                            (table.bytes[*bits])(&rows, now * group, to);
                        }
                    }
                }
                for block in self.blocks.clone() {
                    let r = self.part.packed.blocks.len(block);
                    let operands = Operands {
                        panel,
                        panel_stride,
                        x: self.part.packed.words(block, at * words_of_group),
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
                                x: self.part.packed.scales(block, at),
                            };
                            table.dot_i8[wide][self.panels - 1][r - 1](&operands, &scales);
                        }
                    }
                }
            }
        }
    }

    /// All columns of a dense matrix, as bf16 pairs or as floats.
    unsafe fn dense(&self, worker: &mut Worker) {
        let Layout::Dense { numbers, float } = &self.part.matrix.layout else { return };
        let (table, cols) = (self.part.table, self.part.matrix.cols());
        let weights = Strided::new(numbers.as_slice(), cols * float.size());
        let halves = self.part.packed.format == Format::Halves;
        let step_words = self.part.panel_bytes / (LANES * 4);
        let step = if halves { 2 * step_words } else { step_words };
        let panel = worker.panel.ptr_mut::<u32>();
        let panel_stride = step_words * LANES;
        for at in (0..cols).step_by(step) {
            let now = (cols - at).min(step);
            for p in 0..self.panels {
                let (first, next) = self.panel(p);
                let rows = weights.rows(first, next).skip(at * float.size());
                let to = panel.wrapping_add(p * panel_stride);
                // SAFETY: `now` numbers from `at` on are inside the rows; a panel holds `step` of them.
                unsafe {
                    if halves {
                        (table.words)(&rows, now * 2, to);
                    } else {
                        (table.floats[*float as usize])(&rows, now, to.cast());
                    }
                }
            }
            for block in self.blocks.clone() {
                let r = self.part.packed.blocks.len(block);
                let format = self.part.packed.format;
                let operands = Operands {
                    panel,
                    panel_stride,
                    x: self.part.packed.words(block, format.steps(at)),
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

    /// First output of panel `p`, and of the panel that takes its place next.
    fn panel(&self, p: usize) -> (usize, Option<usize>) {
        (self.first + p * LANES, self.next.map(|next| next + p * LANES))
    }

    /// Accumulators of `block`.
    fn acc(&self, worker: &mut Worker, block: usize) -> *mut f32 {
        let blocks = &self.part.packed.blocks;
        let row = blocks.start(block) - blocks.start(self.blocks.start);
        worker.acc.ptr_mut::<f32>().wrapping_add(row * self.panels * LANES)
    }

    /// Adds the bias and puts the tile's accumulators in their places of the output.
    unsafe fn write(&self, acc: *const f32, rows: usize) {
        let outputs = self.part.matrix.rows();
        let width = (outputs - self.first).min(self.panels * LANES);
        let bias = self.part.bias.map(|bias| &bias[self.first..self.first + width]);
        let start = self.part.packed.blocks.start(self.blocks.start);
        for row in 0..rows {
            // SAFETY: accumulators and output have these rows and columns, says the caller.
            let (from, to) = unsafe {
                let to = self.part.out.0.add((start + row) * outputs + self.first);
                let from = acc.add(row * self.panels * LANES);
                (std::slice::from_raw_parts(from, width), std::slice::from_raw_parts_mut(to, width))
            };
            match bias {
                None => to.copy_from_slice(from),
                Some(bias) => to.iter_mut().zip(from).zip(bias).for_each(|((to, from), bias)| *to = from + bias),
            }
        }
    }
}

#[cfg(test)]
mod tests;
