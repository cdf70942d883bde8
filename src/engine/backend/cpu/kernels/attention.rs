//! Flash attention over KV pages, and the writing of pages.
//!
//! A tile is some consecutive query rows of one sequence with all query heads of one key/value head, so that a
//! loaded key or value serves them all. A row folds the pages it sees in order: scores, running maximum and sum,
//! weighted values, all in f32. Pages are folded in blocks of [`BLOCK_PAGES`] counted from position 0, each block
//! from an empty state, and blocks are merged in order: so the work can be cut at blocks, and a row's bits depend
//! on nothing but its sequence and its position.

use std::marker::PhantomData;

use super::math::exp;
use super::vector::{Kernel, MAX_LANES, Vector};
use crate::engine::backend::PAGE_TOKENS;
use crate::engine::backend::cpu::cache::STRIP;
use crate::engine::backend::cpu::rows::Shared;

/// Pages folded into one partial result.
pub const BLOCK_PAGES: usize = 4;

/// Element type of the cache.
pub trait Element {
    /// As it lies in memory.
    type Bits: Copy + Default;
    /// # Safety
    /// `V::LANES` elements must be readable at `from`.
    unsafe fn load<V: Vector>(from: *const Self::Bits) -> V;
    /// # Safety
    /// `V::LANES` elements must be writable at `to`.
    unsafe fn store<V: Vector>(v: V, to: *mut Self::Bits);
}

/// Single precision.
pub struct F32;
/// Half precision; larger numbers than its largest become that.
pub struct F16;
/// bfloat16.
pub struct BF16;

impl Element for F32 {
    type Bits = f32;
    #[inline(always)]
    unsafe fn load<V: Vector>(from: *const f32) -> V {
        // SAFETY: the caller's promise.
        unsafe { V::load(from) }
    }
    #[inline(always)]
    unsafe fn store<V: Vector>(v: V, to: *mut f32) {
        // SAFETY: the caller's promise.
        unsafe { v.store(to) }
    }
}

impl Element for F16 {
    type Bits = u16;
    #[inline(always)]
    unsafe fn load<V: Vector>(from: *const u16) -> V {
        // SAFETY: the caller's promise.
        unsafe { V::load_f16(from) }
    }
    #[inline(always)]
    unsafe fn store<V: Vector>(v: V, to: *mut u16) {
        // SAFETY: the caller's promise.
        unsafe { v.max(V::splat(-65504.0)).min(V::splat(65504.0)).store_f16(to) }
    }
}

impl Element for BF16 {
    type Bits = u16;
    #[inline(always)]
    unsafe fn load<V: Vector>(from: *const u16) -> V {
        // SAFETY: the caller's promise.
        unsafe { V::load_bf16(from) }
    }
    #[inline(always)]
    unsafe fn store<V: Vector>(v: V, to: *mut u16) {
        // SAFETY: the caller's promise.
        unsafe { v.store_bf16(to) }
    }
}

/// What a tile computes. Pointers, because threads work on parts of the same activations and pages.
#[derive(Clone, Copy)]
pub struct Tile<'a> {
    /// The tile's first row, first head.
    pub q: *const f32,
    /// Where that row's result goes; may be `q`.
    pub out: *mut f32,
    /// Floats from a row to the next, in both.
    pub stride: usize,
    /// Query rows.
    pub rows: usize,
    /// Query heads that share the key/value head; consecutive in a row.
    pub group: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Position of the first row.
    pub position: usize,
    /// A row at `p` sees `p - window + 1 ..= p`.
    pub window: usize,
    /// Factor on `q·k`.
    pub scale: f32,
    /// Soft cap of the scaled scores.
    pub softcap: Option<f32>,
    /// First byte of each page of the sequence; of those that no row sees, anything.
    pub pages: &'a [Shared<u8>],
    /// Bytes from there to this head's keys; its values follow them.
    pub offset: usize,
}

