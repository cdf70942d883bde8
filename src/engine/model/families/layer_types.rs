//! Which layers see all positions and which a window.

use super::super::config::{MAX_CONTEXT, Section};
use crate::engine::error::{Result, fail};

/// A layer's attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayerType {
    /// Every earlier position.
    Full,
    /// The last `sliding_window` positions.
    Sliding,
}

/// `layer_types` of `count` layers, or `default(layer)` where the config has none.
pub fn layer_types(config: &Section, count: usize, default: impl Fn(usize) -> LayerType) -> Result<Vec<LayerType>> {
    let key = "layer_types";
    let Some(names) = config.texts(key)? else { return Ok((0..count).map(default).collect()) };
    if names.len() != count {
        fail!(Format, "{}: {} entries, but num_hidden_layers is {count}", config.path(key), names.len())
    }
    let types = names.into_iter().map(|name| match name {
        "full_attention" => Ok(LayerType::Full),
        "sliding_attention" => Ok(LayerType::Sliding),
        other => fail!(Unsupported, "{}: \"{other}\" is not supported", config.path(key)),
    });
    types.collect()
}

/// `sliding_window`: `default` where the key is absent, none where it is `null`.
pub fn window(config: &Section, default: usize) -> Result<Option<usize>> {
    let key = "sliding_window";
    Ok(config.count(key, MAX_CONTEXT)?.or((!config.has(key)).then_some(default)))
}

/// The window of a layer; `Format` where a sliding layer has none.
pub fn window_of(config: &Section, kind: LayerType, window: Option<usize>) -> Result<Option<usize>> {
    match (kind, window) {
        (LayerType::Full, _) => Ok(None),
        (LayerType::Sliding, Some(window)) => Ok(Some(window)),
        (LayerType::Sliding, None) => {
            fail!(Format, "{}: none, but layer_types has sliding_attention", config.path("sliding_window"))
        }
    }
}
