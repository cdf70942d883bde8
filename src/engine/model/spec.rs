//! A decoder as data: everything the forward pass must know about a family and a size, and nothing else.
//!
//! Families (`families/*.rs`) fill it from `config.json`; [`decoder`](super::decoder) runs it on any backend.

/// A decoder-only transformer.
#[derive(Clone, Debug, PartialEq)]
pub struct DecoderSpec {
    /// `model_type` as the config names it: `llama`, `qwen3`, `gemma3_text`, …
    pub family: &'static str,
    /// `architectures[0]` of the config, or empty.
    pub architecture: String,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Width between the gate/up and the down projection.
    pub intermediate: usize,
    /// Query heads.
    pub heads: usize,
    /// Key/value heads; divides `heads` (GQA; 1 is MQA).
    pub kv_heads: usize,
    /// Width of a head; `heads * head_dim` may differ from `hidden`.
    pub head_dim: usize,
    /// Rows of the embedding table, padding rows included.
    pub vocab: usize,
    /// Positions the model was made for.
    pub context: usize,
    /// What differs between layers, in order.
    pub layers: Vec<LayerSpec>,
    /// The position encodings that the layers name.
    pub ropes: Vec<RopeSpec>,
    /// RMSNorm: epsilon and whether the stored weight is an offset from one.
    pub norm: NormSpec,
    /// RMSNorm over each head of q and k before RoPE (Qwen 3, Gemma 3).
    pub qk_norm: bool,
    /// A norm after attention and after the MLP too, before the residual add (Gemma).
    pub sandwich_norms: bool,
    /// Gate activation.
    pub activation: Activation,
    /// Factor on embeddings as they enter the residual stream; Gemma: `sqrt(hidden)` rounded to the type it was saved in.
    pub embed_scale: f32,
    /// Factor on `q·k` before the softmax, usually `1/sqrt(head_dim)`.
    pub attention_scale: f32,
    /// `cap * tanh(score / cap)` on attention scores (Gemma 2).
    pub attention_softcap: Option<f32>,
    /// The same on the final logits.
    pub logit_softcap: Option<f32>,
    /// Biases on the q, k and v projections.
    pub qkv_bias: bool,
    /// Bias on the attention output projection.
    pub output_bias: bool,
    /// Biases on the MLP projections.
    pub mlp_bias: bool,
    /// The head uses the embedding table.
    pub tied_head: bool,
}

/// One layer's choices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayerSpec {
    /// A query at position `p` sees positions `p - window + 1 ..= p`; `None` sees all.
    pub window: Option<usize>,
    /// Index into [`DecoderSpec::ropes`].
    pub rope: usize,
}

/// RMSNorm: `x / sqrt(mean(x²) + eps) * (weight + offset)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NormSpec {
    /// Added to the mean square.
    pub eps: f32,
    /// 1 where the checkpoint stores `weight - 1` (Gemma), else 0.
    pub offset: f32,
}

/// Activation of the MLP's gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// `x * sigmoid(x)`.
    Silu,
    /// GELU by its tanh approximation (`gelu_pytorch_tanh`).
    GeluTanh,
    /// GELU by the error function.
    Gelu,
}

/// Rotary position encoding in the half-split form: dimension `i` turns with dimension `i + head_dim/2`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RopeSpec {
    /// Base of the geometric series of frequencies.
    pub theta: f64,
    /// How the frequencies are stretched for longer contexts.
    pub scaling: RopeScaling,
}

/// Context extension by changing RoPE's frequencies; formulas as in transformers' `modeling_rope_utils.py`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RopeScaling {
    /// As trained.
    None,
    /// Every frequency divided by `factor`.
    Linear {
        /// Stretch.
        factor: f64,
    },
    /// Llama 3.1: low frequencies divided by `factor`, high ones kept, a ramp between.
    Llama3 {
        /// Stretch of the low frequencies.
        factor: f64,
        /// Wavelengths above `original_context / low_freq_factor` are stretched.
        low_freq_factor: f64,
        /// Wavelengths below `original_context / high_freq_factor` are kept.
        high_freq_factor: f64,
        /// Context before the extension.
        original_context: usize,
    },
    /// YaRN (arXiv:2309.00071): interpolation by wavelength, and a factor on cos and sin.
    Yarn {
        /// Stretch.
        factor: f64,
        /// Rotations above which a dimension is kept.
        beta_fast: f64,
        /// Rotations below which a dimension is stretched.
        beta_slow: f64,
        /// Context before the extension.
        original_context: usize,
        /// Factor on cos and sin; the paper's is `0.1 ln(factor) + 1`.
        attention_factor: f64,
        /// Whether the ramp's ends are rounded to whole dimensions.
        truncate: bool,
    },
}

impl DecoderSpec {
    /// Width of a layer's keys (and values) for one position.
    pub fn kv_width(&self) -> usize {
        self.kv_heads * self.head_dim
    }

    /// Numbers in all weights; a tied head counts once.
    pub fn parameters(&self) -> u64 {
        let (hidden, query, kv) = (self.hidden, self.heads * self.head_dim, self.kv_width());
        let matrices = 2 * query * hidden + 2 * kv * hidden + 3 * self.intermediate * hidden;
        let qkv_bias = if self.qkv_bias { query + 2 * kv } else { 0 };
        let output_bias = if self.output_bias { hidden } else { 0 };
        let mlp_bias = if self.mlp_bias { 2 * self.intermediate + hidden } else { 0 };
        let head_norms = if self.qk_norm { 2 * self.head_dim } else { 0 };
        let norms = if self.sandwich_norms { 4 * hidden } else { 2 * hidden };
        let layer = matrices + qkv_bias + output_bias + mlp_bias + head_norms + norms;
        let tables = self.vocab * hidden * if self.tied_head { 1 } else { 2 };
        (layer * self.layers.len() + tables + hidden) as u64
    }
}