impl Tile<'_> {
    /// Queries: every row with every head of the group.
    pub fn queries(&self) -> usize {
        self.rows * self.group
    }

    /// First position that `row` sees.
    #[inline(always)]
    fn first(&self, row: usize) -> usize {
        (self.position + row + 1).saturating_sub(self.window)
    }

    /// Blocks that some row sees.
    pub fn blocks(&self) -> std::ops::Range<usize> {
        let tokens = BLOCK_PAGES * PAGE_TOKENS;
        self.first(0) / tokens..(self.position + self.rows - 1) / tokens + 1
    }
}

/// Floats from one head's values to the next in a [`State`]: rounded up so that whole vectors can be written.
pub const fn padded(head_dim: usize) -> usize {
    head_dim.next_multiple_of(MAX_LANES)
}

/// Running softmax of some queries: maximum, sum, and weighted values `[queries][padded(head_dim)]`.
#[derive(Clone, Copy)]
pub struct State {
    largest: *mut f32,
    sum: *mut f32,
    values: *mut f32,
}

impl State {
    /// Floats a state takes.
    pub const fn floats(queries: usize, head_dim: usize) -> usize {
        queries * (2 + padded(head_dim))
    }

    /// # Safety
    /// [`State::floats`] floats must be readable and writable at `at` for as long as it is used.
    #[inline(always)]
    pub unsafe fn at(at: *mut f32, queries: usize) -> Self {
        // SAFETY: within the floats that the caller vouches for.
        unsafe { Self { largest: at, sum: at.add(queries), values: at.add(2 * queries) } }
    }
}

/// Floats of scratch that [`Attend`] needs: packed queries, scores, corrections and two states.
pub const fn scratch_floats(queries: usize, head_dim: usize) -> usize {
    queries * (head_dim + PAGE_TOKENS + 1) + 2 * State::floats(queries, head_dim)
}

/// Attention of a tile over some blocks.
pub struct Attend<'a, E> {
    tile: Tile<'a>,
    blocks: std::ops::Range<usize>,
    scratch: *mut f32,
    partials: Option<*mut f32>,
    element: PhantomData<E>,
}

impl<'a, E: Element> Attend<'a, E> {
    /// Over all blocks the tile sees, into its output.
    ///
    /// # Safety
    /// While it runs: `tile`'s queries and output must be valid for its rows and heads and touched by nobody else;
    /// every page that its rows see must be readable at `offset` for keys and values, with 64 bytes beyond; and
    /// [`scratch_floats`] floats at `scratch` must be this call's own.
    pub unsafe fn whole(tile: Tile<'a>, scratch: *mut f32) -> Self {
        Self { blocks: tile.blocks(), tile, scratch, partials: None, element: PhantomData }
    }

    /// Over one block, into a [`State`] at `partial`, for [`Combine`].
    ///
    /// # Safety
    /// As for [`whole`](Attend::whole), except that the output is not written and queries are only read; and a
    /// state of the tile's queries at `partial` must be this call's own.
    pub unsafe fn block(tile: Tile<'a>, block: usize, scratch: *mut f32, partial: *mut f32) -> Self {
        Self { blocks: block..block + 1, tile, scratch, partials: Some(partial), element: PhantomData }
    }
}

impl<E: Element> Kernel for Attend<'_, E> {
    type Output = ();
    #[inline(always)]
    fn run<V: Vector>(self) {
        let (tile, queries) = (&self.tile, self.tile.queries());
        // SAFETY: the promises made to `whole` or `block`; the scratch is cut as `scratch_floats` counts it.
        unsafe {
            let packed = self.scratch;
            let scores = packed.add(queries * tile.head_dim);
            let corrections = scores.add(queries * PAGE_TOKENS);
            let states = corrections.add(queries);
            pack_queries::<V>(tile, packed);
            if let Some(partial) = self.partials {
                let state = State::at(partial, queries);
                fold_block::<V, E>(tile, self.blocks.start, packed, scores, corrections, state);
                return;
            }
            let total = State::at(states, queries);
            let part = State::at(states.add(State::floats(queries, tile.head_dim)), queries);
            clear::<V>(total, queries, tile.head_dim);
            for block in self.blocks {
                fold_block::<V, E>(tile, block, packed, scores, corrections, part);
                merge::<V>(total, part, queries, tile.head_dim);
            }
            finish::<V>(tile, total);
        }
    }
}

