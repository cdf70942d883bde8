//! `mistral`: Llama's shape, with a window over all layers where `sliding_window` says so.

use super::super::config::Section;
use super::super::spec::Activation;
use super::names::PRE_NORM;
use super::shared::{self, Defaults};
use super::{Reading, layer_types, rope_keys};
use crate::engine::error::Result;

/// transformers' `MistralConfig`.
const DEFAULTS: Defaults = Defaults {
    family: "mistral",
    sizes: None,
    kv_heads: Some(8),
    head_dim: None,
    context: 4096 * 32,
    tied: false,
    activation_key: "hidden_act",
    activation: Activation::Silu,
};

pub fn read(config: &Section) -> Result<Reading> {
    let mut spec = shared::decoder(config, &DEFAULTS)?;
    spec.ropes = vec![rope_keys::single(config, 10_000.0, &mut spec.context)?];
    let window = layer_types::window(config, 4096)?;
    spec.layers.iter_mut().for_each(|layer| layer.window = window);
    Ok(Reading { spec, names: &PRE_NORM })
}
