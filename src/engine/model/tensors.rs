//! A decoder's weights as the checkpoint stores them, sorted by their role: what `load` finds and
//! [`decoder`](super::decoder) hands to a backend.

use crate::engine::weights::Matrix;

/// Every weight of a decoder, shapes already checked against its [`DecoderSpec`](super::spec::DecoderSpec).
#[derive(Clone, Debug)]
pub struct DecoderTensors {
    /// `[vocab, hidden]`.
    pub embed: Matrix,
    /// `[vocab, hidden]`, or `None` where the head is tied to `embed`.
    pub head: Option<Matrix>,
    /// `[hidden]`, the family's offset added.
    pub norm: Vec<f32>,
    /// One entry a layer.
    pub layers: Vec<LayerTensors>,
}

/// One layer's weights. Norm weights have the family's offset added.
#[derive(Clone, Debug)]
pub struct LayerTensors {
    /// Before attention, `[hidden]`.
    pub attention_norm: Vec<f32>,
    /// `[heads * head_dim, hidden]`.
    pub q: LinearTensors,
    /// `[kv_heads * head_dim, hidden]`.
    pub k: LinearTensors,
    /// `[kv_heads * head_dim, hidden]`.
    pub v: LinearTensors,
    /// `[head_dim]`, where the family norms its queries.
    pub q_norm: Option<Vec<f32>>,
    /// `[head_dim]`, where the family norms its keys.
    pub k_norm: Option<Vec<f32>>,
    /// `[hidden, heads * head_dim]`.
    pub o: LinearTensors,
    /// After attention, before the residual add (Gemma), `[hidden]`.
    pub post_attention_norm: Option<Vec<f32>>,
    /// Before the MLP, `[hidden]`.
    pub mlp_norm: Vec<f32>,
    /// `[intermediate, hidden]`.
    pub gate: LinearTensors,
    /// `[intermediate, hidden]`.
    pub up: LinearTensors,
    /// `[hidden, intermediate]`.
    pub down: LinearTensors,
    /// After the MLP, before the residual add (Gemma), `[hidden]`.
    pub post_mlp_norm: Option<Vec<f32>>,
}

/// A projection's weights.
#[derive(Clone, Debug)]
pub struct LinearTensors {
    /// `[outputs, inputs]`.
    pub weight: Matrix,
    /// `[outputs]`.
    pub bias: Option<Vec<f32>>,
}
