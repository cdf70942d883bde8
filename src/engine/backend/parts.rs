//! The coarse operations as their parts, one after the other: what a backend does that has nothing better.

use super::{Attend, Backend, Linear, Segment};
use crate::engine::error::Result;
use crate::engine::model::spec::Activation;
use crate::engine::trace::op;

/// See [`Backend::attend`].
pub fn attend<B: Backend>(
    backend: &B,
    x: &B::Act,
    layer: &Attend<'_, B>,
    positions: &[usize],
    cache: &mut B::Cache,
    index: usize,
    segments: &[Segment],
) -> Result<B::Act> {
    let [mut q, mut k, v] = op("product qkv", index, || backend.project(x, layer.qkv))?;
    if let Some(norm) = layer.q_norm {
        q = op("norm q", index, || backend.head_norm(q, norm, layer.eps))?;
    }
    if let Some(norm) = layer.k_norm {
        k = op("norm k", index, || backend.head_norm(k, norm, layer.eps))?;
    }
    q = op("rope", index, || backend.rope(q, positions, layer.rope))?;
    k = op("rope", index, || backend.rope(k, positions, layer.rope))?;
    op("attention", index, || backend.attention(q, &k, &v, cache, index, segments, layer.params))
}

/// See [`Backend::add_norm`].
pub fn add_norm<B: Backend>(
    backend: &B,
    acc: B::Act,
    mut y: B::Act,
    post: Option<&B::Vector>,
    next: &B::Vector,
    eps: f32,
    index: usize,
) -> Result<(B::Act, B::Act)> {
    if let Some(post) = post {
        y = op("norm", index, || backend.rms_norm(&y, post, eps))?;
    }
    let x = op("add", index, || backend.add(acc, &y))?;
    drop(y);
    let normed = op("norm", index, || backend.rms_norm(&x, next, eps))?;
    Ok((x, normed))
}

/// See [`Backend::project_gated`].
pub fn project_gated<B: Backend>(
    backend: &B,
    x: &B::Act,
    gate: &Linear<B>,
    up: &Linear<B>,
    activation: Activation,
    index: usize,
) -> Result<B::Act> {
    let [gate, up] = op("product gate up", index, || backend.project(x, [gate, up]))?;
    op("activation", index, || backend.gated(gate, &up, activation))
}
