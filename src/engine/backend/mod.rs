//! The seam between the decoder and what computes: about twenty coarse operations on `[rows, cols]` activations.
//!
//! One thread owns a backend and everything made with it. An activation passed **by value** may be reused for the
//! result: its sole owner overwrites it in place, a shared one is copied first. Every operation validates what its
//! caller could get wrong in a checkpoint at load time, so that at run time only memory and the device can fail.

pub mod checks;
#[cfg(test)]
pub(crate) mod conformance;
pub mod cpu;
#[cfg(mlx)]
pub mod mlx;
mod parts;

use std::ops::Range;

use super::error::{Result, fail};
use super::model::spec::Activation;
use super::weights;

/// Positions a KV page holds. Attention folds the cache in blocks of whole pages, from position 0 on, which makes a
/// row's result independent of how its prompt was cut up.
pub const PAGE_TOKENS: usize = 64;

/// Index of a page within its layer group.
pub type PageId = u32;

/// Element type of the KV cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KvType {
    /// Exact.
    F32,
    /// Half the bytes, 11 bits of precision.
    F16,
    /// Half the bytes, 8 bits of precision, the range of F32.
    BF16,
}

impl KvType {
    /// Bytes an element takes.
    pub fn size(self) -> usize {
        if self == KvType::F32 { 4 } else { 2 }
    }
}

/// What a KV cache must hold. Layers are put in groups: those of a group keep the same positions (all of them, or
/// a window), so they share one page table; a page holds [`PAGE_TOKENS`] positions of every layer of its group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheLayout {
    /// `(group, index within the group)` of each layer.
    pub layers: Vec<(usize, usize)>,
    /// Layers in each group.
    pub groups: Vec<usize>,
    /// Key/value heads.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Element type.
    pub dtype: KvType,
}

impl CacheLayout {
    /// Bytes of one page of `group`: keys and values of all its layers.
    pub fn page_bytes(&self, group: usize) -> usize {
        self.groups[group] * 2 * self.kv_heads * self.head_dim * PAGE_TOKENS * self.dtype.size()
    }
}

/// A run of consecutive new tokens of one sequence inside a step's packed rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Its rows in the step's activations.
    pub rows: Range<usize>,
    /// Position of its first row in the sequence.
    pub start: usize,
    /// Its page table in each group: entry `i` holds positions `i * PAGE_TOKENS ..`. Pages that every layer of the
    /// group has slid past may be [`NO_PAGE`]. Covers all positions up to the segment's last.
    pub pages: Vec<Vec<PageId>>,
}

/// Page-table entry of positions that no layer of the group looks at any more.
pub const NO_PAGE: PageId = PageId::MAX;

/// How one layer attends.
#[derive(Clone, Copy, Debug)]
pub struct AttentionParams {
    /// Query heads.
    pub heads: usize,
    /// Key/value heads.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Factor on `q·k`.
    pub scale: f32,
    /// A query at position `p` sees `p - window + 1 ..= p`.
    pub window: Option<usize>,
    /// `cap * tanh(score / cap)` on scaled scores.
    pub softcap: Option<f32>,
}

/// A projection `y = x Wᵀ + bias`.
pub struct Linear<B: Backend> {
    /// `[outputs, inputs]`.
    pub weight: B::Matrix,
    /// `[outputs]`.
    pub bias: Option<B::Vector>,
}

/// A layer's way from normed input to attended heads, for [`Backend::attend`].
pub struct Attend<'a, B: Backend> {
    /// Projections of queries, keys and values, joined.
    pub qkv: [&'a Linear<B>; 3],
    /// Norm of each query head.
    pub q_norm: Option<&'a B::Vector>,
    /// Norm of each key head.
    pub k_norm: Option<&'a B::Vector>,
    /// Of the norms.
    pub eps: f32,
    /// Rotary encoding of both.
    pub rope: &'a Rope<B>,
    /// The attention itself.
    pub params: &'a AttentionParams,
}

/// What most steps need to know of their logits, for [`Backend::summarise`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Summary {
    /// Each row's first largest logit, its index and its value.
    pub best: Vec<(u32, f32)>,
    /// The natural log-softmax at each token asked for.
    pub logprobs: Vec<f32>,
}

/// A [`Summary`] on a device that computes while the host goes on.
#[derive(Clone, Debug)]
pub struct Coming<A> {
    /// The index of each row's first largest logit.
    pub best: A,
    /// Its value.
    pub largest: A,
    /// See [`Summary::logprobs`]; `None` where none were asked for.
    pub logprobs: Option<A>,
}

