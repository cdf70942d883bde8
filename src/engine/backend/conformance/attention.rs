//! Attention over the paged cache: geometries, windows, soft caps, batches, and the rules of pages.

use super::reference::{self, Reference};
use super::{Case, Claims, Numbers, assert_close, exact, read};
use crate::engine::backend::{AttentionParams, Backend, CacheLayout, KvType, NO_PAGE, PAGE_TOKENS, PageId, Segment};

pub fn cases<B: Backend>() -> Vec<Case<B>> {
    vec![
        ("attention", geometries),
        ("attention from an f16 cache", half_cache),
        ("attention from a bf16 cache", brain_cache),
        ("attention in a window", windows),
        ("attention with a soft cap", soft_cap),
        ("attention over a long context", long_context),
        ("attention of several sequences", batch),
        ("attention in layers and groups", layers),
        ("attention after copy_page", copied_pages),
        ("attention beside a broken sequence", broken_neighbour),
        ("pages keep their contents", resize),
        ("attention that cannot be", misfits),
    ]
}

/// One sequence's queries, keys and values for every position, and what attention has answered so far.
pub struct Sequence {
    pub q: Vec<f32>,
    pub k: Vec<f32>,
    pub v: Vec<f32>,
    pub pages: Vec<Vec<PageId>>,
    pub done: usize,
    pub out: Vec<f32>,
}

impl Sequence {
    /// `tokens` random ones. Its page table in the only group is `pages`.
    pub fn new(seed: u64, tokens: usize, p: &AttentionParams, pages: Vec<PageId>) -> Self {
        let mut numbers = Numbers::new(seed);
        Self {
            // Outliers in keys only: with both, scores grow so large that any f32 arithmetic is far off after exp.
            q: (0..tokens * p.heads * p.head_dim).map(|_| numbers.tame()).collect(),
            k: numbers.take(tokens * p.kv_heads * p.head_dim),
            v: numbers.take(tokens * p.kv_heads * p.head_dim),
            pages: vec![pages],
            done: 0,
            out: Vec::new(),
        }
    }

    /// The answers there should be.
    fn truth(&self, p: &AttentionParams, kind: KvType) -> Reference {
        let cached =
            |x: &[f32]| Reference::new(p.kv_heads * p.head_dim, x.iter().map(|x| reference::as_cached(kind, *x)));
        let (q, k, v) = (exact(p.heads * p.head_dim, &self.q), cached(&self.k), cached(&self.v));
        Reference::new(
            q.cols,
            q.rows().take(self.done).enumerate().flat_map(|(i, q)| reference::attend(q, i, &k, &v, p)),
        )
    }
}

/// One step: the next `rows[i]` tokens of sequence `i` (0: it is not in this step), packed in that order.
pub fn step<B: Backend>(
    backend: &B,
    cache: &mut B::Cache,
    layer: usize,
    p: &AttentionParams,
    sequences: &mut [Sequence],
    rows: &[usize],
) {
    let (q_width, kv_width) = (p.heads * p.head_dim, p.kv_heads * p.head_dim);
    let (mut q, mut k, mut v, mut segments) = (Vec::new(), Vec::new(), Vec::new(), Vec::<Segment>::new());
    for (sequence, rows) in sequences.iter().zip(rows).filter(|(_, rows)| **rows > 0) {
        let (start, end) = (sequence.done, sequence.done + rows);
        q.extend_from_slice(&sequence.q[start * q_width..end * q_width]);
        k.extend_from_slice(&sequence.k[start * kv_width..end * kv_width]);
        v.extend_from_slice(&sequence.v[start * kv_width..end * kv_width]);
        let first = segments.last().map_or(0, |s| s.rows.end);
        segments.push(Segment { rows: first..first + rows, start, pages: sequence.pages.clone() });
    }
    let total = rows.iter().sum();
    let act = |cols: usize, values: &[f32]| backend.write(total, cols, values).unwrap();
    let (q, k, v) = (act(q_width, &q), act(kv_width, &k), act(kv_width, &v));
    let out = read(backend, &backend.attention(q, &k, &v, cache, layer, &segments, p).unwrap());
    assert_eq!(out.len(), total * q_width);
    let mut rest = &out[..];
    for (sequence, rows) in sequences.iter_mut().zip(rows) {
        let (mine, others) = rest.split_at(rows * q_width);
        sequence.out.extend_from_slice(mine);
        sequence.done += rows;
        rest = others;
    }
}

