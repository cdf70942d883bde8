//! The forward pass of every family, written once over [`Backend`].

use super::rope;
use super::spec::DecoderSpec;
use super::tensors::{DecoderTensors, LayerTensors, LinearTensors};
use crate::engine::backend::{Attend, AttentionParams, Backend, CacheLayout, Coming, KvType, Linear, Rope, Segment};
use crate::engine::control::Control;
use crate::engine::error::{Result, fail};
use crate::engine::trace;

/// A decoder whose weights a backend has taken into use.
pub struct Decoder<B: Backend> {
    spec: DecoderSpec,
    embed: B::Matrix,
    head: Option<B::Matrix>,
    norm: B::Vector,
    ropes: Vec<Rope<B>>,
    layers: Vec<Layer<B>>,
}

/// Tokens that are coming: of what, and which token is the largest logit's of which row.
pub type Following<'a, A> = (&'a Coming<A>, &'a [(usize, usize)]);

/// One layer, ready to run.
struct Layer<B: Backend> {
    attention_norm: B::Vector,
    q: Linear<B>,
    k: Linear<B>,
    v: Linear<B>,
    q_norm: Option<B::Vector>,
    k_norm: Option<B::Vector>,
    o: Linear<B>,
    post_attention_norm: Option<B::Vector>,
    mlp_norm: B::Vector,
    gate: Linear<B>,
    up: Linear<B>,
    down: Linear<B>,
    post_mlp_norm: Option<B::Vector>,
    attention: AttentionParams,
    rope: usize,
}

impl<B: Backend> Decoder<B> {
    /// Hands every weight to `backend`. `control` sees the layers go by and can stop it.
    pub fn new(backend: &B, spec: DecoderSpec, tensors: &DecoderTensors, control: &Control) -> Result<Self> {
        let vector = |values: &[f32]| backend.vector(values);
        let optional = |values: &Option<Vec<f32>>| values.as_deref().map(vector).transpose();
        let linear = |stored: &LinearTensors| -> Result<Linear<B>> {
            Ok(Linear { weight: backend.matrix(&stored.weight)?, bias: optional(&stored.bias)? })
        };
        let layer = |(index, stored): (usize, &LayerTensors)| -> Result<Layer<B>> {
            control.check()?;
            let choices = spec.layers[index];
            let mut layer = Layer {
                attention_norm: vector(&stored.attention_norm)?,
                q: linear(&stored.q)?,
                k: linear(&stored.k)?,
                v: linear(&stored.v)?,
                q_norm: optional(&stored.q_norm)?,
                k_norm: optional(&stored.k_norm)?,
                o: linear(&stored.o)?,
                post_attention_norm: optional(&stored.post_attention_norm)?,
                mlp_norm: vector(&stored.mlp_norm)?,
                gate: linear(&stored.gate)?,
                up: linear(&stored.up)?,
                down: linear(&stored.down)?,
                post_mlp_norm: optional(&stored.post_mlp_norm)?,
                attention: AttentionParams {
                    heads: spec.heads,
                    kv_heads: spec.kv_heads,
                    head_dim: spec.head_dim,
                    scale: spec.attention_scale,
                    window: choices.window,
                    softcap: spec.attention_softcap,
                },
                rope: choices.rope,
            };
            backend.join(&mut [&mut layer.q, &mut layer.k, &mut layer.v])?;
            backend.join(&mut [&mut layer.gate, &mut layer.up])?;
            Ok(layer)
        };
        let ropes = spec.ropes.iter().map(|rope| {
            let table = rope::table(rope, spec.head_dim);
            Ok(Rope { inv_freq: backend.vector(&table.inv_freq)?, head_dim: spec.head_dim, factor: table.factor })
        });
        Ok(Self {
            embed: backend.matrix(&tensors.embed)?,
            head: tensors.head.as_ref().map(|head| backend.matrix(head)).transpose()?,
            norm: vector(&tensors.norm)?,
            ropes: ropes.collect::<Result<_>>()?,
            layers: tensors.layers.iter().enumerate().map(layer).collect::<Result<_>>()?,
            spec,
        })
    }

    /// What it is.
    pub fn spec(&self) -> &DecoderSpec {
        &self.spec
    }