/// What [`Backend::summarise`] gives.
#[derive(Clone, Debug)]
pub enum Summarised<A> {
    /// The figures.
    Known(Summary),
    /// They come: [`Backend::flush`] puts them to work, [`Backend::await_summary`] waits for them.
    Coming(Coming<A>),
}

/// What computes, in words and numbers, for `gomlx_runtime_describe`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// `cpu` or `mlx`.
    pub name: &'static str,
    /// The device: `AMD EPYC, avx512-vnni`, `NVIDIA H200`.
    pub device: String,
    /// Threads that compute.
    pub threads: usize,
}

/// A device of MLX.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MlxDevice {
    /// Metal or CUDA, not MLX's CPU device.
    pub gpu: bool,
    /// For people: `NVIDIA H200`, `Apple M3`, `MLX's CPU device`.
    pub name: String,
    /// Bytes of memory a GPU has for us, where MLX says.
    pub memory: Option<u64>,
}

/// The operations. Shapes are `[rows, cols]`, row-major; a row is one token of one sequence.
pub trait Backend: Sized + 'static {
    /// An activation; cloning shares it, dropping the last clone frees it.
    type Act: Clone;
    /// A weight matrix `[outputs, inputs]` in the backend's own layout.
    type Matrix;
    /// A vector of weights: a norm's scale, a bias.
    type Vector;
    /// Pages of keys and values for every layer.
    type Cache;

    /// What computes.
    fn describe(&self) -> Description;

    /// Takes a stored matrix into use. The CPU keeps the bytes where they are.
    fn matrix(&self, stored: &weights::Matrix) -> Result<Self::Matrix>;
    /// Takes a vector into use.
    fn vector(&self, values: &[f32]) -> Result<Self::Vector>;

    /// These projections will always be asked for together, in this order: a backend may lay them together.
    fn join(&self, _linears: &mut [&mut Linear<Self>]) -> Result<()> {
        Ok(())
    }

    /// An empty cache. Pages get their memory when [`Backend::resize`] first covers them.
    fn cache(&self, layout: &CacheLayout) -> Result<Self::Cache>;
    /// Makes pages `0 .. pages` of `group` usable, and returns the memory of those beyond. Contents of kept pages
    /// stay.
    fn resize(&self, cache: &mut Self::Cache, group: usize, pages: usize) -> Result<()>;
    /// Copies the keys and values of page `from` to page `to` of the same group.
    fn copy_page(&self, cache: &mut Self::Cache, group: usize, from: PageId, to: PageId) -> Result<()>;

    /// Names all that decides what bytes a page holds for given tokens, beside the weights: layout, kernels, precision.
    fn page_format(&self) -> String {
        self.describe().device
    }
    /// A copy of page `page` of `group`, as bytes that [`Backend::write_page`] of the same
    /// [`page_format`](Backend::page_format) understands.
    fn read_page(&self, _cache: &Self::Cache, _group: usize, _page: PageId) -> Result<Vec<u8>> {
        fail!(Unsupported, "this backend's KV pages stay where they are")
    }
    /// Fills page `page` of `group` with what [`Backend::read_page`] gave; `Format` for another length.
    fn write_page(&self, _cache: &mut Self::Cache, _group: usize, _page: PageId, _bytes: &[u8]) -> Result<()> {
        fail!(Unsupported, "this backend's KV pages stay where they are")
    }

    /// Rows `tokens` of `table`, times `scale`: `[tokens, cols]`.
    fn embed(&self, table: &Self::Matrix, tokens: &[u32], scale: f32) -> Result<Self::Act>;
    /// [`embed`](Self::embed) before all tokens are known: for each `(i, row)` of `following`, token `i` is the largest
    /// logit's of `row` of what is coming.
    fn embed_following(
        &self,
        _table: &Self::Matrix,
        _tokens: &[u32],
        _coming: &Coming<Self::Act>,
        _following: &[(usize, usize)],
        _scale: f32,
    ) -> Result<Self::Act> {
        fail!(Internal, "nothing comes later on this backend")
    }
    /// `x / sqrt(mean(x²) + eps) * weight`, row by row; `weight` holds any family's offset already.
    fn rms_norm(&self, x: &Self::Act, weight: &Self::Vector, eps: f32) -> Result<Self::Act>;
    /// The same input through several projections.
    fn project<const N: usize>(&self, x: &Self::Act, to: [&Linear<Self>; N]) -> Result<[Self::Act; N]>;
    /// `x Wᵀ` with a bare matrix: the head over the vocabulary.
    fn logits(&self, x: &Self::Act, head: &Self::Matrix) -> Result<Self::Act>;
    /// RMSNorm over each head's `norm.len()` columns.
    fn head_norm(&self, x: Self::Act, weight: &Self::Vector, eps: f32) -> Result<Self::Act>;
    /// Rotary position encoding, half-split form: columns `i` and `i + head_dim/2` of each head turn by
    /// `position * inv_freq[i]`, and the result is multiplied by `factor`. `positions` has one entry a row.
    fn rope(&self, x: Self::Act, positions: &[usize], rope: &Rope<Self>) -> Result<Self::Act>;
    /// Writes `k` and `v` (`[rows, kv_heads * head_dim]`) into `cache` at the segments' positions, then softmax
    /// attention of `q` (`[rows, heads * head_dim]`) over each row's own sequence: `[rows, heads * head_dim]`.
    #[allow(clippy::too_many_arguments)]
    fn attention(
        &self,
        q: Self::Act,
        k: &Self::Act,
        v: &Self::Act,
        cache: &mut Self::Cache,
        layer: usize,
        segments: &[Segment],
        params: &AttentionParams,
    ) -> Result<Self::Act>;
    /// `activation(gate) * up`.
    fn gated(&self, gate: Self::Act, up: &Self::Act, activation: Activation) -> Result<Self::Act>;
    /// `acc + y`.
    fn add(&self, acc: Self::Act, y: &Self::Act) -> Result<Self::Act>;
    /// Projects `x`, norms and turns queries and keys, writes keys and values to the cache and attends: what
    /// [`project`](Self::project), [`head_norm`](Self::head_norm), [`rope`](Self::rope) and
    /// [`attention`](Self::attention) do one after the other, which a backend may fuse.
    fn attend(
        &self,
        x: &Self::Act,
        layer: &Attend<'_, Self>,
        positions: &[usize],
        cache: &mut Self::Cache,
        index: usize,
        segments: &[Segment],
    ) -> Result<Self::Act> {
        parts::attend(self, x, layer, positions, cache, index, segments)
    }
    /// `x = acc + y`, with `y` normed by `post` first where there is one, and `x` normed by `next`: `(x, normed)`. In layer
    /// `index`, for traces.
    fn add_norm(
        &self,
        acc: Self::Act,
        y: Self::Act,
        post: Option<&Self::Vector>,
        next: &Self::Vector,
        eps: f32,
        index: usize,
    ) -> Result<(Self::Act, Self::Act)> {
        parts::add_norm(self, acc, y, post, next, eps, index)
    }
    /// `activation(gate(x)) * up(x)`, in layer `index`.
    fn project_gated(
        &self,
        x: &Self::Act,
        gate: &Linear<Self>,
        up: &Linear<Self>,
        activation: Activation,
        index: usize,
    ) -> Result<Self::Act> {
        parts::project_gated(self, x, gate, up, activation, index)
    }
    /// What [`Summary`] says of logits, so that they need not come to the host: the log-softmax at each `(row,
    /// token)`. `None` where reading them is as cheap.
    fn summarise(&self, _logits: &Self::Act, _tokens: &[(usize, u32)]) -> Result<Option<Summarised<Self::Act>>> {
        Ok(None)
    }
    /// Waits for what [`summarise`](Self::summarise) said was coming.
    fn await_summary(&self, _coming: &Coming<Self::Act>) -> Result<Summary> {
        fail!(Internal, "nothing comes later on this backend")
    }
    /// `cap * tanh(x / cap)`.
    fn softcap(&self, x: Self::Act, cap: f32) -> Result<Self::Act>;
    /// The named rows, in that order.
    fn select_rows(&self, x: &Self::Act, rows: &[usize]) -> Result<Self::Act>;
    /// Copies the activation to the host, row-major, replacing what `out` held.
    fn read(&self, x: &Self::Act, out: &mut Vec<f32>) -> Result<()>;
    /// Called after each step: whatever was asked for so far and left to be computed later is put to work now, and
    /// with it what is `coming`.
    fn flush(&self, _cache: &mut Self::Cache, _coming: Option<&Coming<Self::Act>>) -> Result<()> {
        Ok(())
    }
    /// Returns to the system what is kept for reuse and was asked for by
    /// [`memory::clear_cache`](crate::engine::memory::clear_cache). Called while nothing runs.
    fn release_unused(&self) {}
    /// Brings host values in; for tests and training.
    fn write(&self, rows: usize, cols: usize, values: &[f32]) -> Result<Self::Act>;
}

/// Frequencies of a rotary encoding, ready for a backend.
pub struct Rope<B: Backend> {
    /// `[head_dim / 2]` radians a position.
    pub inv_freq: B::Vector,
    /// Width of a head.
    pub head_dim: usize,
    /// Factor on cos and sin (YaRN), else 1.
    pub factor: f32,
}
