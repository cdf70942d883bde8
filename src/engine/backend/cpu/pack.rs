//! The rows of an input, packed once for all matrices that multiply them.

use std::ops::Range;

use crate::engine::error::Result;

use super::kernels::activations::SLACK;
use super::kernels::lanes::LANES;
use super::kernels::table::Table;
use super::kernels::unpack::{Float, ORDER};
use super::matrix::{Layout, Matrix};
use super::project::Context;
use super::scratch::{Buffer, Scratch};

/// What the words of packed rows are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// Four bytes, quantised by groups of `group` columns, in the order of panels of `order` bits.
    Bytes { group: usize, order: usize },
    /// Two bf16.
    Halves,
    /// One float, in the order of panels of `order` bits.
    Floats { order: usize },
}

impl Format {
    /// What `matrix` wants to be multiplied with.
    pub fn of(matrix: &Matrix, table: &Table, exact: bool) -> Format {
        // Widths in natural order share their packed rows.
        let order = |bits: usize| if ORDER[bits] == ORDER[8] { 8 } else { bits };
        match &matrix.layout {
            Layout::Affine { bits, .. } if exact => Format::Floats { order: order(*bits) },
            Layout::Affine { bits, group, .. } => Format::Bytes { group: *group, order: order(*bits) },
            Layout::Dense { float: Float::BF16, .. } if table.bf16 && !exact => Format::Halves,
            Layout::Dense { .. } => Format::Floats { order: 8 },
        }
    }
    /// Whether so few rows are multiplied without a panel between.
    pub fn streams(self, rows: usize, table: &Table) -> bool {
        rows <= table.few_rows && !matches!(self, Format::Floats { .. })
    }
    /// Words that `columns` take.
    pub fn steps(self, columns: usize) -> usize {
        match self {
            Format::Bytes { .. } => columns / 4,
            Format::Halves => columns.div_ceil(2),
            Format::Floats { .. } => columns,
        }
    }
}

/// Rows are packed in blocks of equal size, at most as many as a micro-kernel takes. The last block may be short: it
/// is filled up with rows of zeros, so that one kernel serves all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Blocks {
    rows: usize,
    count: usize,
    size: usize,
}

impl Blocks {
    /// For `rows` rows in `format`: of the streaming kernels' sizes where those take them (see [`Format::streams`]).
    pub fn of(rows: usize, format: Format, table: &Table) -> Self {
        let most = if format.streams(rows, table) { table.stream_rows } else { &[] };
        let mut blocks = Self::new(rows, most.last().copied().unwrap_or(table.rows));
        blocks.size = most.iter().copied().find(|size| *size >= blocks.size).unwrap_or(blocks.size);
        blocks
    }
    /// `rows` (at least one) in blocks of at most `most`.
    pub fn new(rows: usize, most: usize) -> Self {
        let count = rows.div_ceil(most);
        Self { rows, count, size: rows.div_ceil(count) }
    }
    /// How many.
    pub fn count(&self) -> usize {
        self.count
    }
    /// Rows of each, those of zeros included.
    pub fn size(&self) -> usize {
        self.size
    }
    /// The real rows of some blocks.
    pub fn rows(&self, blocks: Range<usize>) -> Range<usize> {
        blocks.start * self.size..(blocks.end * self.size).min(self.rows)
    }
}

/// Packed rows: for each block `[steps][rows of a block]` words, and for bytes `[groups][rows of a block]` pairs of
/// scale and scaled sum.
pub(super) struct Packed {
    words: Buffer,
    scales: Buffer,
    pub format: Format,
    pub blocks: Blocks,
    steps: usize,
    groups: usize,
}

impl Packed {
    fn empty() -> Self {
        let (words, scales) = (Buffer::default(), Buffer::default());
        Self { words, scales, format: Format::Halves, blocks: Blocks::new(1, 1), steps: 0, groups: 0 }
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.words.len() + self.scales.len()
    }

    /// Word `step` of the first row of `block`; the others' follow.
    pub fn words(&self, block: usize, step: usize) -> *const u32 {
        self.words.ptr::<u32>().wrapping_add(block * self.stride() + step * self.blocks.size)
    }
    /// Scale and scaled sum of the first row of `block` in `group`; the others' follow.
    pub fn scales(&self, block: usize, group: usize) -> *const [f32; 2] {
        self.scales.ptr::<[f32; 2]>().wrapping_add((block * self.groups + group) * self.blocks.size)
    }
    /// Words from one block to the next. Never a power of two: blocks must not fall on the same cache sets.
    pub fn stride(&self) -> usize {
        self.steps * self.blocks.size + SLACK
    }
}