/// Merges a tile's partial states, one a block, in order, and writes its output.
pub struct Combine<'a> {
    tile: Tile<'a>,
    partials: *mut f32,
}

impl<'a> Combine<'a> {
    /// # Safety
    /// `tile`'s output must be valid for its rows and heads and touched by nobody else while this runs; at
    /// `partials` must lie one finished state for each block that the tile sees, one after the other. The first is
    /// overwritten.
    pub unsafe fn new(tile: Tile<'a>, partials: *mut f32) -> Self {
        Self { tile, partials }
    }
}

impl Kernel for Combine<'_> {
    type Output = ();
    #[inline(always)]
    fn run<V: Vector>(self) {
        let (tile, queries) = (&self.tile, self.tile.queries());
        let floats = State::floats(queries, tile.head_dim);
        // SAFETY: the promises made to `new`.
        unsafe {
            let total = State::at(self.partials, queries);
            for block in 1..tile.blocks().len() {
                merge::<V>(total, State::at(self.partials.add(block * floats), queries), queries, tile.head_dim);
            }
            finish::<V>(tile, total);
        }
    }
}

/// Copies the tile's queries, times the scale, to `[queries][head_dim]`.
#[inline(always)]
unsafe fn pack_queries<V: Vector>(tile: &Tile, packed: *mut f32) {
    let width = tile.group * tile.head_dim;
    let scale = V::splat(tile.scale);
    let mut row = 0;
    while row < tile.rows {
        // SAFETY: a row's `width` floats, and as many of the scratch.
        unsafe {
            let (from, to) = (tile.q.add(row * tile.stride), packed.add(row * width));
            let mut i = 0;
            while i + V::LANES <= width {
                V::load(from.add(i)).mul(scale).store(to.add(i));
                i += V::LANES;
            }
            if i < width {
                V::load_part(from.add(i), width - i).mul(scale).store_part(to.add(i), width - i);
            }
        }
        row += 1;
    }
}

/// Makes `state` that of queries that have seen nothing.
#[inline(always)]
unsafe fn clear<V: Vector>(state: State, queries: usize, head_dim: usize) {
    let zero = V::splat(0.0);
    // SAFETY: the state's own floats; `padded` is a multiple of every LANES.
    unsafe {
        let mut i = 0;
        while i < queries {
            *state.largest.add(i) = f32::NEG_INFINITY;
            *state.sum.add(i) = 0.0;
            i += 1;
        }
        let mut i = 0;
        while i < queries * padded(head_dim) {
            zero.store(state.values.add(i));
            i += V::LANES;
        }
    }
}

/// Adds `part`, which came after, to `total`; parts of queries that saw nothing change nothing.
#[inline(always)]
unsafe fn merge<V: Vector>(total: State, part: State, queries: usize, head_dim: usize) {
    let width = padded(head_dim);
    let mut i = 0;
    // SAFETY: both states' own floats.
    unsafe {
        while i < queries {
            let (a, b) = (*total.largest.add(i), *part.largest.add(i));
            if b > f32::NEG_INFINITY {
                let largest = if a > b { a } else { b };
                let (keep, new) = (exp(V::splat(a - largest)), exp(V::splat(b - largest)));
                *total.sum.add(i) =
                    first_lane(V::splat(*total.sum.add(i)).mul(keep).add(V::splat(*part.sum.add(i)).mul(new)));
                *total.largest.add(i) = largest;
                let (to, from) = (total.values.add(i * width), part.values.add(i * width));
                let mut d = 0;
                while d < width {
                    V::load(to.add(d)).mul(keep).add(V::load(from.add(d)).mul(new)).store(to.add(d));
                    d += V::LANES;
                }
            }
            i += 1;
        }
    }
}

/// Lane 0.
#[inline(always)]
fn first_lane<V: Vector>(v: V) -> f32 {
    let mut lanes = [0.0; MAX_LANES];
    // SAFETY: no vector is longer.
    unsafe { v.store(lanes.as_mut_ptr()) };
    lanes[0]
}