pub fn params(heads: usize, kv_heads: usize, head_dim: usize) -> AttentionParams {
    let scale = 1.0 / (head_dim as f32).sqrt();
    AttentionParams { heads, kv_heads, head_dim, scale, window: None, softcap: None }
}

/// One layer in one group.
pub fn layout(p: &AttentionParams, dtype: KvType) -> CacheLayout {
    CacheLayout { layers: vec![(0, 0)], groups: vec![1], kv_heads: p.kv_heads, head_dim: p.head_dim, dtype }
}

/// A cache of one group with `pages` pages.
pub fn cache<B: Backend>(backend: &B, p: &AttentionParams, dtype: KvType, pages: usize) -> B::Cache {
    let mut cache = backend.cache(&layout(p, dtype)).unwrap();
    backend.resize(&mut cache, 0, pages).unwrap();
    cache
}

/// One sequence in each of the given chunkings, against the reference.
fn one<B: Backend>(backend: &B, claims: &Claims, p: &AttentionParams, dtype: KvType, chunkings: &[&[usize]]) {
    let tokens = chunkings.iter().map(|chunks| chunks.iter().sum()).max().unwrap_or(0);
    let pages = tokens.div_ceil(PAGE_TOKENS);
    // Neither in order nor from the first page on.
    let table: Vec<PageId> = (0..pages as PageId).rev().map(|i| i + 1).collect();
    let truth = Sequence { done: tokens, ..Sequence::new(30, tokens, p, vec![]) }.truth(p, dtype);
    for chunks in chunkings {
        let mut cache = cache(backend, p, dtype, pages + 1);
        let mut sequences = [Sequence::new(30, tokens, p, table.clone())];
        for chunk in *chunks {
            step(backend, &mut cache, 0, p, &mut sequences, &[*chunk]);
        }
        let found = &sequences[0].out;
        let truth = Reference::new(truth.cols, truth.values[..found.len()].iter().copied());
        assert_close(&format!("{p:?} {dtype:?} {chunks:?}"), found, &truth, claims.float);
    }
}

fn geometries<B: Backend>(backend: &B, claims: &Claims) {
    for (heads, kv_heads, head_dim) in
        [(1, 1, 2), (2, 1, 8), (4, 1, 256), (3, 3, 20), (8, 2, 64), (7, 1, 80), (9, 3, 96), (16, 8, 128), (13, 1, 32)]
    {
        let p = params(heads, kv_heads, head_dim);
        one(backend, claims, &p, KvType::F32, &[&[1, 1, 1], &[63, 1, 1, 2], &[130, 1, 7], &[5, 64, 64, 1]]);
    }
}

fn half_cache<B: Backend>(backend: &B, claims: &Claims) {
    for (heads, kv_heads, head_dim) in [(4, 1, 256), (4, 4, 10), (8, 2, 64)] {
        one(backend, claims, &params(heads, kv_heads, head_dim), KvType::F16, &[&[100, 1, 40]]);
    }
}

fn brain_cache<B: Backend>(backend: &B, claims: &Claims) {
    for (heads, kv_heads, head_dim) in [(4, 1, 256), (4, 4, 10), (8, 2, 64)] {
        one(backend, claims, &params(heads, kv_heads, head_dim), KvType::BF16, &[&[100, 1, 40]]);
    }
}

fn windows<B: Backend>(backend: &B, claims: &Claims) {
    for window in [1, 2, 63, 64, 65, 200, 10_000] {
        let p = AttentionParams { window: Some(window), ..params(4, 2, 32) };
        one(backend, claims, &p, KvType::F32, &[&[1; 5], &[300], &[100, 1, 1, 150]]);
    }
}

fn soft_cap<B: Backend>(backend: &B, claims: &Claims) {
    for (cap, scale) in [(50.0, 0.1), (2.0, 1.0)] {
        let p = AttentionParams { softcap: Some(cap), scale, ..params(4, 2, 64) };
        one(backend, claims, &p, KvType::F32, &[&[90, 1, 1]]);
        one(backend, claims, &AttentionParams { window: Some(30), ..p }, KvType::F32, &[&[90, 1, 1]]);
    }
}

