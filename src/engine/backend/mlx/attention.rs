//! Attention over the pages with MLX's fused operation. Sequences of a step are put side by side in a few batches of
//! similar lengths, so that the number of graph nodes does not depend on the number of sequences.

use mlx_rs::fast::ScaledDotProductAttentionMask as FastMask;
use mlx_rs::{Array, Dtype, fast, ops};

use super::array::{done, from_host, size, slice};
use super::cache::{Cache, Layer, Slots};
use crate::engine::backend::{AttentionParams, PAGE_TOKENS, Segment};
use crate::engine::error::Result;

/// How a step's sequences meet one layer group: worked out once, used by every layer of it.
#[derive(Debug)]
pub struct Plan {
    group: usize,
    window: Option<usize>,
    segments: Vec<Segment>,
    slots: Slots,
    /// Zeros to write behind the rows: the rest of pages that the step begins. Pages hold what their last user left,
    /// and a NaN among masked values would spoil the sum.
    tail: usize,
    batches: Vec<Batch>,
    /// Which of the batches' rows, one after the other, is the step's row `i`; `None` where they lie so.
    order: Option<Array>,
    /// For kernels of our own: see `cuda/place.cu` and `cuda/attend.cu`.
    pub lists: Lists,
}

/// What kernels look up.
#[derive(Debug)]
pub struct Lists {
    /// The number of rows, their positions, their slots, and the slots to be zeroed.
    pub at: Array,
    /// The sequence of each row.
    pub owners: Array,
    /// Pages a sequence, then the first slots of each sequence's pages.
    pub tables: Array,
    /// Slots to be zeroed.
    pub tail: usize,
    /// Most rows of one sequence.
    pub most_rows: usize,
    /// Most keys that a row sees.
    pub most_keys: usize,
}

/// Sequences computed side by side, padded to the longest.
#[derive(Debug)]
struct Batch {
    sequences: i32,
    /// Queries of each.
    queries: i32,
    rows: Rows,
    keys: Keys,
    mask: Mask,
}

/// Rows of a step's activations.
#[derive(Debug)]
enum Rows {
    /// `start .. end`.
    Range(i32, i32),
    /// These, some of them several times.
    Picked(Array),
}

/// Where a batch's keys and values are.
#[derive(Debug)]
enum Keys {
    /// Among the step's own rows: the sequences begin in this step.
    Fresh,
    /// One sequence's pages lie one after the other, from this slot on, so many slots.
    Run(i32, i32),
    /// Pages `[sequences, pages]`, the zero page included.
    Pages(Array),
}

/// Which keys a query sees.
#[derive(Debug)]
enum Mask {
    Causal,
    /// Booleans that broadcast to `[sequences, heads, queries, keys]`.
    Given(Array),
}

/// One sequence's part of a batch.
#[derive(Clone, Copy, Debug)]
struct Part {
    /// Of the segment in the step.
    index: usize,
    /// New rows.
    rows: usize,
    /// Pages it sees; 0 where its keys are among the step's rows.
    pages: usize,
}

impl Plan {
    /// Whether this plan is for those segments.
    pub fn fits(&self, group: usize, window: Option<usize>, segments: &[Segment]) -> bool {
        self.group == group && self.window == window && self.segments == segments
    }

    /// Looks up every page, so that nothing can be missing later.
    pub fn new(cache: &Cache, group: usize, window: Option<usize>, segments: &[Segment]) -> Result<Self> {
        let (mut slots, mut tail, mut parts) = (Vec::new(), Vec::new(), Vec::new());
        for (index, segment) in segments.iter().enumerate() {
            let (table, seen) = segment.table(group, window)?;
            let (start, end) = (segment.start, segment.start + segment.rows.len());
            for page in &table[seen.min(start / PAGE_TOKENS)..] {
                cache.slot(group, *page)?;
            }
            let slot = |position: usize| Ok(cache.slot(group, table[position / PAGE_TOKENS])? + position % PAGE_TOKENS);
            for position in start..end {
                slots.push(slot(position)?);
            }
            let last_page = (end - 1) / PAGE_TOKENS * PAGE_TOKENS;
            if last_page >= start {
                for position in end..last_page + PAGE_TOKENS {
                    tail.push(slot(position)?);
                }
            }
            let pages = if start == 0 { 0 } else { table.len() - seen };
            parts.push(Part { index, rows: segment.rows.len(), pages });
        }
        let tails = tail.len();
        slots.extend(tail);
        let lists = lists(cache, group, window, segments, &slots, tails)?;
        let mut batches = Vec::new();
        let mut order = vec![0; segments.last().map_or(0, |segment| segment.rows.end)];
        let mut next = 0;
        for parts in grouped(parts) {
            let queries = parts.iter().map(|part| part.rows).max().unwrap_or(0);
            for part in &parts {
                for (i, row) in segments[part.index].rows.clone().enumerate() {
                    order[row] = next + i;
                }
                next += queries;
            }
            batches.push(Batch::new(cache, group, window, segments, &parts, queries)?);
        }
        let in_place = order.iter().enumerate().all(|(i, at)| i == *at) && next == order.len();
        Ok(Self {
            group,
            window,
            segments: segments.to_vec(),
            slots: Slots::new(&slots)?,
            tail: tails,
            batches,
            order: if in_place { None } else { Some(indices(&order)?) },
            lists,
        })
    }