/// Values over sums, to the tile's output.
#[inline(always)]
unsafe fn finish<V: Vector>(tile: &Tile, state: State) {
    let width = padded(tile.head_dim);
    let mut row = 0;
    while row < tile.rows {
        let mut head = 0;
        while head < tile.group {
            let i = row * tile.group + head;
            // SAFETY: the state's own floats and the tile's own output.
            unsafe {
                let (from, to) = (state.values.add(i * width), tile.out.add(row * tile.stride + head * tile.head_dim));
                let share = V::splat(1.0).div(V::splat(*state.sum.add(i)));
                let mut d = 0;
                while d + V::LANES <= tile.head_dim {
                    V::load(from.add(d)).mul(share).store(to.add(d));
                    d += V::LANES;
                }
                if d < tile.head_dim {
                    V::load(from.add(d)).mul(share).store_part(to.add(d), tile.head_dim - d);
                }
            }
            head += 1;
        }
        row += 1;
    }
}

/// Folds the pages of one block into a fresh `state`.
#[inline(always)]
unsafe fn fold_block<V: Vector, E: Element>(
    tile: &Tile,
    block: usize,
    packed: *const f32,
    scores: *mut f32,
    corrections: *mut f32,
    state: State,
) {
    // SAFETY: the promises made to `Attend`; only pages that a row sees are touched.
    unsafe {
        clear::<V>(state, tile.queries(), tile.head_dim);
        let mut page = block * BLOCK_PAGES;
        while page < (block + 1) * BLOCK_PAGES {
            fold_page::<V, E>(tile, page, packed, scores, corrections, state);
            page += 1;
        }
    }
}

/// What `row` sees of the page that begins at position `base`: tokens `low .. high` of it.
#[inline(always)]
fn sees(tile: &Tile, row: usize, base: usize) -> (usize, usize) {
    let low = tile.first(row).saturating_sub(base).min(PAGE_TOKENS);
    let high = (tile.position + row + 1).saturating_sub(base).min(PAGE_TOKENS);
    (low, high)
}

#[inline(always)]
unsafe fn fold_page<V: Vector, E: Element>(
    tile: &Tile,
    page: usize,
    packed: *const f32,
    scores: *mut f32,
    corrections: *mut f32,
    state: State,
) {
    let base = page * PAGE_TOKENS;
    // Rows before `from` are older than the page; rows from `to` on have slid past it.
    let from = base.saturating_sub(tile.position).min(tile.rows);
    let mut to = tile.rows;
    while to > from && sees(tile, to - 1, base).0 == PAGE_TOKENS {
        to -= 1;
    }
    if from >= to {
        return;
    }
    let (group, head_dim) = (tile.group, tile.head_dim);
    let queries = (to - from) * group;
    // SAFETY: rows `from .. to` see some of this page, so it exists; `packed`, `scores`, `corrections` and `state`
    // hold the tile's queries.
    unsafe {
        let keys = tile.pages[page].get().cast_const().add(tile.offset).cast::<E::Bits>();
        let values = keys.add(head_dim * PAGE_TOKENS);
        let first = from * group;
        let packed = packed.add(first * head_dim);
        score::<V, E>(packed, head_dim, keys, scores.add(first * PAGE_TOKENS), queries);
        let mut row = from;
        while row < to {
            let (low, high) = sees(tile, row, base);
            let mut i = row * group;
            while i < (row + 1) * group {
                let (largest, sum) = (&mut *state.largest.add(i), &mut *state.sum.add(i));
                *corrections.add(i) = weigh::<V>(scores.add(i * PAGE_TOKENS), low, high, tile.softcap, largest, sum);
                i += 1;
            }
            row += 1;
        }
        // Rows that see the same tokens of the page share its values: in most pages, that is all of them.
        let mut row = from;
        while row < to {
            let (low, high) = sees(tile, row, base);
            let mut end = row + 1;
            while end < to && sees(tile, end, base) == (low, high) {
                end += 1;
            }
            let (first, count) = (row * group, (end - row) * group);
            accumulate::<V, E>(
                scores.add(first * PAGE_TOKENS),
                corrections.add(first),
                values,
                low..high,
                head_dim,
                state.values.add(first * padded(head_dim)),
                count,
            );
            row = end;
        }
    }
}

