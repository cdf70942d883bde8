//! `qwen3`: the dense Qwen 3 models; Qwen 2's shape with norms on q and k and, as published, without biases.

use super::super::config::Section;
use super::super::spec::Activation;
use super::names::PRE_NORM;
use super::shared::{self, Defaults};
use super::{Reading, qwen2, rope_keys};
use crate::engine::error::Result;

/// transformers' `Qwen3Config`.
const DEFAULTS: Defaults = Defaults {
    family: "qwen3",
    sizes: None,
    kv_heads: Some(32),
    head_dim: Some(128),
    context: 32_768,
    tied: false,
    activation_key: "hidden_act",
    activation: Activation::Silu,
};

pub fn read(config: &Section) -> Result<Reading> {
    let mut spec = shared::decoder(config, &DEFAULTS)?;
    spec.ropes = vec![rope_keys::single(config, 10_000.0, &mut spec.context)?];
    qwen2::set_windows(config, &mut spec)?;
    spec.qk_norm = true;
    let attention_bias = config.flag("attention_bias")?.unwrap_or(false);
    spec.qkv_bias = attention_bias;
    spec.output_bias = attention_bias;
    Ok(Reading { spec, names: &PRE_NORM })
}
