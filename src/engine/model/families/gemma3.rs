//! `gemma3_text`, and the text part of `gemma3`: windows on most layers, two RoPEs, norms everywhere.

use super::super::config::{MAX_LAYERS, Section};
use super::super::spec::{Activation, LayerSpec};
use super::layer_types::{self, LayerType};
use super::names::SANDWICH;
use super::shared::{self, Defaults};
use super::{Reading, gemma2, rope_keys};
use crate::engine::error::{Result, error};

/// transformers' `Gemma3TextConfig`. The published multimodal configs leave most of it out.
const DEFAULTS: Defaults = Defaults {
    family: "gemma3_text",
    sizes: Some([262_208, 2304, 9216, 26, 8]),
    kv_heads: Some(4),
    head_dim: Some(256),
    context: 131_072,
    tied: true,
    activation_key: "hidden_activation",
    activation: Activation::GeluTanh,
};

/// Index of the global layers' RoPE in the spec; the windowed layers' follows.
const GLOBAL: usize = 0;
const LOCAL: usize = 1;

/// A config with a `text_config`; without one it would be the default of a class, which nobody published.
pub fn read_multimodal(config: &Section) -> Result<Reading> {
    if !config.is_nested() {
        return Err(error!(Format, "config.json: text_config: missing"));
    }
    read(config)
}

pub fn read(config: &Section) -> Result<Reading> {
    let mut spec = shared::decoder(config, &DEFAULTS)?;
    let parameters = config.object("rope_parameters")?;
    let of_type = |key| parameters.as_ref().map_or(Ok(None), |all| all.object(key));
    // Before `rope_parameters` the scaling belonged to the global layers only.
    let global = match of_type("full_attention")? {
        Some(parameters) => Some(parameters),
        None => config.object("rope_scaling")?,
    };
    let (global_theta, local_theta) = (config.positive("rope_theta")?, config.positive("rope_local_base_freq")?);
    spec.ropes = vec![
        rope_keys::read(global, global_theta.unwrap_or(1_000_000.0), &mut spec.context)?,
        rope_keys::read(of_type("sliding_attention")?, local_theta.unwrap_or(10_000.0), &mut spec.context)?,
    ];
    let window = layer_types::window(config, 4096)?;
    let pattern = config.count("sliding_window_pattern", MAX_LAYERS)?.unwrap_or(6);
    let default = |layer| if (layer + 1) % pattern == 0 { LayerType::Full } else { LayerType::Sliding };
    let types = layer_types::layer_types(config, spec.layers.len(), default)?;
    for (layer, kind) in spec.layers.iter_mut().zip(types) {
        let rope = if kind == LayerType::Full { GLOBAL } else { LOCAL };
        *layer = LayerSpec { window: layer_types::window_of(config, kind, window)?, rope };
    }
    gemma2::set_gemma(config, &mut spec)?;
    spec.qk_norm = true;
    spec.attention_softcap = gemma2::soft_cap(config, "attn_logit_softcapping", None)?;
    spec.logit_softcap = gemma2::soft_cap(config, "final_logit_softcapping", None)?;
    Ok(Reading { spec, names: &SANDWICH })
}
