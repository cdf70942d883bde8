//! `y = x Wᵀ + bias` for one input and several matrices: one packing, one fork, one join.
//!
//! The outputs of all matrices are cut into units of whole panels; threads claim units until none is left. A unit is
//! computed chunk by chunk along the columns: unpack sixteen rows of weights side by side into a panel that stays in
//! the first-level cache, multiply it with every block of activation rows, carry the accumulators on. With few rows
//! the chunks are as short as cache lines and the unpacking keeps pace with memory; with many the panel is used
//! again and again. An element's arithmetic is the same either way (see [`product`](super::kernels::product)).

use std::ops::Range;

use crate::engine::error::{Result, fail};

use super::kernels::Isa;
use super::kernels::lanes::{LANES, Strided};
use super::kernels::stream::{Groups, Stream};
use super::kernels::table::{StreamBf16, StreamI8, Table};
use super::matrix::{Layout, Matrix};
use super::pack::{Blocks, Format, Packed, pack};
use super::scratch::{Scratch, Worker};
use super::team::Team;
use super::tile::{self, Tile};

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

/// Matrices that one call takes.
pub const MAX_MATRICES: usize = 8;
/// Stored bytes a unit should have, for its first loads (which nobody prefetched) not to count.
const UNIT_BYTES: usize = 128 * 1024;

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
    if to.len() > MAX_MATRICES || out.len() != to.len() || x.len() != rows * cols {
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
    let threads = cx.team.threads();
    // Not options: optimised code looks into those past the last one, harmlessly, but not for valgrind.
    let plan = |matrix| Plan::new(table, matrix, rows, cx.exact, threads);
    let mut plans = [plan(to[0].0); MAX_MATRICES];
    for (slot, (matrix, _)) in plans.iter_mut().zip(to).skip(1) {
        *slot = plan(matrix);
    }
    let plans = &plans[..to.len()];
    let mut indices = [0; MAX_MATRICES];
    let mut formats = 0;
    for (i, plan) in plans.iter().enumerate() {
        let same = plans[..i].iter().position(|earlier| earlier.format == plan.format);
        indices[i] = same.map_or(formats, |same| indices[same]);
        if same.is_none() {
            pack(cx, table, x, cols, plan.format, scratch, formats)?;
            formats += 1;
        }
    }
    scratch.workers(threads, |worker| {
        tile::grow(worker, table)?;
        plans.iter().try_for_each(|plan| worker.acc.ensure(plan.acc_bytes()))
    })?;
    scratch.account()?;

    let parts: [Option<Part>; MAX_MATRICES] = std::array::from_fn(|i| {
        let ((matrix, bias), plan) = (to.get(i)?, plans.get(i)?);
        let out = Output(out[i].as_mut_ptr());
        Some(Part { table, matrix, bias: *bias, out, packed: &scratch.packed[indices[i]], plan })
    });
    let units: usize = parts.iter().flatten().map(Part::units).sum();
    let find = |mut unit: usize| {
        parts.iter().flatten().find_map(|part| {
            let here = (unit < part.units()).then(|| part.unit(unit));
            unit = unit.wrapping_sub(part.units());
            here
        })
    };
    let (workers, shares) = (&scratch.workers, &scratch.shares);
    shares.deal(units);
    cx.team.run_on(threads.min(units), &|_, worker| {
        // SAFETY: the team gives each of its threads its own number.
        let scratch = unsafe { workers[worker].get() };
        let mut unit = shares.claim(worker).and_then(find);
        while let Some(now) = unit {
            // Claimed before the current unit is computed, so that its weights can be on their way by its end.
            unit = shares.claim(worker).and_then(find);
            // SAFETY: the instruction set is there; units are disjoint parts of the outputs.
            unsafe { now.compute(unit.as_ref(), scratch) };
        }
    });
    Ok(())
}

/// Where an output is written: `[rows, matrix.rows()]`.
#[derive(Clone, Copy)]
struct Output(*mut f32);
// SAFETY: threads write disjoint units of it.
unsafe impl Sync for Output {}
// SAFETY: as above.
unsafe impl Send for Output {}

/// Which loops a matrix goes through.
#[derive(Clone, Copy)]
enum Route {
    /// Few rows of bytes, panel by panel.
    StreamI8(StreamI8),
    /// Few rows of bf16, panel by panel.
    StreamBf16(StreamBf16),
    /// Tiles of `panels`: see [`tile`].
    Tiles { panels: usize },
}

/// How one matrix of the call is computed.
#[derive(Clone, Copy)]
struct Plan {
    format: Format,
    route: Route,
    /// Outputs of a unit: whole tiles.
    unit_outputs: usize,
    /// Blocks of rows of a unit.
    unit_blocks: usize,
    /// Rows of a block.
    block_rows: usize,
}

impl Plan {
    fn new(table: &Table, matrix: &Matrix, rows: usize, exact: bool, threads: usize) -> Self {
        let format = Format::of(matrix, table, exact);
        let blocks = Blocks::of(rows, format, table);
        let few = format.streams(rows, table);
        let streamed = table.stream_rows.iter().position(|size| few && *size == blocks.size());
        let route = match (&matrix.layout, format, streamed) {
            (Layout::Affine { bits, .. }, Format::Bytes { .. }, Some(size)) => {
                Route::StreamI8(table.stream_i8[*bits][size])
            }
            (_, Format::Halves, Some(size)) => Route::StreamBf16(table.stream_bf16[size]),
            _ => Route::Tiles { panels: table.panels() },
        };
        let panels = if let Route::Tiles { panels } = route { panels } else { 1 };
        let tiles = matrix.rows().div_ceil(panels * LANES);
        // Enough units for threads to even out their shares.
        let wanted = 4 * threads;
        let unit_tiles = (UNIT_BYTES / (matrix.bytes() / tiles).max(1)).min(tiles / wanted).max(1);
        let unit_blocks = if few {
            blocks.count()
        } else {
            // Many rows or few tiles: rows are shared out too.
            let row_parts = blocks.count().div_ceil(tile::MAX_ROWS / table.rows);
            blocks.count().div_ceil(row_parts.max((wanted / tiles).min(blocks.count())))
        };
        Self { format, route, unit_outputs: unit_tiles * panels * LANES, unit_blocks, block_rows: blocks.size() }
    }

