//! Few rows: weights go from memory through the registers straight into the dot products.
//!
//! The arithmetic of an element is that of [`product`](super::product); what differs is that no panel lies between,
//! and that the next panel's bytes are asked for, in the order in which they lie in memory, while this one's are
//! used: 64 bytes of each of sixteen rows are as many bytes as 1024 in a row. (Left to itself the processor keeps
//! too few loads under way: 17 GB/s instead of 42 with two Zen 5 cores. Asking in the order of use costs a tenth.)

use std::mem::MaybeUninit;

use super::lanes::{LANES, Lanes, Rows, Strided, WORDS, prefetch};
use super::product::group_end;
use super::unpack::{blocks_at_once, expand};

/// Groups whose scales are transposed together: 16-bit scales of 32 groups fill a cache line.
pub const SCALE_GROUPS: usize = 32;
/// Times 32 columns that are unpacked together: whole groups of every size.
const STEP_BLOCKS: usize = 4;
/// Transpositions that takes at most.
const STEP_PIECES: usize = 2;

/// Some outputs of a matrix for all rows.
pub struct Stream {
    /// Packed weights, or bf16 numbers.
    pub weights: Strided,
    /// First output.
    pub first: usize,
    /// Panels of sixteen outputs: a multiple of the kernel's `P`.
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
    /// Bytes of one of these.
    pub size: usize,
    /// How they are transposed: [`unpack::floats`](super::unpack::floats) of their type.
    pub floats: unsafe fn(&Rows, usize, usize, *mut f32),
    /// Groups of a row.
    pub groups: usize,
    /// Words of activations in a group.
    pub quads: usize,
    /// `[blocks][groups][R]`: the activation group's scale, and scale × sum of its bytes.
    pub x: *const [f32; 2],
    /// Room for `P *` [`SCALE_GROUPS`] vectors of scales and as many of biases.
    pub buffer: *mut f32,
}

/// Packed weights × bytes: `P` panels and `R` rows at a time.
#[inline(always)]
pub unsafe fn stream_i8<S: Lanes, const BITS: u32, const R: usize, const P: usize, const WIDE: bool>(
    s: &Stream,
    g: &Groups,
) {
    let bits = BITS as usize;
    let (at_once, group_blocks) = (blocks_at_once(BITS), g.quads / 8);
    let step_groups = STEP_BLOCKS / group_blocks;
    let scale_stride = SCALE_GROUPS * LANES;
    let biases_at = g.buffer.wrapping_add(P * scale_stride);
    // 32 columns of a panel are `bits` cache lines, asked for between their eight products: a burst of requests would
    // hold up the loads behind it.
    let requests = (P * bits).div_ceil(8);
    for panel in (0..s.panels).step_by(P) {
        let first = s.first + panel * LANES;
        let next = if panel + P < s.panels { first + P * LANES } else { s.next };
        let weights = Panels::<P>::new(&s.weights, first, next);
        let scales = Panels::<P>::new(&g.scales, first, next);
        let biases = Panels::<P>::new(&g.biases, first, next);
        let out = s.out.wrapping_add(panel * LANES);
        // SAFETY: the caller vouches for tables of `first + panels * 16` rows (or fewer: `Strided` repeats the last)
        // of `groups` groups, for as many groups of activations in x and its scales, and for the results.
        unsafe {
            clear::<S>(out, s.blocks * R, s.out_stride, P);
            for group in (0..g.groups).step_by(step_groups) {
                let in_chunk = group % SCALE_GROUPS;
                if in_chunk == 0 {
                    let groups = (g.groups - group).min(SCALE_GROUPS);
                    for p in 0..P {
                        (g.floats)(&scales.rows[p], group * g.size, groups, g.buffer.add(p * scale_stride));
                        (g.floats)(&biases.rows[p], group * g.size, groups, biases_at.add(p * scale_stride));
                    }
                }
                let now = (g.groups - group).min(step_groups) * group_blocks;
                let at = group * group_blocks * 4 * bits;
                // Not initialised: clearing this much every time costs more than the rest.
                let mut words = [[[MaybeUninit::<S::I>::uninit(); WORDS]; STEP_PIECES]; P];
                for p in 0..P {
                    prefetch(scales.ahead[p].wrapping_add(group * g.size * LANES));
                    prefetch(biases.ahead[p].wrapping_add(group * g.size * LANES));
                    for piece in 0..STEP_BLOCKS / at_once {
                        if piece * at_once < now {
                            let blocks = (now - piece * at_once).min(at_once);
                            let at = at + piece * at_once * 4 * bits;
                            let transposed = S::transpose(&weights.rows[p], at, blocks * 4 * bits);
                            for (to, word) in words[p][piece].iter_mut().zip(transposed) {
                                to.write(word);
                            }
                        }
                    }
                }
                for block in 0..s.blocks {
                    let mut x = s.x.add(block * s.x_stride + group * g.quads * R);
                    let mut x_scales = g.x.add((block * g.groups + group) * R).cast::<f32>();
                    let out = out.add(block * R * s.out_stride);
                    let (mut scale_at, mut left) = (in_chunk * LANES, group_blocks);
                    let mut dots = [[S::splat_i(0); P]; R];
                    for i in 0..STEP_BLOCKS {
                        if i >= now {
                            break;
                        }
                        let mut w = [[S::splat_i(0); 8]; P];
                        for p in 0..P {
                            let words = words[p][i / at_once].as_ptr().cast::<[S::I; WORDS]>();
                            w[p] = expand::<S, BITS>(&*words, i % at_once * bits);
                        }
                        for k in 0..8 {
                            for line in k * requests..((k + 1) * requests).min(P * bits) {
                                let line_at = (at + i * 4 * bits) * LANES + line % bits * 64;
                                prefetch(weights.ahead[line / bits].wrapping_add(line_at));
                            }
                            for r in 0..R {
                                let x = S::splat_i(x.add(r).read());
                                for p in 0..P {
                                    dots[r][p] = S::dot::<WIDE>(dots[r][p], w[p][k], x);
                                }
                            }
                            x = x.add(R);
                        }
                        left -= 1;
                        if left > 0 {
                            continue;
                        }
                        left = group_blocks;
                        let (mut scale, mut bias) = ([S::splat_f(0.0); P], [S::splat_f(0.0); P]);
                        for p in 0..P {
                            scale[p] = S::load_f(g.buffer.add(p * scale_stride + scale_at));
                            bias[p] = S::load_f(biases_at.add(p * scale_stride + scale_at));
                        }
                        scale_at += LANES;
                        for r in 0..R {
                            let (x_scale, x_sum) = (S::splat_f(x_scales.read()), S::splat_f(x_scales.add(1).read()));
                            x_scales = x_scales.add(2);
                            for p in 0..P {
                                let at = out.add(r * s.out_stride + p * LANES);
                                let acc = S::load_f(at);
                                S::store_f(at, group_end::<S>(acc, dots[r][p], scale[p], bias[p], x_scale, x_sum));
                                dots[r][p] = S::splat_i(0);
                            }
                        }
                    }
                }
            }
        }
    }
}