fn long_context<B: Backend>(backend: &B, claims: &Claims) {
    one(backend, claims, &params(2, 1, 32), KvType::F32, &[&[700, 100, 1, 1, 1, 60, 1]]);
    let narrow = AttentionParams { window: Some(512), ..params(2, 2, 16) };
    one(backend, claims, &narrow, KvType::F16, &[&[1000, 1, 1, 100]]);
}

fn batch<B: Backend>(backend: &B, claims: &Claims) {
    let p = params(4, 2, 64);
    let mut cache = cache(backend, &p, KvType::F32, 12);
    let mut sequences = [
        Sequence::new(31, 200, &p, vec![0, 4, 8, 10]),
        Sequence::new(32, 70, &p, vec![5, 1]),
        Sequence::new(33, 130, &p, vec![11, 3, 2]),
    ];
    for rows in [[100, 0, 20], [1, 69, 1], [1, 1, 1], [90, 0, 64]] {
        step(backend, &mut cache, 0, &p, &mut sequences, &rows);
    }
    for sequence in &sequences {
        assert_close("batch", &sequence.out, &sequence.truth(&p, KvType::F32), claims.float);
    }
}

/// Two groups, one of them windowed; each layer has its own contents in a shared page; pages that a window has slid
/// past are gone.
fn layers<B: Backend>(backend: &B, claims: &Claims) {
    let full = params(2, 1, 32);
    let narrow = AttentionParams { window: Some(70), ..full };
    let layers = vec![(0, 0), (1, 0), (0, 1), (1, 1)];
    let layout = CacheLayout { layers, groups: vec![2, 2], kv_heads: 1, head_dim: 32, dtype: KvType::F32 };
    let mut cache = backend.cache(&layout).unwrap();
    backend.resize(&mut cache, 0, 5).unwrap();
    backend.resize(&mut cache, 1, 3).unwrap();
    let mut sequences: Vec<_> = (0..4).map(|layer| [Sequence::new(40 + layer, 260, &full, vec![])]).collect();
    // What the windowed group keeps, of pages 0 to 4: it has three, taken again when the window has slid past.
    let tables =
        [(120, vec![2, 0]), (70, vec![2, 0, 1]), (40, vec![NO_PAGE, 0, 1, 2]), (30, vec![NO_PAGE, NO_PAGE, 1, 2, 0])];
    for (rows, table) in tables {
        for (layer, sequence) in sequences.iter_mut().enumerate() {
            sequence[0].pages = vec![vec![4, 3, 2, 1, 0], table.clone()];
            let p = if layer % 2 == 0 { &full } else { &narrow };
            step(backend, &mut cache, layer, p, sequence, &[rows]);
        }
    }
    for (layer, sequence) in sequences.iter().enumerate() {
        let p = if layer % 2 == 0 { &full } else { &narrow };
        assert_close(&format!("layer {layer}"), &sequence[0].out, &sequence[0].truth(p, KvType::F32), claims.float);
    }
}

/// Two sequences with a common beginning share full pages and copy the one they both go on writing.
fn copied_pages<B: Backend>(backend: &B, claims: &Claims) {
    let p = params(4, 2, 32);
    for dtype in [KvType::F32, KvType::F16] {
        let mut cache = cache(backend, &p, dtype, 4);
        let common = 100;
        let first = Sequence::new(50, 150, &p, vec![0, 1, 3]);
        let mut second = Sequence::new(51, 128, &p, vec![0, 2]);
        for (width, from, to) in
            [(128, &first.q, &mut second.q), (64, &first.k, &mut second.k), (64, &first.v, &mut second.v)]
        {
            to[..common * width].copy_from_slice(&from[..common * width]);
        }
        let mut sequences = [first, second];
        step(backend, &mut cache, 0, &p, &mut sequences, &[common, 0]);
        backend.copy_page(&mut cache, 0, 1, 2).unwrap();
        let beginning = sequences[0].out.clone();
        sequences[1].out.extend(beginning);
        sequences[1].done = common;
        step(backend, &mut cache, 0, &p, &mut sequences, &[20, 28]);
        step(backend, &mut cache, 0, &p, &mut sequences, &[30, 0]);
        for sequence in &sequences {
            assert_close("copied pages", &sequence.out, &sequence.truth(&p, dtype), claims.float);
        }
    }
}

