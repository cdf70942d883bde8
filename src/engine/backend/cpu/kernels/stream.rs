//! Few rows: weights go from memory through the registers straight into the dot products.
//!
//! The arithmetic of an element is that of [`product`](super::product); what differs is that no panel lies between.
//! Two things keep memory busy. The next panel's bytes are asked for, in the order in which they lie in memory, while
//! this one's are used: 64 bytes of each of sixteen rows are as many bytes as 1024 in a row, and left to itself the
//! processor keeps too few loads under way. And what a step needs is transposed while the step before is multiplied,
//! also from one panel to the next: the processor's look-ahead is too short to find that work by itself.

use std::mem::MaybeUninit;

use super::lanes::{LANES, Lanes, Rows, Strided, WORDS, prefetch, prefetch_near};
use super::product::group_end;
use super::unpack::{Float, blocks_at_once, expand};

/// Times 32 columns that are a step: whole groups of every size.
const STEP_BLOCKS: usize = 4;
/// Transpositions that a step takes at most.
const STEP_PIECES: usize = 2;
/// Bytes of weights that are asked for ahead, in whole panels: what memory delivers within a few of its latencies.
const AHEAD_BYTES: usize = 32 * 1024;
/// Rows from which on products take long enough that it pays to ask the second-level cache for lines, too.
const NEAR_ROWS: usize = 5;

/// Some outputs of a matrix for all rows.
pub struct Stream {
    /// Packed weights, or bf16 numbers.
    pub weights: Strided,
    /// First output.
    pub first: usize,
    /// Panels of sixteen outputs.
    pub panels: usize,
    /// First output of what this thread will read after these.
    pub next: usize,
    /// Blocks of `R` rows.
    pub blocks: usize,
    /// `[blocks]` of `[steps][R]` words of activations, `x_stride` words apart.
    pub x: *const u32,
    /// Words from one block's activations to the next's.
    pub x_stride: usize,
    /// `[blocks * R]` rows of `panels * 16` results.
    pub out: *mut f32,
    /// Floats from one row's results to the next's.
    pub out_stride: usize,
}

/// What packed weights need besides.
pub struct Groups {
    /// Scales of the weights.
    pub scales: Strided,
    /// Biases of the weights.
    pub biases: Strided,
    /// What numbers these are.
    pub float: Float,
    /// Groups of a row.
    pub groups: usize,
    /// Words of activations in a group.
    pub quads: usize,
    /// `[blocks][groups][R]`: the activation group's scale, and scale × sum of its bytes.
    pub x: *const [f32; 2],
}

/// Transposed words. Not initialised: clearing this much every time costs more than the rest.
type Words<S> = [MaybeUninit<<S as Lanes>::I>; WORDS];

/// What is ready of the weights: a step's words in pieces, and as many scales and biases as a cache line of each row
/// holds.
struct Ready<S: Lanes> {
    weights: [Words<S>; STEP_PIECES],
    scales: Words<S>,
    biases: Words<S>,
}