    /// Bytes of the accumulators of a unit.
    fn acc_bytes(&self) -> usize {
        let outputs = if let Route::Tiles { panels } = self.route { panels * LANES } else { self.unit_outputs };
        self.unit_blocks * self.block_rows * outputs * 4
    }
}

/// One matrix of the call.
struct Part<'a> {
    table: &'static Table,
    matrix: &'a Matrix,
    bias: Option<&'a [f32]>,
    out: Output,
    packed: &'a Packed,
    plan: &'a Plan,
}

impl<'a> Part<'a> {
    fn row_parts(&self) -> usize {
        self.packed.blocks.count().div_ceil(self.plan.unit_blocks)
    }

    fn units(&self) -> usize {
        self.matrix.rows().div_ceil(self.plan.unit_outputs) * self.row_parts()
    }

    fn unit(&'a self, index: usize) -> Unit<'a> {
        let outputs = index / self.row_parts() * self.plan.unit_outputs;
        let blocks = index % self.row_parts() * self.plan.unit_blocks;
        Unit {
            part: self,
            outputs: outputs..(outputs + self.plan.unit_outputs).min(self.matrix.rows()),
            blocks: blocks..(blocks + self.plan.unit_blocks).min(self.packed.blocks.count()),
        }
    }
}

/// Some outputs of one matrix for some blocks of rows.
struct Unit<'a> {
    part: &'a Part<'a>,
    outputs: Range<usize>,
    blocks: Range<usize>,
}

impl Unit<'_> {
    /// Computes all of it. `following` is what this thread will do next.
    ///
    /// # Safety
    /// The table's instruction set must be there, nobody else may touch these outputs, and `worker` must have grown
    /// for the plan.
    unsafe fn compute(&self, following: Option<&Unit>, worker: &mut Worker) {
        let Part { table, matrix, packed, plan, .. } = *self.part;
        let after = following.filter(|unit| std::ptr::eq(unit.part, self.part));
        let after = after.map_or(self.outputs.start, |unit| unit.outputs.start);
        let Route::Tiles { panels } = plan.route else {
            // SAFETY: handed on, here and below.
            unsafe { self.stream(after, worker) };
            return;
        };
        let tile = panels * LANES;
        for first in self.outputs.clone().step_by(tile) {
            let next = if first + tile < self.outputs.end { first + tile } else { after };
            let panels = (matrix.rows() - first).min(tile).div_ceil(LANES);
            unsafe {
                Tile { table, matrix, packed, first, panels, next, blocks: self.blocks.clone() }.compute(worker);
                self.write(worker, first, panels * LANES);
            }
        }
    }

    /// All of it by one call of a streaming kernel.
    unsafe fn stream(&self, next: usize, worker: &mut Worker) {
        let Part { matrix, packed, plan, .. } = *self.part;
        let panels = self.outputs.len().div_ceil(LANES);
        let out = worker.acc.ptr_mut();
        let stream = |weights| Stream {
            weights,
            first: self.outputs.start,
            panels,
            next,
            blocks: packed.blocks.count(),
            x: packed.words(0, 0),
            x_stride: packed.stride(),
            out,
            out_stride: panels * LANES,
        };
        match (plan.route, &matrix.layout) {
            (Route::StreamI8(kernel), Layout::Affine { bits, group, packed: stored, scales, biases, float }) => {
                let groups = matrix.cols() / group;
                let stream = stream(Strided::new(stored.as_slice(), matrix.cols() / 8 * bits));
                let groups = Groups {
                    scales: Strided::new(scales.as_slice(), groups * float.size()),
                    biases: Strided::new(biases.as_slice(), groups * float.size()),
                    float: *float,
                    groups,
                    quads: group / 4,
                    x: packed.scales(0, 0),
                };
                // SAFETY: the tables are the matrix's, whose sizes were checked; x was packed for its columns; there
                // is room for the results.
                unsafe { kernel(&stream, &groups) };
            }
            (Route::StreamBf16(kernel), Layout::Dense { numbers, .. }) => {
                let stream = stream(Strided::new(numbers.as_slice(), matrix.cols() * 2));
                // SAFETY: as above.
                unsafe { kernel(&stream, matrix.cols()) };
            }
            _ => return,
        }
        // SAFETY: the results were just computed; the output is this unit's alone.
        unsafe { self.write(worker, self.outputs.start, panels * LANES) };
    }

    /// Adds the bias to the worker's accumulators (`[rows of the blocks][width]`) and puts them in their places,
    /// from output `first` on.
    unsafe fn write(&self, worker: &mut Worker, first: usize, width: usize) {
        let outputs = self.part.matrix.rows();
        let (acc, count) = (worker.acc.ptr_mut::<f32>(), (outputs - first).min(width));
        let bias = self.part.bias.map(|bias| &bias[first..first + count]);
        for (row, at) in self.part.packed.blocks.rows(self.blocks.clone()).enumerate() {
            // SAFETY: accumulators and output have these rows and columns, says the caller.
            let (from, to) = unsafe {
                let to = self.part.out.0.add(at * outputs + first);
                let from = acc.add(row * width);
                (std::slice::from_raw_parts(from, count), std::slice::from_raw_parts_mut(to, count))
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
