//! `gemma2`: windows on every other layer, norms on both sides, capped scores and logits.

use super::super::config::Section;
use super::super::spec::{Activation, DecoderSpec};
use super::layer_types::{self, LayerType};
use super::names::SANDWICH;
use super::shared::{self, Defaults};
use super::{Reading, rope_keys};
use crate::engine::error::Result;
use crate::engine::weights::DType;

/// transformers' `Gemma2Config`.
const DEFAULTS: Defaults = Defaults {
    family: "gemma2",
    sizes: None,
    kv_heads: Some(4),
    head_dim: Some(256),
    context: 8192,
    tied: true,
    activation_key: "hidden_activation",
    activation: Activation::GeluTanh,
};

pub fn read(config: &Section) -> Result<Reading> {
    let mut spec = shared::decoder(config, &DEFAULTS)?;
    spec.ropes = vec![rope_keys::single(config, 10_000.0, &mut spec.context)?];
    let window = layer_types::window(config, 4096)?;
    let default = |layer| if layer % 2 == 0 { LayerType::Sliding } else { LayerType::Full };
    let types = layer_types::layer_types(config, spec.layers.len(), default)?;
    for (layer, kind) in spec.layers.iter_mut().zip(types) {
        layer.window = layer_types::window_of(config, kind, window)?;
    }
    set_gemma(config, &mut spec)?;
    spec.attention_softcap = soft_cap(config, "attn_logit_softcapping", Some(50.0))?;
    spec.logit_softcap = soft_cap(config, "final_logit_softcapping", Some(30.0))?;
    Ok(Reading { spec, names: &SANDWICH })
}

/// What all Gemmas since the second share: norms stored less one and on both sides, scaled embeddings, a scale of
/// their own on the scores.
pub fn set_gemma(config: &Section, spec: &mut DecoderSpec) -> Result<()> {
    if config.flag("use_bidirectional_attention")?.unwrap_or(false) {
        return Err(config.unsupported("use_bidirectional_attention"));
    }
    let attention_bias = config.flag("attention_bias")?.unwrap_or(false);
    spec.qkv_bias = attention_bias;
    spec.output_bias = attention_bias;
    spec.sandwich_norms = true;
    spec.norm.offset = 1.0;
    spec.embed_scale = embed_scale(spec.hidden, config.dtype());
    spec.attention_scale = (config.positive("query_pre_attn_scalar")?.unwrap_or(256.0) as f32).sqrt().recip();
    Ok(())
}

/// A soft cap: `default` where the key is absent, none where it is `null`.
pub fn soft_cap(config: &Section, key: &str, default: Option<f32>) -> Result<Option<f32>> {
    let given = config.positive(key)?.map(|cap| cap as f32);
    Ok(given.or(default.filter(|_| !config.has(key))))
}

/// `sqrt(hidden)`, rounded to the element type that the model was saved in: transformers casts the factor to the
/// embedding's type, and so the published bf16 models were trained (mlx-lm rounds to bf16 whatever the type). A
/// float32 model keeps all digits. Where nothing is said, the type is taken to be bf16.
fn embed_scale(hidden: usize, dtype: Option<DType>) -> f32 {
    let scale = (hidden as f64).sqrt() as f32;
    match dtype {
        Some(DType::F32) => scale,
        Some(DType::F16) => half::f16::from_f32(scale).to_f32(),
        _ => half::bf16::from_f32(scale).to_f32(),
    }
}