    /// Writes `k` and `v` into the cache and attends: `[rows, heads * head_dim]`.
    pub fn run(
        &self,
        q: &Array,
        k: &Array,
        v: &Array,
        cache: &mut Cache,
        place: (usize, usize),
        params: &AttentionParams,
    ) -> Result<Array> {
        let (k, v) = (self.write(k, cache, place, true)?, self.write(v, cache, place, false)?);
        let layer = cache.layer(place);
        let attended = self.batches.iter().map(|batch| batch.attend(q, &k, &v, layer, params));
        let mut attended = attended.collect::<Result<Vec<Array>>>()?;
        let all = match attended.len() {
            1 => attended.remove(0),
            _ => done(ops::concatenate(&attended, 0))?,
        };
        match &self.order {
            None => Ok(all),
            Some(order) => done(all.take_axis(order, 0)),
        }
    }

    /// Writes rows of keys or values; returns them as the cache holds them, in the queries' type.
    fn write(&self, rows: &Array, cache: &mut Cache, place: (usize, usize), keys: bool) -> Result<Array> {
        let (own, cached) = (rows.dtype(), super::cache::dtype_of(cache.layout().dtype));
        let rounded = if own == cached { rows.clone() } else { done(rows.as_dtype(cached))? };
        let mut with_tail = rounded.clone();
        if self.tail > 0 {
            let zeros = done(ops::zeros_dtype(&[size(self.tail)?, rows.dim(1)], cached))?;
            with_tail = done(ops::concatenate(&[&rounded, &zeros], 0))?;
        }
        cache.write(place, &self.slots, &with_tail, keys)?;
        if own == cached { Ok(rounded) } else { done(rounded.as_dtype(own)) }
    }
}

/// The same step for kernels.
fn lists(
    cache: &Cache,
    group: usize,
    window: Option<usize>,
    segments: &[Segment],
    slots: &[usize],
    tail: usize,
) -> Result<Lists> {
    let rows = slots.len() - tail;
    let (mut at, mut owners) = (vec![rows], Vec::with_capacity(rows));
    let (mut most_rows, mut most_keys) = (0, 0);
    let mut pages = 1;
    for (index, segment) in segments.iter().enumerate() {
        let count = segment.rows.len();
        at.extend(segment.start..segment.start + count);
        owners.extend(std::iter::repeat_n(index, count));
        pages = pages.max(segment.table(group, window)?.0.len());
        most_rows = most_rows.max(count);
        most_keys = most_keys.max((segment.start + count).min(window.unwrap_or(usize::MAX)));
    }
    at.extend_from_slice(slots);
    let mut tables = vec![0; 1 + pages * segments.len()];
    tables[0] = pages;
    for (index, segment) in segments.iter().enumerate() {
        let (table, seen) = segment.table(group, window)?;
        for (i, page) in table.iter().enumerate().skip(seen) {
            tables[1 + index * pages + i] = cache.slot(group, *page)?;
        }
    }
    let (at, owners, tables) = (indices(&at)?, indices(&owners)?, indices(&tables)?);
    Ok(Lists { at, owners, tables, tail, most_rows, most_keys })
}

