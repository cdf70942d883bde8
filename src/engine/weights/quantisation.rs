//! What a config says about quantisation: MLX's `quantization` block.
//!
//! `{"group_size": 64, "bits": 4, "mode": "affine", "model.layers.0.mlp.down_proj": {"group_size": 64, "bits": 6},
//! "lm_head": false}`: a default, and per module path another choice or `false` for "left as it was".

use std::collections::HashMap;

use serde_json::{Map, Value};

use crate::engine::error::{Result, fail};

/// The block: a default and what differs from it by module path.
#[derive(Clone, Debug, PartialEq)]
pub struct QuantBlock {
    /// For every quantised matrix that no override names.
    pub default: QuantParams,
    /// By module path (the tensor's name less `.weight`); `None` is `false`.
    pub overrides: HashMap<String, Option<QuantParams>>,
}

/// How a matrix is quantised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuantParams {
    /// Bits an element.
    pub bits: u32,
    /// Elements that share a scale.
    pub group: usize,
    /// `affine`, or a name that this library cannot read yet (`mxfp4`, `nvfp4`, `mxfp8`).
    pub mode: String,
}

impl QuantBlock {
    /// Reads the block's object. Errors name the key within it. Bits, groups and modes are judged where a matrix
    /// uses them, not here.
    pub fn parse(block: &Map<String, Value>) -> Result<Self> {
        let default = params(block, "affine")?;
        let mut overrides = HashMap::new();
        for (path, value) in block {
            let choice = match value {
                Value::Bool(false) => None,
                Value::Bool(true) => Some(default.clone()),
                // An override that does not repeat the mode means affine, as in mlx's `to_quantized`.
                Value::Object(map) => Some(params(map, "affine").map_err(|fault| fault.at(path))?),
                other if path.contains('.') => fail!(Format, "{path}: {other} is neither an object nor false"),
                _ => continue,
            };
            overrides.insert(path.clone(), choice);
        }
        Ok(Self { default, overrides })
    }

    /// What the block says about the matrix at `path`: `None` where it is to be left dense.
    pub fn of(&self, path: &str) -> Option<&QuantParams> {
        self.overrides.get(path).map_or(Some(&self.default), Option::as_ref)
    }
}

fn params(map: &Map<String, Value>, default_mode: &str) -> Result<QuantParams> {
    let number = |key: &str| match map.get(key).and_then(Value::as_u64) {
        Some(value @ 1..=65536) => Ok(value),
        _ => fail!(Format, "{key}: {} is not a small positive integer", map.get(key).unwrap_or(&Value::Null)),
    };
    let mode = match map.get("mode") {
        None | Some(Value::Null) => default_mode,
        Some(Value::String(mode)) => mode,
        Some(other) => fail!(Format, "mode: {other} is not a name"),
    };
    Ok(QuantParams { bits: number("bits")? as u32, group: number("group_size")? as usize, mode: mode.to_owned() })
}