/// Packed weights × bytes: `R` rows at a time.
#[inline(always)]
pub unsafe fn stream_i8<S: Lanes, const BITS: u32, const R: usize, const WIDE: bool>(s: &Stream, g: &Groups) {
    let bits = BITS as usize;
    let (at_once, group_blocks) = (blocks_at_once(BITS), g.quads / 8);
    let (pieces, step_groups) = (STEP_BLOCKS / at_once, STEP_BLOCKS / group_blocks);
    let step_bytes = STEP_BLOCKS * 4 * bits;
    // Of a row's scales, and of a panel's.
    let (line_groups, scale_bytes) = (4 * WORDS / g.float.size(), g.groups * g.float.size() * LANES);
    // An exact sum may be taken in several parts: one row's products would wait for each other's latency.
    // More than four rows are enough by themselves, and twice their sums are more than registers hold.
    let chains = if R > 4 { 1 } else { 8usize.div_ceil(R).next_power_of_two().min(4) };
    let uninit = [MaybeUninit::uninit(); WORDS];
    let mut ready: [Ready<S>; 2] =
        std::array::from_fn(|_| Ready { weights: [uninit; STEP_PIECES], scales: uninit, biases: uninit });
    // Which of the two holds this step's weights, and which this line's scales.
    let (mut turn, mut line) = (0, 0);
    // Those of this panel and of the next one, by turns.
    let mut tables = [Tables::new(s, g, 0), Tables::new(s, g, 0)];
    for task in 0..pieces + 2 {
        // SAFETY: the caller vouches for tables of `first + panels * 16` rows (or fewer: `Strided` repeats the last) of
        // `groups` groups; here and below.
        unsafe { transpose::<S, BITS>(&tables[0], g, 0, task, &mut ready, (turn, line)) };
    }
    for panel in 0..s.panels {
        tables[(panel + 1) % 2].go_to(s, g, panel + 1);
        let (this, next) = (&tables[panel % 2], &tables[(panel + 1) % 2]);
        let out = s.out.wrapping_add(panel * LANES);
        // SAFETY: as above, and the caller vouches for as many groups of activations in x and its scales, and for the
        // results.
        unsafe {
            clear::<S>(out, s.blocks * R, s.out_stride);
            for group in (0..g.groups).step_by(step_groups) {
                let now = (g.groups - group).min(step_groups) * group_blocks;
                let at = group * group_blocks * 4 * bits;
                // The next step, in this panel or at the beginning of the next one.
                let inside = group + step_groups < g.groups;
                let (from, following) = if inside { (this, group + step_groups) } else { (next, 0) };
                let more = inside || panel + 1 < s.panels;
                let new_line = following.is_multiple_of(line_groups);
                let next_turn = (turn ^ 1, if new_line { line ^ 1 } else { line });
                // Scales are needed all at once when their panel begins: they are asked for twice as early.
                for scale_line in 0..2 {
                    let skip = (2 * group / step_groups + scale_line) * 64;
                    if skip < scale_bytes {
                        prefetch(this.scales.ahead.wrapping_add(skip));
                        prefetch(this.biases.ahead.wrapping_add(skip));
                    }
                }
                for block in 0..s.blocks {
                    let mut x = s.x.add(block * s.x_stride + group * g.quads * R);
                    let mut x_scales = g.x.add((block * g.groups + group) * R).cast::<f32>();
                    let out = out.add(block * R * s.out_stride);
                    let (mut in_line, mut left) = (group % line_groups, group_blocks);
                    let mut dots = [[S::splat_i(0); R]; 4];
                    for i in 0..STEP_BLOCKS {
                        if block == 0 && more && (i < pieces || new_line) {
                            transpose::<S, BITS>(from, g, following, i, &mut ready, next_turn);
                        }
                        if i >= now {
                            continue;
                        }
                        let words = ready[turn].weights[i / at_once].as_ptr().cast::<[S::I; WORDS]>();
                        let w = expand::<S, BITS>(&*words, i % at_once * bits);
                        for k in 0..8 {
                            if block == 0 {
                                // 32 columns of a panel are `bits` cache lines, asked for between their eight
                                // products: a burst of requests would hold up the loads behind it.
                                for line in k * bits / 8..(k + 1) * bits / 8 {
                                    prefetch(this.weights.ahead.wrapping_add((at + i * 4 * bits) * LANES + line * 64));
                                }
                                if R >= NEAR_ROWS && k % 2 == 0 {
                                    let near = this.weights.rows[i * 4 + k / 2].wrapping_add(at + 2 * step_bytes);
                                    for line in (0..step_bytes).step_by(64) {
                                        prefetch_near(near.wrapping_add(line));
                                    }
                                }
                            }
                            for r in 0..R {
                                let dot = &mut dots[k % chains][r];
                                *dot = S::dot::<WIDE>(*dot, w[k], S::splat_i(x.add(r).read()));
                            }
                            x = x.add(R);
                        }
                        left -= 1;
                        if left > 0 {
                            continue;
                        }
                        left = group_blocks;
                        let scale = number::<S>(&ready[line].scales, in_line, g.float);
                        let bias = number::<S>(&ready[line].biases, in_line, g.float);
                        in_line += 1;
                        for r in 0..R {
                            let (x_scale, x_sum) = (S::splat_f(x_scales.read()), S::splat_f(x_scales.add(1).read()));
                            x_scales = x_scales.add(2);
                            let mut dot = dots[0][r];
                            for chain in 1..chains {
                                dot = S::add_i(dot, dots[chain][r]);
                            }
                            let at = out.add(r * s.out_stride);
                            S::store_f(at, group_end::<S>(S::load_f(at), dot, scale, bias, x_scale, x_sum));
                        }
                        dots = [[S::splat_i(0); R]; 4];
                    }
                }
                (turn, line) = next_turn;
            }
        }
    }
}

/// Transposes for the step that begins with `group`: a piece of its weights, or after those, when the step begins a
/// line of scales, these or the biases. `place` says which of `ready` takes weights, and which takes scales.
#[inline(always)]
unsafe fn transpose<S: Lanes, const BITS: u32>(
    tables: &Tables,
    g: &Groups,
    group: usize,
    task: usize,
    ready: &mut [Ready<S>; 2],
    place: (usize, usize),
) {
    let (at_once, group_blocks) = (blocks_at_once(BITS), g.quads / 8);
    let pieces = STEP_BLOCKS / at_once;
    let (rows, at, bytes, to) = if task < pieces {
        let block_bytes = 4 * BITS as usize;
        let (first, end) = (group * group_blocks + task * at_once, g.groups * group_blocks);
        let blocks = end.saturating_sub(first).min(at_once);
        (&tables.weights.rows, first * block_bytes, blocks * block_bytes, &mut ready[place.0].weights[task])
    } else {
        let (at, bytes) = (group * g.float.size(), ((g.groups - group) * g.float.size()).min(4 * WORDS));
        let to = &mut ready[place.1];
        match task - pieces {
            0 => (&tables.scales.rows, at, bytes, &mut to.scales),
            1 => (&tables.biases.rows, at, bytes, &mut to.biases),
            _ => return,
        }
    };
    if bytes > 0 {
        // SAFETY: the caller vouches for `g.groups` groups of every row.
        let transposed = unsafe { S::transpose(rows, at, bytes) };
        for (to, word) in to.iter_mut().zip(transposed) {
            to.write(word);
        }
    }
}

