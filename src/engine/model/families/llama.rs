//! `llama`: Llama 2, 3, 3.1, 3.2, CodeLlama, TinyLlama and what was trained in their shape.

use super::super::config::Section;
use super::super::spec::Activation;
use super::names::PRE_NORM;
use super::shared::{self, Defaults};
use super::{Reading, rope_keys};
use crate::engine::error::Result;

/// transformers' `LlamaConfig`.
const DEFAULTS: Defaults = Defaults {
    family: "llama",
    sizes: None,
    kv_heads: None,
    head_dim: None,
    context: 2048,
    tied: false,
    activation_key: "hidden_act",
    activation: Activation::Silu,
};

pub fn read(config: &Section) -> Result<Reading> {
    let mut spec = shared::decoder(config, &DEFAULTS)?;
    spec.ropes = vec![rope_keys::single(config, 10_000.0, &mut spec.context)?];
    let attention_bias = config.flag("attention_bias")?.unwrap_or(false);
    spec.qkv_bias = attention_bias;
    spec.output_bias = attention_bias;
    spec.mlp_bias = config.flag("mlp_bias")?.unwrap_or(false);
    Ok(Reading { spec, names: &PRE_NORM })
}
