//! How checkpoints call their tensors.

use crate::engine::weights::TensorSource;

/// A layer's modules, each less `{prefix}layers.{n}.` in front and `.weight` behind.
#[derive(Debug)]
#[allow(missing_docs)] // Each field is the role that `LayerTensors` documents.
pub struct LayerNames {
    pub attention_norm: &'static str,
    pub q: &'static str,
    pub k: &'static str,
    pub v: &'static str,
    pub q_norm: &'static str,
    pub k_norm: &'static str,
    pub o: &'static str,
    pub post_attention_norm: &'static str,
    pub mlp_norm: &'static str,
    pub gate: &'static str,
    pub up: &'static str,
    pub down: &'static str,
    pub post_mlp_norm: &'static str,
}

/// Llama's names, which most families took over: one norm before attention, one (called after it) before the MLP.
pub const PRE_NORM: LayerNames = LayerNames {
    attention_norm: "input_layernorm",
    q: "self_attn.q_proj",
    k: "self_attn.k_proj",
    v: "self_attn.v_proj",
    q_norm: "self_attn.q_norm",
    k_norm: "self_attn.k_norm",
    o: "self_attn.o_proj",
    post_attention_norm: "",
    mlp_norm: "post_attention_layernorm",
    gate: "mlp.gate_proj",
    up: "mlp.up_proj",
    down: "mlp.down_proj",
    post_mlp_norm: "",
};

/// Gemma's: norms on both sides of attention and of the MLP.
pub const SANDWICH: LayerNames = LayerNames {
    post_attention_norm: "post_attention_layernorm",
    mlp_norm: "pre_feedforward_layernorm",
    post_mlp_norm: "post_feedforward_layernorm",
    ..PRE_NORM
};

/// Where the decoder's modules and its head lie in a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix {
    /// In front of `embed_tokens`, `layers.0…` and `norm`.
    pub decoder: &'static str,
    /// The head's module.
    pub head: &'static str,
}

/// As transformers and mlx-lm write text models; as both wrote multimodal ones up to 2025; as transformers writes
/// multimodal ones since; and a decoder saved without its head's module around it.
const PREFIXES: [Prefix; 4] = [
    Prefix { decoder: "model.", head: "lm_head" },
    Prefix { decoder: "language_model.model.", head: "language_model.lm_head" },
    Prefix { decoder: "model.language_model.", head: "lm_head" },
    Prefix { decoder: "", head: "lm_head" },
];

impl Prefix {
    /// The prefix that this checkpoint uses; the first where none of the names is there, so that messages can say
    /// what was looked for.
    pub fn of(source: &dyn TensorSource) -> Self {
        let known = ["embed_tokens.weight", "norm.weight", "layers.0.self_attn.q_proj.weight"];
        let used = |prefix: &&Prefix| known.iter().any(|name| source.contains(&format!("{}{name}", prefix.decoder)));
        *PREFIXES.iter().find(used).unwrap_or(&PREFIXES[0])
    }
}
