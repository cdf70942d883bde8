//! The rows of an input, packed once for all matrices that multiply them.

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
    /// Words that `columns` take.
    pub fn steps(self, columns: usize) -> usize {
        match self {
            Format::Bytes { .. } => columns / 4,
            Format::Halves => columns.div_ceil(2),
            Format::Floats { .. } => columns,
        }
    }
}

/// Rows are packed in blocks of at most as many as a micro-kernel takes. All are full but the last two, which share
/// what is left evenly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Blocks {
    rows: usize,
    full: usize,
}

impl Blocks {
    /// `rows` in blocks of at most `full`.
    pub fn new(rows: usize, full: usize) -> Self {
        Self { rows, full }
    }
    /// How many.
    pub fn count(&self) -> usize {
        self.rows.div_ceil(self.full)
    }
    /// First row of `block`; the number of rows for `block == count()`.
    pub fn start(&self, block: usize) -> usize {
        let count = self.count();
        if block + 1 == count && count > 1 {
            // The last two blocks begin after the full ones; the larger half comes first.
            let before = (count - 2) * self.full;
            before + (self.rows - before).div_ceil(2)
        } else {
            (block * self.full).min(self.rows)
        }
    }
    /// Rows of `block`.
    pub fn len(&self, block: usize) -> usize {
        self.start(block + 1) - self.start(block)
    }
}

/// Packed rows: for each block `[steps][rows of the block]` words, and for bytes `[groups][rows of the block]` pairs
/// of scale and scaled sum.
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
        let blocks = Blocks::new(0, 1);
        Self {
            words: Buffer::default(),
            scales: Buffer::default(),
            format: Format::Halves,
            blocks,
            steps: 0,
            groups: 0,
        }
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.words.len() + self.scales.len()
    }

    /// Word `step` of the first row of `block`; the others' follow.
    pub fn words(&self, block: usize, step: usize) -> *const u32 {
        self.words.ptr::<u32>().wrapping_add(self.words_at(block) + step * self.blocks.len(block))
    }
    /// Scale and scaled sum of the first row of `block` in `group`; the others' follow.
    pub fn scales(&self, block: usize, group: usize) -> *const [f32; 2] {
        let at = self.blocks.start(block) * self.groups + group * self.blocks.len(block);
        self.scales.ptr::<[f32; 2]>().wrapping_add(at)
    }

    fn words_at(&self, block: usize) -> usize {
        self.blocks.start(block) * self.steps + block * SLACK
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
    scratch.workers(cx.team.threads(), |worker| worker.staging.ensure(table.rows * steps * 4))?;
    let packed = &mut scratch.packed[index];
    packed.format = format;
    packed.blocks = Blocks::new(rows, table.rows);
    packed.steps = steps;
    packed.groups = if let Format::Bytes { group, .. } = format { columns / group } else { 0 };
    packed.words.ensure((rows * steps + packed.blocks.count() * SLACK) * 4)?;
    packed.scales.ensure(rows * packed.groups * size_of::<[f32; 2]>())?;

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
        (0..packed.blocks.count()).for_each(|block| one(block, 0));
    } else {
        cx.team.run_on(packed.blocks.count(), &one);
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
    let (start, r, steps) = (packed.blocks.start(block), packed.blocks.len(block), packed.steps);
    let words = to.words.wrapping_add(packed.words_at(block));
    // A single row is its own block.
    let rows_to = if r == 1 { words } else { staging };
    for row in 0..r {
        let from = x[(start + row) * columns..][..columns].as_ptr();
        let row_to = rows_to.wrapping_add(row * steps);
        // SAFETY: `from` has `columns` floats; `row_to` has `steps` words, which hold the row in this format (an odd
        // bf16 row is filled up to a whole word); the scales have `groups` strided places.
        unsafe {
            match packed.format {
                Format::Bytes { group, order } => {
                    let scales = to.scales.add(start * packed.groups + row);
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
        for full in [1, 4, 8] {
            for rows in 1..70 {
                let blocks = Blocks::new(rows, full);
                let mut next = 0;
                for block in 0..blocks.count() {
                    assert_eq!(blocks.start(block), next);
                    let len = blocks.len(block);
                    assert!(len >= 1 && len <= full && (block + 2 >= blocks.count() || len == full));
                    next += len;
                }
                assert_eq!(next, rows);
            }
        }
    }
}
