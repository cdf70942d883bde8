//! Flash attention over KV pages.
//!
//! A tile is some consecutive query rows of one sequence with all query heads of one key/value head, so that a
//! loaded key or value serves them all. The cache is folded in blocks of [`BLOCK_PAGES`] pages, counted from position
//! 0: scores of the block, their maximum, weights and their sum, weighted values, all in f32. Blocks are merged in
//! order as partial softmaxes are. So the work can be cut at blocks, and a row's bits depend on nothing but its
//! sequence and its position.

use std::marker::PhantomData;
use std::ops::Range;

pub mod page;
mod products;

use self::page::Element;
use self::products::{Part, accumulate, score};
use super::elementwise;
use super::math::exp;
use super::vector::{Kernel, MAX_LANES, Vector};
use crate::engine::backend::PAGE_TOKENS;
use crate::engine::backend::cpu::rows::Shared;

/// Pages folded into one partial result.
pub const BLOCK_PAGES: usize = 4;
const BLOCK_TOKENS: usize = BLOCK_PAGES * PAGE_TOKENS;
/// Queries that share values at the edges of what their rows see.
const EDGE_QUERIES: usize = 6;

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
    pub fn blocks(&self) -> Range<usize> {
        self.first(0) / BLOCK_TOKENS..(self.position + self.rows - 1) / BLOCK_TOKENS + 1
    }
}

/// Floats from one head's values to the next in a [`State`]: rounded up so that whole vectors can be written.
pub const fn padded(head_dim: usize) -> usize {
    head_dim.next_multiple_of(MAX_LANES)
}

/// Softmax of some queries over some tokens: maximum, sum of weights, and weighted values `[queries][padded(head_dim)]`.
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

/// Floats of scratch that [`Attend`] needs, its two states included.
pub const fn scratch_floats(queries: usize, head_dim: usize) -> usize {
    Scratch::floats(queries, head_dim) + 2 * State::floats(queries, head_dim)
}

/// What a tile works with while it folds a block.
struct Scratch {
    /// The tile's queries, times the scale: `[queries][head_dim]`.
    queries: *mut f32,
    /// Scores, then weights: `[queries][BLOCK_TOKENS]`.
    scores: *mut f32,
}

impl Scratch {
    const fn floats(queries: usize, head_dim: usize) -> usize {
        queries * (head_dim + BLOCK_TOKENS)
    }

    /// Cuts [`scratch_floats`] floats into scratch and the rest.
    unsafe fn cut(at: *mut f32, queries: usize, head_dim: usize) -> (Self, *mut f32) {
        // SAFETY: the caller vouches for the floats.
        unsafe { (Self { queries: at, scores: at.add(queries * head_dim) }, at.add(Self::floats(queries, head_dim))) }
    }
}

/// Attention of a tile over some blocks.
pub struct Attend<'a, E> {
    tile: Tile<'a>,
    blocks: Range<usize>,
    scratch: *mut f32,
    partial: Option<*mut f32>,
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
        Self { blocks: tile.blocks(), tile, scratch, partial: None, element: PhantomData }
    }

    /// Over one block, into a [`State`] at `partial`, for [`Combine`].
    ///
    /// # Safety
    /// As for [`whole`](Attend::whole), except that the output is not written and queries are only read; and a
    /// state of the tile's queries at `partial` must be this call's own.
    pub unsafe fn block(tile: Tile<'a>, block: usize, scratch: *mut f32, partial: *mut f32) -> Self {
        Self { blocks: block..block + 1, tile, scratch, partial: Some(partial), element: PhantomData }
    }
}

