//! `qwen2`: Qwen 2 and 2.5 and the DeepSeek-R1 distillations; Llama's shape with biases on q, k and v.

use super::super::config::Section;
use super::super::spec::{Activation, DecoderSpec};
use super::layer_types::{self, LayerType};
use super::names::PRE_NORM;
use super::shared::{self, Defaults};
use super::{Reading, rope_keys};
use crate::engine::error::Result;

/// transformers' `Qwen2Config`.
const DEFAULTS: Defaults = Defaults {
    family: "qwen2",
    sizes: None,
    kv_heads: Some(32),
    head_dim: None,
    context: 32_768,
    tied: false,
    activation_key: "hidden_act",
    activation: Activation::Silu,
};

pub fn read(config: &Section) -> Result<Reading> {
    let mut spec = shared::decoder(config, &DEFAULTS)?;
    spec.ropes = vec![rope_keys::single(config, 10_000.0, &mut spec.context)?];
    set_windows(config, &mut spec)?;
    spec.qkv_bias = true;
    Ok(Reading { spec, names: &PRE_NORM })
}

/// Qwen's windows: `sliding_window` counts only under `use_sliding_window`, and then, unless `layer_types` says
/// otherwise, for the layers from `max_window_layers` on.
pub fn set_windows(config: &Section, spec: &mut DecoderSpec) -> Result<()> {
    let enabled = config.flag("use_sliding_window")?.unwrap_or(false);
    let window = if enabled { layer_types::window(config, 4096)? } else { None };
    let first = config.index("max_window_layers")?.unwrap_or(28);
    let default = |layer| if window.is_some() && layer >= first { LayerType::Sliding } else { LayerType::Full };
    let types = layer_types::layer_types(config, spec.layers.len(), default)?;
    for (layer, kind) in spec.layers.iter_mut().zip(types) {
        layer.window = layer_types::window_of(config, kind, window)?;
    }
    Ok(())
}
