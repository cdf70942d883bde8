//! Activations packed for the micro-kernels: a block of up to eight rows lies `[step][row]`, a word a step.
//!
//! A word holds what one lane of a panel's vector holds: four bytes, two bf16, or one float.

use super::lanes::{LANES, Lanes, Rows, WORDS};

/// Row to bytes: for each of `groups` groups of `group` columns, `scale = absmax / 127` and
/// `q = round_ties_even(x * (127 / absmax))`; `scales[g * stride] = [scale, scale * Σ q]`. Within each sixteen
/// columns, byte `i` of `out` is column `order[i]`. A group with a NaN or an infinity gets a scale that makes every
/// product with it NaN.
#[inline(always)]
pub unsafe fn quantise<S: Lanes>(
    x: *const f32,
    groups: usize,
    group: usize,
    order: &[u8; 16],
    out: *mut u8,
    scales: *mut [f32; 2],
    stride: usize,
) {
    /// Adding it leaves a float below 2²² rounded to an integer in the low bits, ties to even.
    const ROUND: f32 = 12_582_912.0;
    for g in 0..groups {
        let from = g * group;
        // SAFETY: the caller vouches for `groups * group` floats and bytes and `groups` strided scales; `group` is a
        // multiple of 16.
        unsafe {
            let mut largest = S::splat_i(0);
            for c in (from..from + group).step_by(LANES) {
                // As integers, magnitudes of floats order the same way, and NaN is above infinity.
                let magnitude = S::and(S::load_i(x.add(c).cast()), S::splat_i(0x7fff_ffff));
                largest = S::max_u(largest, magnitude);
            }
            let absmax = f32::from_bits(S::reduce_max_u(largest));
            let inverse = 127.0 / absmax;
            // Zero and what is too small to invert.
            let inverse = if inverse == f32::INFINITY { 0.0 } else { inverse };
            let mut sum = S::splat_i(0);
            for c in (from..from + group).step_by(LANES) {
                let scaled = S::mul(S::load_f(x.add(c)), S::splat_f(inverse));
                let rounded = S::cast_i(S::add(scaled, S::splat_f(ROUND)));
                let q = S::sub_i(rounded, S::splat_i(ROUND.to_bits()));
                sum = S::add_i(sum, q);
                S::store_bytes(out.add(c), q, order);
            }
            let scale = absmax / 127.0;
            scales.add(g * stride).write([scale, scale * S::reduce_add(sum) as f32]);
        }
    }
}

/// Row to bf16, rounded to nearest, ties to even; an odd last column is filled up with 0. Writes
/// `columns.next_multiple_of(2)` halves.
#[inline(always)]
pub unsafe fn halves(x: *const f32, columns: usize, out: *mut u16) {
    // SAFETY: the caller vouches for both.
    let (x, out) = unsafe {
        let out = std::slice::from_raw_parts_mut(out, columns.next_multiple_of(2));
        (std::slice::from_raw_parts(x, columns), out)
    };
    for (x, out) in x.iter().zip(out.iter_mut()) {
        let bits = x.to_bits();
        let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
        *out = if x.is_nan() { 0x7fc0 } else { rounded as u16 };
    }
    if columns % 2 == 1 {
        out[columns] = 0;
    }
}

/// Row of floats with each sixteen columns put in `order`; `columns` is a multiple of 16.
#[inline(always)]
pub unsafe fn reorder(x: *const f32, columns: usize, order: &[u8; 16], out: *mut f32) {
    // SAFETY: the caller vouches for both.
    let (x, out) = unsafe { (std::slice::from_raw_parts(x, columns), std::slice::from_raw_parts_mut(out, columns)) };
    for (x, out) in x.chunks_exact(16).zip(out.chunks_exact_mut(16)) {
        for (out, from) in out.iter_mut().zip(order) {
            *out = x[usize::from(*from & 15)];
        }
    }
}

/// `R` rows of `steps` words to `[steps][R]`. Writes [`SLACK`] words past that.
#[inline(always)]
pub unsafe fn interleave<S: Lanes>(rows: &Rows, r: usize, steps: usize, mut out: *mut u32) {
    let mut at = 0;
    while at < steps {
        let now = (steps - at).min(WORDS);
        // SAFETY: `now` words of each row are inside the `steps` the caller vouches for. Vectors are stored in
        // ascending order, each over the surplus lanes of the one before; the last one's go into the slack.
        unsafe {
            let words = S::transpose(rows, at * 4, now * 4);
            for (w, word) in words.into_iter().enumerate() {
                if w < now {
                    S::store_i(out, word);
                    out = out.add(r);
                }
            }
        }
        at += now;
    }
}

/// Words that [`interleave`] may write past a block.
pub const SLACK: usize = LANES;
