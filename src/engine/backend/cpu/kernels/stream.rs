//! Few rows: weights go from memory through the registers straight into the dot products, sixteen outputs at a time.
//!
//! The arithmetic of an element is that of [`product`](super::product); what differs is that no panel lies between,
//! and that the next panel's bytes are asked for, in the order in which they lie in memory, while this one's are
//! used: 64 bytes of each of sixteen rows are as many bytes as 1024 in a row.

use super::lanes::{LANES, Lanes, Rows, Strided, prefetch};
use super::product::group_end;
use super::unpack::{blocks_at_once, expand};

/// Groups whose scales are transposed together: 16-bit scales of 32 groups fill a cache line.
pub const SCALE_GROUPS: usize = 32;

/// Some outputs of a matrix for a single block of rows.
pub struct Stream {
    /// Packed weights, or bf16 numbers.
    pub weights: Strided,
    /// First output.
    pub first: usize,
    /// Panels of sixteen outputs.
    pub panels: usize,
    /// First output of what this thread will read after these.
    pub next: usize,
    /// `[steps][R]` words of activations.
    pub x: *const u32,
    /// `[R]` rows of `panels * 16` results.
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
    /// `[groups][R]`: the activation group's scale, and scale × sum of its bytes.
    pub x: *const [f32; 2],
    /// Room for [`SCALE_GROUPS`] vectors of scales and as many of biases.
    pub buffer: *mut f32,
}

/// Packed weights × bytes, `R` rows.
#[inline(always)]
pub unsafe fn stream_i8<S: Lanes, const BITS: u32, const R: usize, const WIDE: bool>(s: &Stream, g: &Groups) {
    let at_once = blocks_at_once(BITS);
    let block_bytes = 4 * BITS as usize;
    let group_blocks = g.quads / 8;
    let biases_at = g.buffer.wrapping_add(SCALE_GROUPS * LANES);
    for panel in 0..s.panels {
        let first = s.first + panel * LANES;
        let next = if panel + 1 < s.panels { first + LANES } else { s.next };
        let (rows, ahead) = (s.weights.rows(first), s.weights.at(next));
        let (scales, scales_ahead) = (g.scales.rows(first), g.scales.at(next));
        let (biases, biases_ahead) = (g.biases.rows(first), g.biases.at(next));
        let (mut x, mut x_scales, mut at) = (s.x, g.x, 0);
        // SAFETY: the caller vouches for tables of `first + panels * 16` rows (or fewer: `Strided` repeats the last)
        // of `groups` groups, for as many groups of activations in x and its scales, and for the results.
        unsafe {
            let mut acc = [S::splat_f(0.0); R];
            for chunk in (0..g.groups).step_by(SCALE_GROUPS) {
                let groups = (g.groups - chunk).min(SCALE_GROUPS);
                (g.floats)(&scales, chunk * g.size, groups, g.buffer);
                (g.floats)(&biases, chunk * g.size, groups, biases_at);
                let mut left = groups * group_blocks;
                let (mut group, mut left_of_group) = (0, group_blocks);
                let mut dots = [S::splat_i(0); R];
                while left > 0 {
                    let now = left.min(at_once);
                    for line in 0..at_once * BITS as usize {
                        prefetch(ahead.wrapping_add(at * LANES + line * 64));
                    }
                    let words = S::transpose(&rows, at, now * block_bytes);
                    for block in 0..at_once {
                        if block >= now {
                            break;
                        }
                        for w in expand::<S, BITS>(&words, block * BITS as usize) {
                            for (r, dot) in dots.iter_mut().enumerate() {
                                *dot = S::dot::<WIDE>(*dot, w, S::splat_i(x.add(r).read()));
                            }
                            x = x.add(R);
                        }
                        left_of_group -= 1;
                        if left_of_group == 0 {
                            let scale = S::load_f(g.buffer.add(group * LANES));
                            let bias = S::load_f(biases_at.add(group * LANES));
                            for (r, (acc, dot)) in acc.iter_mut().zip(&mut dots).enumerate() {
                                *acc = group_end::<S>(*acc, *dot, scale, bias, x_scales.add(r).read());
                                *dot = S::splat_i(0);
                            }
                            x_scales = x_scales.add(R);
                            let scale_at = (chunk + group) * g.size * LANES;
                            prefetch(scales_ahead.wrapping_add(scale_at));
                            prefetch(biases_ahead.wrapping_add(scale_at));
                            group += 1;
                            left_of_group = group_blocks;
                        }
                    }
                    at += now * block_bytes;
                    left -= now;
                }
            }
            for (r, acc) in acc.into_iter().enumerate() {
                S::store_f(s.out.add(r * s.out_stride + panel * LANES), acc);
            }
        }
    }
}

/// bf16 weights × bf16 pairs by the processor's own instruction, `R` rows of `columns`.
#[inline(always)]
pub unsafe fn stream_bf16<S: Lanes, const R: usize>(s: &Stream, columns: usize) {
    let bytes = columns * 2;
    for panel in 0..s.panels {
        let first = s.first + panel * LANES;
        let next = if panel + 1 < s.panels { first + LANES } else { s.next };
        let (rows, ahead) = (s.weights.rows(first), s.weights.at(next));
        let mut x = s.x;
        // SAFETY: the caller vouches for a table of `first + panels * 16` rows (or fewer: `Strided` repeats the last)
        // of `columns` numbers, for as many in x (an odd one filled up), and for the results.
        unsafe {
            let mut acc = [S::splat_f(0.0); R];
            for at in (0..bytes).step_by(64) {
                let piece = (bytes - at).min(64);
                for line in 0..LANES {
                    prefetch(ahead.wrapping_add(at * LANES + line * 64));
                }
                let words = S::transpose(&rows, at, piece);
                for (w, word) in words.into_iter().enumerate() {
                    if w * 4 < piece {
                        for (r, acc) in acc.iter_mut().enumerate() {
                            *acc = S::dot_bf16(*acc, word, S::splat_i(x.add(r).read()));
                        }
                        x = x.add(R);
                    }
                }
            }
            for (r, acc) in acc.into_iter().enumerate() {
                S::store_f(s.out.add(r * s.out_stride + panel * LANES), acc);
            }
        }
    }
}