    /// One step: `tokens` are the packed rows that `segments` cut into sequences. Keys and values go into `cache`;
    /// the result is the hidden state of the rows named in `wanted`, `[wanted, hidden]`, final norm applied, or
    /// `None` where no row is wanted. `between_layers` can stop it; the cache then holds part of the step's positions,
    /// which a repeated step overwrites.
    pub fn forward(
        &self,
        backend: &B,
        cache: &mut B::Cache,
        tokens: &[u32],
        segments: &[Segment],
        wanted: &[usize],
        between_layers: &mut dyn FnMut() -> Result<()>,
    ) -> Result<Option<B::Act>> {
        let x = self.embed(backend, tokens, None)?;
        self.forward_embedded(backend, cache, x, segments, wanted, between_layers)
    }

    /// The embeddings of a step's tokens, some of which may be coming: see [`Backend::embed_following`].
    pub fn embed(&self, backend: &B, tokens: &[u32], following: Option<Following<'_, B::Act>>) -> Result<B::Act> {
        let _span = trace::span("embed", &[("rows", tokens.len())]);
        let scale = self.spec.embed_scale;
        match following {
            None => backend.embed(&self.embed, tokens, scale),
            Some((coming, following)) => backend.embed_following(&self.embed, tokens, coming, following, scale),
        }
    }

    /// [`forward`](Self::forward) from the tokens' embeddings on.
    pub fn forward_embedded(
        &self,
        backend: &B,
        cache: &mut B::Cache,
        mut x: B::Act,
        segments: &[Segment],
        wanted: &[usize],
        between_layers: &mut dyn FnMut() -> Result<()>,
    ) -> Result<Option<B::Act>> {
        let eps = self.spec.norm.eps;
        let positions: Vec<usize> = segments.iter().flat_map(|s| s.start..s.start + s.rows.len()).collect();
        let Some(first) = self.layers.first() else { fail!(Internal, "a decoder without layers") };
        let mut normed = trace::op("norm", 0, || backend.rms_norm(&x, &first.attention_norm, eps))?;
        for (index, layer) in self.layers.iter().enumerate() {
            between_layers()?;
            let way = Attend {
                qkv: [&layer.q, &layer.k, &layer.v],
                q_norm: layer.q_norm.as_ref(),
                k_norm: layer.k_norm.as_ref(),
                eps,
                rope: &self.ropes[layer.rope],
                params: &layer.attention,
            };
            let mut attended = backend.attend(&normed, &way, &positions, cache, index, segments)?;
            drop(normed);
            let next = self.layers.get(index + 1);
            if next.is_none() {
                // The cache is complete: what follows concerns only the rows whose outcome somebody reads.
                if wanted.is_empty() {
                    return Ok(None);
                }
                if wanted.len() < positions.len() {
                    attended = backend.select_rows(&attended, wanted)?;
                    x = backend.select_rows(&x, wanted)?;
                }
            }
            let [y] = trace::op("product o", index, || backend.project(&attended, [&layer.o]))?;
            drop(attended);
            (x, normed) = backend.add_norm(x, y, layer.post_attention_norm.as_ref(), &layer.mlp_norm, eps, index)?;
            let gated = backend.project_gated(&normed, &layer.gate, &layer.up, self.spec.activation, index)?;
            drop(normed);
            let [y] = trace::op("product down", index, || backend.project(&gated, [&layer.down]))?;
            drop(gated);
            let norm = next.map_or(&self.norm, |next| &next.attention_norm);
            (x, normed) = backend.add_norm(x, y, layer.post_mlp_norm.as_ref(), norm, eps, index)?;
        }
        Ok(Some(normed))
    }

    /// Logits of hidden states, `[rows, vocab]`.
    pub fn logits(&self, backend: &B, hidden: &B::Act) -> Result<B::Act> {
        let _span = trace::span("logits", &[]);
        let logits = backend.logits(hidden, self.head.as_ref().unwrap_or(&self.embed))?;
        match self.spec.logit_softcap {
            Some(cap) => backend.softcap(logits, cap),
            None => Ok(logits),
        }
    }
}

/// The cache a decoder needs: layers with the same window share a group and so a page table.
pub fn cache_layout(spec: &DecoderSpec, dtype: KvType) -> (CacheLayout, Vec<Option<usize>>) {
    let mut windows: Vec<Option<usize>> = Vec::new();
    let mut groups: Vec<usize> = Vec::new();
    let layers = spec.layers.iter().map(|layer| {
        let group = windows.iter().position(|w| *w == layer.window).unwrap_or_else(|| {
            windows.push(layer.window);
            groups.push(0);
            windows.len() - 1
        });
        groups[group] += 1;
        (group, groups[group] - 1)
    });
    let layers = layers.collect();
    (CacheLayout { layers, groups, kv_heads: spec.kv_heads, head_dim: spec.head_dim, dtype }, windows)
}