/// Number `index` of each lane's sixteen words.
#[inline(always)]
unsafe fn number<S: Lanes>(words: &Words<S>, index: usize, float: Float) -> S::F {
    // SAFETY: the caller vouches for words up to this number; values otherwise.
    unsafe {
        if float == Float::F32 {
            return S::cast_f(words[index].assume_init());
        }
        let (word, low) = (words[index / 2].assume_init(), index.is_multiple_of(2));
        if float == Float::BF16 {
            S::cast_f(if low { S::shl(word, 16) } else { S::and(word, S::splat_i(0xffff_0000)) })
        } else {
            S::f16_to_f(if low { S::and(word, S::splat_i(0xffff)) } else { S::shr(word, 16) })
        }
    }
}

/// bf16 weights × bf16 pairs by the processor's own instruction: `R` rows of `columns` at a time.
#[inline(always)]
pub unsafe fn stream_bf16<S: Lanes, const R: usize>(s: &Stream, columns: usize) {
    const STEP: usize = 4 * WORDS;
    let bytes = columns * 2;
    let mut weights = Panel::new(&s.weights, s, 0);
    // SAFETY: the caller vouches for a table of `first + panels * 16` rows (or fewer: `Strided` repeats the last) of
    // `columns` numbers; here and below.
    let mut words = unsafe { S::transpose(&weights.rows, 0, bytes.min(STEP)) };
    for panel in 0..s.panels {
        let next = Panel::new(&s.weights, s, (panel + 1).min(s.panels - 1));
        let out = s.out.wrapping_add(panel * LANES);
        // SAFETY: as above, and the caller vouches for as many columns in x (an odd one filled up), and for the results.
        unsafe {
            clear::<S>(out, s.blocks * R, s.out_stride);
            for at in (0..bytes).step_by(STEP) {
                let this = words;
                let inside = at + STEP < bytes;
                let (rows, following) = if inside { (&weights.rows, at + STEP) } else { (&next.rows, 0) };
                words = S::transpose(rows, following, (bytes - following).min(STEP));
                for block in 0..s.blocks {
                    let mut x = s.x.add(block * s.x_stride + at / 4 * R);
                    let out = out.add(block * R * s.out_stride);
                    let mut acc = [S::splat_f(0.0); R];
                    for r in 0..R {
                        acc[r] = S::load_f(out.add(r * s.out_stride));
                    }
                    for w in 0..WORDS {
                        if at + w * 4 >= bytes {
                            break;
                        }
                        if block == 0 {
                            prefetch(weights.ahead.wrapping_add(at * LANES + w * 64));
                        }
                        for r in 0..R {
                            acc[r] = S::dot_bf16(acc[r], this[w], S::splat_i(x.add(r).read()));
                        }
                        x = x.add(R);
                    }
                    for r in 0..R {
                        S::store_f(out.add(r * s.out_stride), acc[r]);
                    }
                }
            }
        }
        weights = next;
    }
}

/// A panel's parts.
struct Tables {
    weights: Panel,
    scales: Panel,
    biases: Panel,
}

impl Tables {
    #[inline(always)]
    fn new(s: &Stream, g: &Groups, panel: usize) -> Self {
        let of = |table| Panel::new(table, s, panel);
        Self { weights: of(&s.weights), scales: of(&g.scales), biases: of(&g.biases) }
    }
    /// Makes it those of another panel.
    #[inline(always)]
    fn go_to(&mut self, s: &Stream, g: &Groups, panel: usize) {
        self.weights.go_to(&s.weights, s, panel);
        self.scales.go_to(&g.scales, s, panel);
        self.biases.go_to(&g.biases, s, panel);
    }
}

/// Sixteen rows of a table, and where those begin that are asked for meanwhile.
struct Panel {
    rows: Rows,
    ahead: *const u8,
}

impl Panel {
    /// The rows of panel `panel` of `s`.
    #[inline(always)]
    fn new(table: &Strided, s: &Stream, panel: usize) -> Self {
        let mut new = Self { rows: [std::ptr::null(); LANES], ahead: std::ptr::null() };
        new.go_to(table, s, panel);
        new
    }
    /// Makes it another panel; behind the last one, the rows do not matter.
    #[inline(always)]
    fn go_to(&mut self, table: &Strided, s: &Stream, panel: usize) {
        self.rows = table.rows(s.first + panel * LANES);
        let ahead = panel + (AHEAD_BYTES / (s.weights.stride() * LANES)).clamp(1, s.panels);
        let first = if ahead < s.panels { s.first + ahead * LANES } else { s.next + (ahead - s.panels) * LANES };
        self.ahead = table.at(first);
    }
}

/// Zeros in a vector of `rows` rows.
#[inline(always)]
unsafe fn clear<S: Lanes>(out: *mut f32, rows: usize, stride: usize) {
    for row in 0..rows {
        // SAFETY: the caller vouches for these rows.
        unsafe { S::store_f(out.add(row * stride), S::splat_f(0.0)) };
    }
}