impl<E: Element> Kernel for Attend<'_, E> {
    type Output = ();
    #[inline(always)]
    fn run<V: Vector>(self) {
        let (tile, queries) = (&self.tile, self.tile.queries());
        // SAFETY: the promises made to `whole` or `block`; the scratch is cut as `scratch_floats` counts it.
        unsafe {
            let (scratch, states) = Scratch::cut(self.scratch, queries, tile.head_dim);
            pack_queries::<V>(tile, scratch.queries);
            let total = State::at(self.partial.unwrap_or(states), queries);
            let next = State::at(states.add(State::floats(queries, tile.head_dim)), queries);
            let mut state = total;
            for block in self.blocks {
                fold_block::<V, E>(tile, block, &scratch, state);
                if state.values != total.values {
                    merge::<V>(total, state, queries, tile.head_dim);
                }
                state = next;
            }
            if self.partial.is_none() {
                finish::<V>(tile, total);
            }
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

/// Adds `part`, which came after, to `total`; parts of queries that saw nothing change nothing.
#[inline(always)]
unsafe fn merge<V: Vector>(total: State, part: State, queries: usize, head_dim: usize) {
    let width = padded(head_dim);
    let mut i = 0;
    // SAFETY: both states' own floats.
    unsafe {
        while i < queries {
            let (a, b) = (*total.largest.add(i), *part.largest.add(i));
            let (to, from) = (total.values.add(i * width), part.values.add(i * width));
            if a == f32::NEG_INFINITY {
                (*total.largest.add(i), *total.sum.add(i)) = (b, *part.sum.add(i));
                std::ptr::copy_nonoverlapping(from, to, width);
            } else if b > f32::NEG_INFINITY {
                let largest = if a > b { a } else { b };
                let (keep, new) = (exp(V::splat(a - largest)), exp(V::splat(b - largest)));
                *total.sum.add(i) =
                    first_lane(V::splat(*total.sum.add(i)).mul(keep).add(V::splat(*part.sum.add(i)).mul(new)));
                *total.largest.add(i) = largest;
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

/// What `row` sees of `tokens` positions from `base` on: `low .. high` of them.
#[inline(always)]
fn sees(tile: &Tile, row: usize, base: usize, tokens: usize) -> (usize, usize) {
    let low = tile.first(row).saturating_sub(base).min(tokens);
    let high = (tile.position + row + 1).saturating_sub(base).min(tokens);
    (low, high)
}

/// The rows that see some of a page.
#[inline(always)]
fn rows_seeing(tile: &Tile, page: usize) -> Range<usize> {
    let base = page * PAGE_TOKENS;
    // Rows before are older than the page; the last rows may have slid past it.
    let from = base.saturating_sub(tile.position).min(tile.rows);
    let mut to = tile.rows;
    while to > from && sees(tile, to - 1, base, PAGE_TOKENS).0 == PAGE_TOKENS {
        to -= 1;
    }
    from..to
}

/// Attention over one block: `state` becomes what its pages amount to, for each of the tile's queries.
#[inline(always)]
unsafe fn fold_block<V: Vector, E: Element>(tile: &Tile, block: usize, scratch: &Scratch, state: State) {
    let (group, head_dim) = (tile.group, tile.head_dim);
    // The pages of the block that some row sees.
    let first = (block * BLOCK_PAGES).max(tile.first(0) / PAGE_TOKENS);
    let end = ((block + 1) * BLOCK_PAGES).min((tile.position + tile.rows - 1) / PAGE_TOKENS + 1);
    let keys = |page: usize| tile.pages[page].get().cast_const().wrapping_add(tile.offset).cast::<E::Bits>();
    let values = |page: usize| keys(page).wrapping_add(head_dim * PAGE_TOKENS);
    // While keys or values of a page are read, those that come next are on their way.
    let distance = |from: *const E::Bits, to: *const E::Bits| to.addr().wrapping_sub(from.addr()) as isize;
    // SAFETY: rows are shown only tokens of pages that they see, which therefore exist; the scratch and the state
    // hold the tile's queries.
    unsafe {
        let mut page = first;
        while page < end {
            let rows = rows_seeing(tile, page);
            let (at, queries) = (rows.start * group, rows.len() * group);
            let from = scratch.queries.add(at * head_dim);
            let to = scratch.scores.add(at * BLOCK_TOKENS + page % BLOCK_PAGES * PAGE_TOKENS);
            let next = if page + 1 < end { keys(page + 1) } else { values(first) };
            let ahead = distance(keys(page), next);
            score::<V, E>(from, head_dim, keys(page), to, queries, ahead);
            page += 1;
        }
        let mut row = 0;
        while row < tile.rows {
            let (low, high) = sees(tile, row, block * BLOCK_TOKENS, BLOCK_TOKENS);
            let mut i = row * group;
            while i < (row + 1) * group {
                let scores = scratch.scores.add(i * BLOCK_TOKENS);
                (*state.largest.add(i), *state.sum.add(i)) = weigh::<V>(scores, low, high, tile.softcap);
                i += 1;
            }
            row += 1;
        }
        clear::<V>(state.values, tile.queries() * padded(head_dim));
        let mut page = first;
        while page < end {
            let rows = rows_seeing(tile, page);
            let next = match page + 1 {
                next if next < end => values(next),
                next if next < tile.pages.len() => keys(next),
                _ => values(page),
            };
            let ahead = distance(values(page), next);
            add_values::<V, E>(tile, rows, page, values(page), ahead, scratch, state);
            page += 1;
        }
    }
}

#[inline(always)]
unsafe fn clear<V: Vector>(to: *mut f32, count: usize) {
    let mut i = 0;
    while i < count {
        // SAFETY: the caller's floats, a multiple of every LANES.
        unsafe { V::splat(0.0).store(to.add(i)) };
        i += V::LANES;
    }
}

/// Adds the weighted values of a page to the states of `rows`. Rows that see the same tokens share every load; at
/// the edges of what is seen, a few rows share the tokens that all of them see.
#[inline(always)]
unsafe fn add_values<V: Vector, E: Element>(
    tile: &Tile,
    rows: Range<usize>,
    page: usize,
    values: *const E::Bits,
    ahead: isize,
    scratch: &Scratch,
    state: State,
) {
    let (group, head_dim, base) = (tile.group, tile.head_dim, page * PAGE_TOKENS);
    let mut ahead = ahead;
    let mut row = rows.start;
    while row < rows.end {
        let seen = sees(tile, row, base, PAGE_TOKENS);
        let mut end = row + 1;
        while end < rows.end && sees(tile, end, base, PAGE_TOKENS) == seen {
            end += 1;
        }
        let mut common = seen.0..seen.1;
        if end == row + 1 {
            // Later rows begin and end no earlier.
            let last = (row + EDGE_QUERIES / group).min(rows.end).max(row + 1) - 1;
            let low = sees(tile, last, base, PAGE_TOKENS).0;
            if low < seen.1 {
                (end, common) = (last + 1, low..seen.1);
            }
        }
        // SAFETY: the caller's rows and page; each row sees the tokens it is given, in order.
        unsafe {
            let part = |rows: Range<usize>, tokens: Range<usize>, ahead: isize| Part {
                weights: scratch.scores.add(rows.start * group * BLOCK_TOKENS + page % BLOCK_PAGES * PAGE_TOKENS),
                tokens,
                state: state.values.add(rows.start * group * padded(head_dim)),
                queries: rows.len() * group,
                ahead,
            };
            let mut r = row;
            while r < end {
                let low = sees(tile, r, base, PAGE_TOKENS).0;
                if low < common.start {
                    accumulate::<V, E>(part(r..r + 1, low..common.start, 0), values, head_dim);
                }
                r += 1;
            }
            accumulate::<V, E>(part(row..end, common.clone(), ahead), values, head_dim);
            let mut r = row;
            while r < end {
                let high = sees(tile, r, base, PAGE_TOKENS).1;
                if high > common.end {
                    accumulate::<V, E>(part(r..r + 1, common.end..high, 0), values, head_dim);
                }
                r += 1;
            }
        }
        ahead = 0;
        row = end;
    }
}

/// Turns one query's scores of a block's tokens `low .. high` into weights `e^(score - largest)`, with 0 around
/// them; returns the largest score and the sum of weights.
#[inline(always)]
unsafe fn weigh<V: Vector>(scores: *mut f32, low: usize, high: usize, softcap: Option<f32>) -> (f32, f32) {
    if low >= high {
        return (f32::NEG_INFINITY, 0.0);
    }
    let (from, to) = (low / PAGE_TOKENS * PAGE_TOKENS, high.next_multiple_of(PAGE_TOKENS));
    // SAFETY: whole pages' scores, which are a multiple of CHAINS vectors for every LANES.
    unsafe {
        if let Some(cap) = softcap {
            let mut t = from;
            while t < to {
                elementwise::softcap_vector(V::load(scores.add(t)), cap).store(scores.add(t));
                t += V::LANES;
            }
        }
        let hidden = V::splat(f32::NEG_INFINITY);
        if low > from || high < to {
            let (low, high) = (V::splat(low as f32), V::splat(high as f32));
            let mut t = from;
            while t < to {
                let token = V::load(TOKENS.as_ptr().add(t));
                let seen = token.select_less(low, hidden, V::load(scores.add(t)));
                token.select_less(high, seen, hidden).store(scores.add(t));
                t += V::LANES;
            }
        }
        let mut tops = [hidden; CHAINS];
        let mut t = from;
        while t < to {
            let mut c = 0;
            while c < CHAINS {
                tops[c] = V::load(scores.add(t + c * V::LANES)).max(tops[c]);
                c += 1;
            }
            t += CHAINS * V::LANES;
        }
        let largest = tops[0].max(tops[1]).max(tops[2].max(tops[3])).largest();
        let shift = V::splat(largest);
        let mut sums = [V::splat(0.0); CHAINS];
        let mut t = from;
        while t < to {
            let mut c = 0;
            while c < CHAINS {
                let at = scores.add(t + c * V::LANES);
                let weight = exp(V::load(at).sub(shift));
                weight.store(at);
                sums[c] = sums[c].add(weight);
                c += 1;
            }
            t += CHAINS * V::LANES;
        }
        (largest, sums[0].add(sums[1]).add(sums[2].add(sums[3])).sum())
    }
}

/// Accumulators of a row of scores; with the vector's width this fixes the order of the adds.
const CHAINS: usize = 4;

/// 0, 1, 2, …: a token's place in its block.
static TOKENS: [f32; BLOCK_TOKENS] = {
    let mut tokens = [0.0; BLOCK_TOKENS];
    let mut i = 0;
    while i < BLOCK_TOKENS {
        tokens[i] = i as f32;
        i += 1;
    }
    tokens
};