/// Puts sequences of similar work together: those that begin, those that go on by one token, those that go on.
fn grouped(mut parts: Vec<Part>) -> Vec<Vec<Part>> {
    let kind = |part: &Part| (part.pages > 0, part.rows > 1);
    parts.sort_by_key(|part| (kind(part), part.rows, part.pages));
    let mut groups: Vec<Vec<Part>> = Vec::new();
    for part in parts {
        // At most half of what a batch computes is padding, or little of it.
        let fits = |first: &Part| {
            kind(first) == kind(&part) && part.rows <= 2 * first.rows + 16 && part.pages <= 2 * first.pages + 8
        };
        match groups.last_mut() {
            Some(group) if fits(&group[0]) => group.push(part),
            _ => groups.push(vec![part]),
        }
    }
    for group in &mut groups {
        group.sort_by_key(|part| part.index);
    }
    groups
}

fn indices(values: &[usize]) -> Result<Array> {
    let values = values.iter().map(|value| size(*value)).collect::<Result<Vec<i32>>>()?;
    from_host(&values, &[values.len()])
}

impl Batch {
    fn new(
        cache: &Cache,
        group: usize,
        window: Option<usize>,
        segments: &[Segment],
        parts: &[Part],
        queries: usize,
    ) -> Result<Self> {
        let sequences = parts.len();
        let mut rows = Vec::with_capacity(sequences * queries);
        for part in parts {
            let own = &segments[part.index].rows;
            rows.extend((0..queries).map(|i| own.start + i.min(part.rows - 1)));
        }
        let in_order = rows.iter().enumerate().all(|(i, row)| *row == rows[0] + i);
        let pages = parts.iter().map(|part| part.pages).max().unwrap_or(0);
        let (keys, mask) = match pages {
            0 => (Keys::Fresh, fresh_mask(queries, window)?),
            _ => paged(cache, group, window, segments, parts, queries, pages)?,
        };
        Ok(Self {
            sequences: size(sequences)?,
            queries: size(queries)?,
            rows: if in_order {
                Rows::Range(size(rows[0])?, size(rows[0] + rows.len())?)
            } else {
                Rows::Picked(indices(&rows)?)
            },
            keys,
            mask,
        })
    }

    /// `[sequences * queries, heads * head_dim]`.
    fn attend(&self, q: &Array, k: &Array, v: &Array, layer: &Layer, params: &AttentionParams) -> Result<Array> {
        let (heads, kv_heads, width) = (params.heads as i32, params.kv_heads as i32, params.head_dim as i32);
        let n = self.sequences;
        let split = |x: &Array, heads: i32| {
            let x = done(x.reshape(&[n, x.size() as i32 / (n * heads * width), heads, width]))?;
            done(x.transpose_axes(&[0, 2, 1, 3]))
        };
        let own = |x: &Array| match &self.rows {
            Rows::Range(0, end) if *end == x.dim(0) => Ok(x.clone()),
            Rows::Range(start, end) => slice(x, &[*start, 0], &[*end, x.dim(1)]),
            Rows::Picked(rows) => done(x.take_axis(rows, 0)),
        };
        let q = split(&own(q)?, heads)?;
        let stored = |array: &Array, fresh: &Array| -> Result<Array> {
            let array = match &self.keys {
                Keys::Fresh => own(fresh)?,
                Keys::Run(first, slots) => slice(array, &[*first, 0], &[first + slots, array.dim(1)])?,
                Keys::Pages(pages) => {
                    let page = PAGE_TOKENS as i32;
                    let by_page = done(array.reshape(&[array.dim(0) / page, page, array.dim(1)]))?;
                    done(by_page.take_axis(pages, 0))?
                }
            };
            let array = if array.dtype() == q.dtype() { array } else { done(array.as_dtype(q.dtype()))? };
            split(&array, kv_heads)
        };
        let (k, v) = (stored(&layer.k, k)?, stored(&layer.v, v)?);
        let out = match params.softcap {
            None => {
                let mask = match &self.mask {
                    Mask::Causal => FastMask::Causal,
                    Mask::Given(mask) => FastMask::Array(mask),
                };
                done(fast::scaled_dot_product_attention(&q, &k, &v, params.scale, Some(mask), None))?
            }
            Some(cap) => self.capped(&q, &k, &v, params, cap)?,
        };
        done(done(out.transpose_axes(&[0, 2, 1, 3]))?.reshape(&[n * self.queries, heads * width]))
    }

