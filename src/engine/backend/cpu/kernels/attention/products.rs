//! The two products of attention over one page: queries with keys, weights with values. Every element is one chain of
//! multiply-adds in the order of the dimensions, or of the tokens, so how queries are taken together changes no bit.

use super::page::Element;
use super::{BLOCK_TOKENS, padded};
use crate::engine::backend::PAGE_TOKENS;
use crate::engine::backend::cpu::cache::STRIP;
use crate::engine::backend::cpu::kernels::vector::{Vector, prefetch};

/// Calls `$call` with constant `M` for stretches of 6, 4, 2 and 1 of `$count` queries, `$at` being the first.
macro_rules! by_queries {
    ($count:expr, |$at:ident, $m:ident| $call:expr) => {{
        let (mut $at, count) = (0, $count);
        while count - $at >= 6 {
            const $m: usize = 6;
            $call;
            $at += 6;
        }
        if count - $at >= 4 {
            const $m: usize = 4;
            $call;
            $at += 4;
        }
        if count - $at >= 2 {
            const $m: usize = 2;
            $call;
            $at += 2;
        }
        if count > $at {
            const $m: usize = 1;
            $call;
        }
    }};
}

/// `scores[i][t] = queries[i] · keys[..][t]` for all tokens of a page.
#[inline(always)]
pub unsafe fn score<V: Vector, E: Element>(
    packed: *const f32,
    head_dim: usize,
    keys: *const E::Bits,
    scores: *mut f32,
    queries: usize,
    ahead: isize,
) {
    // SAFETY: the caller's queries, keys and scores.
    unsafe {
        by_queries!(queries, |at, M| {
            let (a, out) = (packed.add(at * head_dim), scores.add(at * BLOCK_TOKENS));
            let next = if at == 0 { ahead } else { 0 };
            if V::LANES == 8 {
                score_strips::<V, E, M, 2>(a, head_dim, keys, out, next);
            } else {
                score_strips::<V, E, M, 4>(a, head_dim, keys, out, next);
            }
        });
    }
}

#[inline(always)]
unsafe fn score_strips<V: Vector, E: Element, const M: usize, const W: usize>(
    a: *const f32,
    head_dim: usize,
    keys: *const E::Bits,
    out: *mut f32,
    ahead: isize,
) {
    let mut t = 0;
    while t < PAGE_TOKENS {
        // SAFETY: `t .. t + W * LANES` are tokens of the page; the caller vouches for M queries and their scores.
        unsafe {
            let mut acc = [[V::splat(0.0); W]; M];
            multiply::<V, E, M, W>(a, head_dim, keys.add(t), PAGE_TOKENS, head_dim, ahead, &mut acc);
            store_strip(&acc, out.add(t), BLOCK_TOKENS);
        }
        t += W * V::LANES;
    }
}

/// Some queries' share of a page's values.
pub struct Part {
    /// Of the page's first token; queries are BLOCK_TOKENS apart.
    pub weights: *const f32,
    /// Tokens that all of them see.
    pub tokens: std::ops::Range<usize>,
    /// `[queries][padded(head_dim)]`.
    pub state: *mut f32,
    /// How many.
    pub queries: usize,
    /// As for [`multiply`].
    pub ahead: isize,
}