/// Turns one query's scores of a page into weights `e^(score - largest)`, 0 outside `low .. high`; updates the
/// running maximum and sum and returns the factor that what was folded before must shrink by.
#[inline(always)]
unsafe fn weigh<V: Vector>(
    scores: *mut f32,
    low: usize,
    high: usize,
    softcap: Option<f32>,
    largest: &mut f32,
    sum: &mut f32,
) -> f32 {
    let hidden = V::splat(f32::NEG_INFINITY);
    let whole = low == 0 && high == PAGE_TOKENS;
    let mut top = hidden;
    let mut t = 0;
    while t < PAGE_TOKENS {
        // SAFETY: a page's PAGE_TOKENS scores, a multiple of every LANES.
        unsafe {
            let mut s = V::load(scores.add(t));
            if let Some(cap) = softcap {
                s = super::elementwise::softcap_vector(s, cap);
            }
            if !whole {
                let token = V::load(TOKENS.as_ptr().add(t));
                s = token.select_less(V::splat(low as f32), hidden, s);
                s = token.select_less(V::splat(high as f32), s, hidden);
            }
            s.store(scores.add(t));
            top = s.max(top);
        }
        t += V::LANES;
    }
    let top = top.largest();
    let top = if top > *largest { top } else { *largest };
    let shift = V::splat(top);
    let mut total = V::splat(0.0);
    let mut t = 0;
    while t < PAGE_TOKENS {
        // SAFETY: as above.
        unsafe {
            let weight = exp(V::load(scores.add(t)).sub(shift));
            weight.store(scores.add(t));
            total = total.add(weight);
        }
        t += V::LANES;
    }
    let correction = first_lane(exp(V::splat(*largest - top)));
    *largest = top;
    *sum = *sum * correction + total.sum();
    correction
}