/// What another sequence left in a page, NaN and infinity included, reaches nobody.
fn broken_neighbour<B: Backend>(backend: &B, claims: &Claims) {
    let p = AttentionParams { window: Some(80), ..params(4, 2, 24) };
    for dtype in [KvType::F32, KvType::F16, KvType::BF16] {
        let mut cache = cache(backend, &p, dtype, 3);
        let mut broken = [Sequence::new(60, 192, &p, vec![0, 1, 2])];
        for (i, x) in broken[0].k.iter_mut().chain(&mut broken[0].v).enumerate() {
            *x = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX][i % 4];
        }
        step(backend, &mut cache, 0, &p, &mut broken, &[192]);
        let mut sound = [Sequence::new(61, 150, &p, vec![2, 0, 1])];
        for rows in [10, 1, 60, 79] {
            step(backend, &mut cache, 0, &p, &mut sound, &[rows]);
        }
        assert_close("sound", &sound[0].out, &sound[0].truth(&p, dtype), claims.float);
    }
}

fn resize<B: Backend>(backend: &B, claims: &Claims) {
    let p = params(2, 2, 16);
    let mut cache = cache(backend, &p, KvType::F32, 1);
    let mut sequences = [Sequence::new(70, 200, &p, vec![0, 1, 2, 3])];
    step(backend, &mut cache, 0, &p, &mut sequences, &[60]);
    for pages in [40, 4, 4] {
        backend.resize(&mut cache, 0, pages).unwrap();
        step(backend, &mut cache, 0, &p, &mut sequences, &[40]);
    }
    assert_close("resized", &sequences[0].out, &sequences[0].truth(&p, KvType::F32), claims.float);
    backend.resize(&mut cache, 0, 0).unwrap();
    backend.resize(&mut cache, 0, 2).unwrap();
}

/// Mistakes of a scheduler are errors, not crashes.
fn misfits<B: Backend>(backend: &B, _: &Claims) {
    let p = params(4, 2, 16);
    let mut cache = cache(backend, &p, KvType::F32, 2);
    let mut attempt = |rows: usize, segments: Vec<Segment>, layer: usize, p: &AttentionParams| {
        let act = |cols: usize| backend.write(rows, cols, &vec![0.5; rows * cols]).unwrap();
        backend.attention(act(64), &act(32), &act(32), &mut cache, layer, &segments, p).map(drop)
    };
    let segment = |rows, start, table: &[PageId]| Segment { rows, start, pages: vec![table.to_vec()] };
    assert!(attempt(2, vec![segment(0..2, 0, &[0])], 0, &p).is_ok());
    assert!(attempt(2, vec![segment(0..1, 0, &[0]), segment(1..2, 0, &[1])], 0, &p).is_ok());
    // No such page; a page too few; a page that is gone.
    assert!(attempt(2, vec![segment(0..2, 0, &[2])], 0, &p).is_err());
    assert!(attempt(2, vec![segment(0..2, 63, &[0])], 0, &p).is_err());
    assert!(attempt(2, vec![segment(0..2, 64, &[NO_PAGE, 1])], 0, &p).is_err());
    // Rows that nobody owns, that two own, that are not there.
    assert!(attempt(3, vec![segment(0..2, 0, &[0])], 0, &p).is_err());
    assert!(attempt(2, vec![segment(0..2, 0, &[0]), segment(1..2, 0, &[1])], 0, &p).is_err());
    assert!(attempt(1, vec![segment(0..2, 0, &[0])], 0, &p).is_err());
    // No such layer; other heads than the cache's; no window at all.
    assert!(attempt(2, vec![segment(0..2, 0, &[0])], 1, &p).is_err());
    assert!(attempt(2, vec![segment(0..2, 0, &[0])], 0, &params(8, 2, 8)).is_err());
    assert!(attempt(2, vec![segment(0..2, 0, &[0])], 0, &params(2, 4, 16)).is_err());
    assert!(attempt(2, vec![segment(0..2, 0, &[0])], 0, &AttentionParams { window: Some(0), ..p }).is_err());
    assert!(backend.copy_page(&mut cache, 0, 0, 2).is_err());
    assert!(backend.copy_page(&mut cache, 1, 0, 1).is_err());
    assert!(backend.resize(&mut cache, 1, 1).is_err());
}