/// Packs `x` (`[rows, columns]`) into `scratch.packed[index]`, whose buffers are used again.
pub(super) fn pack(
    cx: &Context,
    table: &Table,
    x: &[f32],
    columns: usize,
    format: Format,
    scratch: &mut Scratch,
    index: usize,
) -> Result<()> {
    let rows = x.len() / columns;
    while scratch.packed.len() <= index {
        scratch.packed.push(Packed::empty());
    }
    let steps = format.steps(columns);
    let blocks = Blocks::of(rows, format, table);
    scratch.workers(cx.team.threads(), |worker| worker.staging.ensure(blocks.size * steps * 4))?;
    let packed = &mut scratch.packed[index];
    packed.format = format;
    packed.blocks = blocks;
    packed.steps = steps;
    packed.groups = if let Format::Bytes { group, .. } = format { columns / group } else { 0 };
    packed.words.ensure(blocks.count * packed.stride() * 4)?;
    packed.scales.ensure(blocks.count * blocks.size * packed.groups * size_of::<[f32; 2]>())?;

    let to = Target { words: packed.words.ptr_mut(), scales: packed.scales.ptr_mut() };
    let (packed, workers) = (&scratch.packed[index], &scratch.workers);
    let one = |block: usize, worker: usize| {
        // SAFETY: the team gives each of its threads its own number.
        let staging = unsafe { workers[worker].get() }.staging.ptr_mut::<u32>();
        // SAFETY: `staging` has room for a full block; see `pack_block`.
        unsafe { pack_block(table, x, columns, packed, to, block, staging) };
    };
    // Less work than waking somebody: do it here.
    if x.len() < 32 * 1024 {
        (0..blocks.count).for_each(|block| one(block, 0));
    } else {
        cx.team.run_on(blocks.count, &one);
    }
    Ok(())
}

/// Where all blocks go.
#[derive(Clone, Copy)]
struct Target {
    words: *mut u32,
    scales: *mut [f32; 2],
}
// SAFETY: only plain memory behind it; `pack_block`'s callers write different blocks.
unsafe impl Sync for Target {}
// SAFETY: as above.
unsafe impl Send for Target {}

/// Converts the rows of a block into `staging`, then interleaves them.
///
/// # Safety
/// The table's instruction set must be there; `to` is `packed`'s memory, with no other thread at this block;
/// `staging` has room for a full block of words.
unsafe fn pack_block(
    table: &Table,
    x: &[f32],
    columns: usize,
    packed: &Packed,
    to: Target,
    block: usize,
    staging: *mut u32,
) {
    let (r, steps, rows) = (packed.blocks.size, packed.steps, packed.blocks.rows(block..block + 1));
    let words = to.words.wrapping_add(block * packed.stride());
    let scales = to.scales.wrapping_add(block * r * packed.groups);
    // A single row is its own block.
    let rows_to = if r == 1 { words } else { staging };
    for row in 0..r {
        let row_to = rows_to.wrapping_add(row * steps);
        if row >= rows.len() {
            // SAFETY: as below.
            unsafe {
                row_to.write_bytes(0, steps);
                (0..packed.groups).for_each(|group| scales.add(group * r + row).write([0.0; 2]));
            }
            continue;
        }
        let from = x[(rows.start + row) * columns..][..columns].as_ptr();
        // SAFETY: `from` has `columns` floats; `row_to` has `steps` words, which hold the row in this format (an odd
        // bf16 row is filled up to a whole word); the scales have `groups` strided places.
        unsafe {
            match packed.format {
                Format::Bytes { group, order } => {
                    let scales = scales.add(row);
                    (table.quantise)(from, packed.groups, group, &ORDER[order], row_to.cast(), scales, r);
                }
                Format::Halves => (table.halves)(from, columns, row_to.cast()),
                Format::Floats { order: 8 } => from.copy_to_nonoverlapping(row_to.cast(), columns),
                Format::Floats { order } => (table.reorder)(from, columns, &ORDER[order], row_to.cast()),
            }
        }
    }
    if r > 1 {
        let rows = std::array::from_fn::<_, LANES, _>(|lane| {
            staging.wrapping_add(lane.min(r - 1) * steps).cast_const().cast()
        });
        // SAFETY: `r` rows of `steps` words were just written; the block has that many words and the slack.
        unsafe { (table.interleave)(&rows, r, steps, words) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_cover_all_rows_evenly() {
        for most in [1, 4, 8] {
            for rows in 1..70 {
                let blocks = Blocks::new(rows, most);
                assert!(blocks.size() <= most && blocks.count() == rows.div_ceil(most));
                let mut next = 0;
                for block in 0..blocks.count() {
                    let rows = blocks.rows(block..block + 1);
                    assert_eq!(rows.start, next);
                    assert!(!rows.is_empty() && rows.len() <= blocks.size());
                    next = rows.end;
                }
                assert_eq!(next, rows);
                // As few rows of zeros as can be.
                assert!(blocks.count() * blocks.size() - rows < blocks.count());
            }
        }
    }
}
