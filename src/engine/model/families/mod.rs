//! The families: each turns a config into a [`DecoderSpec`] and says how its tensors are called.

mod gemma2;
mod gemma3;
mod layer_types;
mod llama;
mod mistral;
mod names;
mod qwen2;
mod qwen3;
mod rope_keys;
mod shared;

pub use names::{LayerNames, Prefix};

use super::config::{Config, Section};
use super::spec::DecoderSpec;
use crate::engine::error::{Result, fail};

/// A decoder as its config describes it, and where its tensors are.
#[derive(Clone, Debug)]
pub struct Reading {
    /// The decoder.
    pub spec: DecoderSpec,
    /// Names of a layer's tensors.
    pub names: &'static LayerNames,
}

/// Reads the text part of a family's config.
type Reader = fn(&Section) -> Result<Reading>;

/// `model_type` → family. A new family is a line here and a small file beside this one.
const FAMILIES: &[(&str, Reader)] = &[
    ("llama", llama::read),
    ("mistral", mistral::read),
    ("qwen2", qwen2::read),
    ("qwen3", qwen3::read),
    ("gemma2", gemma2::read),
    ("gemma3_text", gemma3::read),
    ("gemma3", gemma3::read_multimodal),
];

/// Every `model_type` that [`read`] accepts.
pub fn supported() -> impl Iterator<Item = &'static str> {
    FAMILIES.iter().map(|(model_type, _)| *model_type)
}

/// The decoder that `config` describes. `Unsupported` names an unknown `model_type` or a feature that no decoder
/// here has; `Format` names the key that is missing, of the wrong type, absurd, or in contradiction to another.
pub fn read(config: &Config) -> Result<Reading> {
    let model_type = config.model_type()?;
    let Some((_, reader)) = FAMILIES.iter().find(|(name, _)| *name == model_type) else {
        fail!(Unsupported, "config.json: model_type: \"{model_type}\" is not one of {}", {
            supported().collect::<Vec<_>>().join(", ")
        })
    };
    let mut reading = reader(&config.text()?)?;
    reading.spec.architecture = config.architecture();
    shared::check(&reading.spec)?;
    Ok(reading)
}