/// `state[i] += sum over tokens t of weights[i][t] * values[t]`.
#[inline(always)]
pub unsafe fn accumulate<V: Vector, E: Element>(part: Part, values: *const E::Bits, head_dim: usize) {
    let (depth, stride) = (part.tokens.len(), padded(head_dim));
    let mut strip = 0;
    while strip < head_dim {
        let width = if head_dim - strip < STRIP { head_dim - strip } else { STRIP };
        // SAFETY: the strip's values begin after those before it, all of PAGE_TOKENS tokens. A vector that reaches
        // past `width` reads what lies behind (pages have room at their end) into lanes that `padded` makes room
        // for and nobody reads.
        unsafe {
            let b = values.add(strip * PAGE_TOKENS + part.tokens.start * width);
            by_queries!(part.queries, |at, M| {
                let a = part.weights.add(at * BLOCK_TOKENS + part.tokens.start);
                let to = part.state.add(at * stride + strip);
                let ahead = if at == 0 { part.ahead } else { 0 };
                let mut d = 0;
                if V::LANES == 8 {
                    while d + 2 * V::LANES <= width {
                        accumulate_strip::<V, E, M, 2>(a, b.add(d), width, depth, ahead, to.add(d), stride);
                        d += 2 * V::LANES;
                    }
                } else {
                    while d + 4 * V::LANES <= width {
                        accumulate_strip::<V, E, M, 4>(a, b.add(d), width, depth, ahead, to.add(d), stride);
                        d += 4 * V::LANES;
                    }
                }
                while d < width {
                    accumulate_strip::<V, E, M, 1>(a, b.add(d), width, depth, ahead, to.add(d), stride);
                    d += V::LANES;
                }
            });
        }
        strip += STRIP;
    }
}

#[inline(always)]
unsafe fn accumulate_strip<V: Vector, E: Element, const M: usize, const W: usize>(
    weights: *const f32,
    values: *const E::Bits,
    width: usize,
    depth: usize,
    ahead: isize,
    state: *mut f32,
    stride: usize,
) {
    // SAFETY: as for `accumulate`.
    unsafe {
        let mut acc = [[V::splat(0.0); W]; M];
        let mut m = 0;
        while m < M {
            let mut w = 0;
            while w < W {
                acc[m][w] = V::load(state.add(m * stride + w * V::LANES));
                w += 1;
            }
            m += 1;
        }
        multiply::<V, E, M, W>(weights, BLOCK_TOKENS, values, width, depth, ahead, &mut acc);
        store_strip(&acc, state, stride);
    }
}

/// `acc[m] += sum over k of a[m * a_stride + k] * b[k * b_stride ..]`, `k` in order: the one inner loop of both
/// passes. What lies `ahead` bytes after each row of `b` is fetched for later, unless that is 0.
#[inline(always)]
unsafe fn multiply<V: Vector, E: Element, const M: usize, const W: usize>(
    a: *const f32,
    a_stride: usize,
    b: *const E::Bits,
    b_stride: usize,
    depth: usize,
    ahead: isize,
    acc: &mut [[V; W]; M],
) {
    let mut sums = *acc;
    let mut k = 0;
    while k < depth {
        // SAFETY: the caller vouches for M rows of `a` and `depth` rows of `b`, W vectors wide.
        unsafe {
            let row = b.add(k * b_stride);
            if ahead != 0 {
                let next = row.wrapping_byte_offset(ahead);
                let mut byte = 0;
                while byte < W * V::LANES * size_of::<E::Bits>() {
                    prefetch(next.wrapping_byte_add(byte));
                    byte += 64;
                }
            }
            let mut vectors = [V::splat(0.0); W];
            let mut w = 0;
            while w < W {
                vectors[w] = E::load::<V>(row.add(w * V::LANES));
                w += 1;
            }
            let mut m = 0;
            while m < M {
                let x = V::splat(*a.add(m * a_stride + k));
                let mut w = 0;
                while w < W {
                    sums[m][w] = vectors[w].mul_add(x, sums[m][w]);
                    w += 1;
                }
                m += 1;
            }
        }
        k += 1;
    }
    *acc = sums;
}

#[inline(always)]
unsafe fn store_strip<V: Vector, const M: usize, const W: usize>(acc: &[[V; W]; M], to: *mut f32, stride: usize) {
    let mut m = 0;
    while m < M {
        let mut w = 0;
        while w < W {
            // SAFETY: the caller vouches for M rows of W vectors.
            unsafe { acc[m][w].store(to.add(m * stride + w * V::LANES)) };
            w += 1;
        }
        m += 1;
    }
}