    /// Attention with `cap * tanh(score / cap)`, which MLX's fused operation does not know.
    fn capped(&self, q: &Array, k: &Array, v: &Array, params: &AttentionParams, cap: f32) -> Result<Array> {
        let (n, queries, width) = (self.sequences, self.queries, params.head_dim as i32);
        let (kv_heads, sharing) = (params.kv_heads as i32, (params.heads / params.kv_heads) as i32);
        let dtype = q.dtype();
        let q = done(q.reshape(&[n, kv_heads, sharing, queries, width]))?;
        let (k, v) = (done(k.expand_dims(2))?, done(v.expand_dims(2))?);
        let scores = done(q.matmul(done(k.transpose_axes(&[0, 1, 2, 4, 3]))?))?;
        let scores = done(done(scores.as_dtype(Dtype::Float32))?.multiply(Array::from_f32(params.scale / cap)))?;
        let scores = done(done(ops::tanh(&scores))?.multiply(Array::from_f32(cap)))?;
        let mask = match &self.mask {
            Mask::Given(mask) if mask.ndim() == 4 => done(mask.expand_dims(2))?,
            Mask::Given(mask) => mask.clone(),
            Mask::Causal => fresh_array(queries as usize, None)?,
        };
        let scores = done(ops::select(&mask, &scores, Array::from_f32(f32::NEG_INFINITY)))?;
        let weights = done(done(ops::softmax_axis(&scores, -1, true))?.as_dtype(dtype))?;
        done(done(weights.matmul(&v))?.reshape(&[n, params.heads as i32, queries, width]))
    }
}

/// What queries of sequences that begin see of each other.
fn fresh_mask(queries: usize, window: Option<usize>) -> Result<Mask> {
    if window.is_none_or(|window| window >= queries) {
        return Ok(Mask::Causal);
    }
    fresh_array(queries, window).map(Mask::Given)
}

/// `[queries, queries]`.
fn fresh_array(queries: usize, window: Option<usize>) -> Result<Array> {
    let positions: Vec<i32> = (0..size(queries)?).collect();
    sees(&from_host(&positions, &[queries, 1])?, &from_host(&positions, &[1, queries])?, window)
}

/// Which keys' positions the queries' positions see.
fn sees(queries: &Array, keys: &Array, window: Option<usize>) -> Result<Array> {
    let causal = done(keys.le(queries))?;
    let Some(window) = window.and_then(|window| i32::try_from(window).ok()) else { return Ok(causal) };
    let first = done(queries.subtract(Array::from_int(window)))?;
    done(causal.logical_and(done(keys.gt(first))?))
}

/// Keys and mask of sequences that go on.
fn paged(
    cache: &Cache,
    group: usize,
    window: Option<usize>,
    segments: &[Segment],
    parts: &[Part],
    queries: usize,
    pages: usize,
) -> Result<(Keys, Mask)> {
    let (mut slots, mut key_positions, mut query_positions) = (Vec::new(), Vec::new(), Vec::new());
    for part in parts {
        let segment = &segments[part.index];
        let (table, seen) = segment.table(group, window)?;
        for page in &table[seen..] {
            slots.push(cache.slot(group, *page)?);
        }
        key_positions.extend((seen * PAGE_TOKENS..table.len() * PAGE_TOKENS).map(|position| position as i32));
        // The zero page, at positions that nobody reaches.
        slots.extend(std::iter::repeat_n(0, pages - part.pages));
        key_positions.extend(std::iter::repeat_n(i32::MAX, (pages - part.pages) * PAGE_TOKENS));
        query_positions.extend((0..queries).map(|i| (segment.start + i.min(part.rows - 1)) as i32));
    }
    let n = parts.len();
    let query_positions = from_host(&query_positions, &[n, 1, queries, 1])?;
    let key_positions = from_host(&key_positions, &[n, 1, 1, pages * PAGE_TOKENS])?;
    let mask = Mask::Given(sees(&query_positions, &key_positions, window)?);
    if n == 1 && slots.iter().enumerate().all(|(i, slot)| *slot == slots[0] + i * PAGE_TOKENS) {
        return Ok((Keys::Run(size(slots[0])?, size(pages * PAGE_TOKENS)?), mask));
    }
    let pages_of: Vec<i32> = slots.iter().map(|slot| (slot / PAGE_TOKENS) as i32).collect();
    Ok((Keys::Pages(from_host(&pages_of, &[n, pages])?), mask))
}