/// 0, 1, 2, …: a token's place in its page.
static TOKENS: [f32; PAGE_TOKENS] = {
    let mut tokens = [0.0; PAGE_TOKENS];
    let mut i = 0;
    while i < PAGE_TOKENS {
        tokens[i] = i as f32;
        i += 1;
    }
    tokens
};

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
unsafe fn score<V: Vector, E: Element>(
    packed: *const f32,
    head_dim: usize,
    keys: *const E::Bits,
    scores: *mut f32,
    queries: usize,
) {
    // SAFETY: the caller's queries, keys and scores.
    unsafe {
        by_queries!(queries, |at, M| {
            let (a, out) = (packed.add(at * head_dim), scores.add(at * PAGE_TOKENS));
            if V::LANES == 8 {
                score_strips::<V, E, M, 2>(a, head_dim, keys, out);
            } else {
                score_strips::<V, E, M, 4>(a, head_dim, keys, out);
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
) {
    let mut t = 0;
    while t < PAGE_TOKENS {
        // SAFETY: `t .. t + W * LANES` are tokens of the page; the caller vouches for M queries and their scores.
        unsafe {
            let mut acc = [[V::splat(0.0); W]; M];
            multiply::<V, E, M, W>(a, head_dim, keys.add(t), PAGE_TOKENS, head_dim, &mut acc);
            store_strip(&acc, out.add(t), PAGE_TOKENS);
        }
        t += W * V::LANES;
    }
}

/// `state[i] = state[i] * corrections[i] + sum over tokens t of weights[i][t] * values[t]`.
#[inline(always)]
unsafe fn accumulate<V: Vector, E: Element>(
    weights: *const f32,
    corrections: *const f32,
    values: *const E::Bits,
    tokens: std::ops::Range<usize>,
    head_dim: usize,
    state: *mut f32,
    queries: usize,
) {
    let mut strip = 0;
    while strip < head_dim {
        let width = if head_dim - strip < STRIP { head_dim - strip } else { STRIP };
        // SAFETY: the strip's values begin after those before it, all of PAGE_TOKENS tokens. A vector that reaches
        // past `width` reads what lies behind (pages have room at their end) into lanes that `padded` makes room
        // for and nobody reads.
        unsafe {
            let b = values.add(strip * PAGE_TOKENS + tokens.start * width);
            let depth = tokens.end - tokens.start;
            let stride = padded(head_dim);
            by_queries!(queries, |at, M| {
                let (a, c) = (weights.add(at * PAGE_TOKENS + tokens.start), corrections.add(at));
                let to = state.add(at * stride + strip);
                let mut d = 0;
                if V::LANES == 8 {
                    while d + 2 * V::LANES <= width {
                        accumulate_strip::<V, E, M, 2>(a, c, b.add(d), width, depth, to.add(d), stride);
                        d += 2 * V::LANES;
                    }
                } else {
                    while d + 4 * V::LANES <= width {
                        accumulate_strip::<V, E, M, 4>(a, c, b.add(d), width, depth, to.add(d), stride);
                        d += 4 * V::LANES;
                    }
                }
                while d < width {
                    accumulate_strip::<V, E, M, 1>(a, c, b.add(d), width, depth, to.add(d), stride);
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
    corrections: *const f32,
    values: *const E::Bits,
    width: usize,
    depth: usize,
    state: *mut f32,
    stride: usize,
) {
    // SAFETY: as for `accumulate`.
    unsafe {
        let mut acc = [[V::splat(0.0); W]; M];
        let mut m = 0;
        while m < M {
            let correction = V::splat(*corrections.add(m));
            let mut w = 0;
            while w < W {
                acc[m][w] = V::load(state.add(m * stride + w * V::LANES)).mul(correction);
                w += 1;
            }
            m += 1;
        }
        multiply::<V, E, M, W>(weights, PAGE_TOKENS, values, width, depth, &mut acc);
        store_strip(&acc, state, stride);
    }
}

/// `acc[m] += sum over k of a[m * a_stride + k] * b[k * b_stride ..]`, `k` in order: the one inner loop of both
/// passes.
#[inline(always)]
unsafe fn multiply<V: Vector, E: Element, const M: usize, const W: usize>(
    a: *const f32,
    a_stride: usize,
    b: *const E::Bits,
    b_stride: usize,
    depth: usize,
    acc: &mut [[V; W]; M],
) {
    let mut sums = *acc;
    let mut k = 0;
    while k < depth {
        // SAFETY: the caller vouches for M rows of `a` and `depth` rows of `b`, W vectors wide.
        unsafe {
            let row = b.add(k * b_stride);
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

/// Writes one token's keys and values of one head.
pub struct Write<E> {
    k: *const f32,
    v: *const f32,
    head: *mut u8,
    head_dim: usize,
    token: usize,
    element: PhantomData<E>,
}

impl<E: Element> Write<E> {
    /// # Safety
    /// `head_dim` floats must be readable at `k` and `v`; at `head` must begin a head's keys in a page, followed by
    /// its values, touched by nobody else while this runs. `token` is a place in the page.
    pub unsafe fn new(k: *const f32, v: *const f32, head: *mut u8, head_dim: usize, token: usize) -> Self {
        Self { k, v, head, head_dim, token, element: PhantomData }
    }
}

impl<E: Element> Kernel for Write<E> {
    type Output = ();
    #[inline(always)]
    fn run<V: Vector>(self) {
        let (head_dim, token) = (self.head_dim, self.token);
        let mut bits = [E::Bits::default(); MAX_LANES];
        // SAFETY: the promises made to `new`: dimension `d`'s key of a token lies at `d * PAGE_TOKENS + token`, its
        // value in the strip of `d`, at `token * width + d % STRIP`.
        unsafe {
            let keys = self.head.cast::<E::Bits>();
            let values = keys.add(head_dim * PAGE_TOKENS);
            let mut d = 0;
            while d < head_dim {
                let count = if head_dim - d < V::LANES { head_dim - d } else { V::LANES };
                E::store(V::load_part(self.k.add(d), count), bits.as_mut_ptr());
                let mut i = 0;
                while i < count {
                    *keys.add((d + i) * PAGE_TOKENS + token) = bits[i];
                    i += 1;
                }
                E::store(V::load_part(self.v.add(d), count), bits.as_mut_ptr());
                let strip = d - d % STRIP;
                let width = if head_dim - strip < STRIP { head_dim - strip } else { STRIP };
                let to = values.add(strip * PAGE_TOKENS + token * width + d % STRIP);
                std::ptr::copy_nonoverlapping(bits.as_ptr(), to, count);
                d += V::LANES;
            }
        }
    }
}