/// bf16 weights × bf16 pairs by the processor's own instruction: `P` panels and `R` rows of `columns` at a time.
#[inline(always)]
pub unsafe fn stream_bf16<S: Lanes, const R: usize, const P: usize>(s: &Stream, columns: usize) {
    let bytes = columns * 2;
    for panel in (0..s.panels).step_by(P) {
        let first = s.first + panel * LANES;
        let next = if panel + P < s.panels { first + P * LANES } else { s.next };
        let weights = Panels::<P>::new(&s.weights, first, next);
        let out = s.out.wrapping_add(panel * LANES);
        // SAFETY: the caller vouches for a table of `first + panels * 16` rows (or fewer: `Strided` repeats the last)
        // of `columns` numbers, for as many in x (an odd one filled up), and for the results.
        unsafe {
            clear::<S>(out, s.blocks * R, s.out_stride, P);
            for at in (0..bytes).step_by(4 * WORDS) {
                let now = (bytes - at).min(4 * WORDS);
                let mut words = [[MaybeUninit::<S::I>::uninit(); WORDS]; P];
                for p in 0..P {
                    let transposed = S::transpose(&weights.rows[p], at, now);
                    for (to, word) in words[p].iter_mut().zip(transposed) {
                        to.write(word);
                    }
                }
                for block in 0..s.blocks {
                    let mut x = s.x.add(block * s.x_stride + at / 4 * R);
                    let out = out.add(block * R * s.out_stride);
                    let mut acc = [[S::splat_f(0.0); P]; R];
                    for r in 0..R {
                        for p in 0..P {
                            acc[r][p] = S::load_f(out.add(r * s.out_stride + p * LANES));
                        }
                    }
                    for w in 0..WORDS {
                        if w * 4 >= now {
                            break;
                        }
                        for p in 0..P {
                            prefetch(weights.ahead[p].wrapping_add(at * LANES + w * 64));
                        }
                        for r in 0..R {
                            let x = S::splat_i(x.add(r).read());
                            for p in 0..P {
                                acc[r][p] = S::dot_bf16(acc[r][p], words[p][w].assume_init(), x);
                            }
                        }
                        x = x.add(R);
                    }
                    for r in 0..R {
                        for p in 0..P {
                            S::store_f(out.add(r * s.out_stride + p * LANES), acc[r][p]);
                        }
                    }
                }
            }
        }
    }
}

/// `P` panels of a table, and where those begin that are read next.
struct Panels<const P: usize> {
    rows: [Rows; P],
    ahead: [*const u8; P],
}

impl<const P: usize> Panels<P> {
    #[inline(always)]
    fn new(table: &Strided, first: usize, next: usize) -> Self {
        let mut panels = Self { rows: [table.rows(first); P], ahead: [table.at(next); P] };
        for p in 1..P {
            panels.rows[p] = table.rows(first + p * LANES);
            panels.ahead[p] = table.at(next + p * LANES);
        }
        panels
    }
}

/// Zeros in `rows` rows of `panels` vectors.
#[inline(always)]
unsafe fn clear<S: Lanes>(out: *mut f32, rows: usize, stride: usize, panels: usize) {
    for row in 0..rows {
        for panel in 0..panels {
            // SAFETY: the caller vouches for these rows.
            unsafe { S::store_f(out.add(row * stride + panel * LANES), S::splat_f(0.0)) };
        }
    }
}
