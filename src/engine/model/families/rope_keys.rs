//! The config's RoPE keys, new (`rope_parameters`) and old (`rope_theta`, `rope_scaling`).

use super::super::config::{MAX_CONTEXT, Section};
use super::super::rope::yarn_attention_factor;
use super::super::spec::{RopeScaling, RopeSpec};
use crate::engine::error::{Result, fail};

/// The one RoPE of all layers: `rope_parameters` where it stands, else `rope_theta` and `rope_scaling`.
pub fn single(config: &Section, default_theta: f64, context: &mut usize) -> Result<RopeSpec> {
    let theta = config.positive("rope_theta")?.unwrap_or(default_theta);
    let parameters = match config.object("rope_parameters")? {
        // Saved with one entry a layer type: full_attention is the only one that such a family has.
        Some(all) if all.has("full_attention") => all.object("full_attention")?,
        Some(all) => Some(all),
        None => config.object("rope_scaling")?,
    };
    read(parameters, theta, context)
}

/// The RoPE that `parameters` ask for, with `default_theta` where they name none; `None` is plain RoPE.
///
/// `context` is `max_position_embeddings`. YaRN raises it to what the stretch reaches: Qwen's configs keep the
/// original context there, and their cards add a `rope_scaling` that makes it four times as long.
pub fn read(parameters: Option<Section>, default_theta: f64, context: &mut usize) -> Result<RopeSpec> {
    let Some(map) = parameters else { return checked(default_theta, RopeScaling::None) };
    let need = |key: &str| map.positive(key)?.ok_or_else(|| map.missing(key));
    let original = || Ok(map.count("original_max_position_embeddings", MAX_CONTEXT)?.unwrap_or(*context));
    if map.positive("partial_rotary_factor")?.is_some_and(|part| part != 1.0) {
        return Err(map.unsupported("partial_rotary_factor"));
    }
    let key = if map.get("rope_type").is_some() { "rope_type" } else { "type" };
    let scaling = match map.text(key)?.unwrap_or("default") {
        "default" => RopeScaling::None,
        "linear" => RopeScaling::Linear { factor: need("factor")? },
        "llama3" => {
            let (low_freq_factor, high_freq_factor) = (need("low_freq_factor")?, need("high_freq_factor")?);
            if high_freq_factor <= low_freq_factor {
                let place = map.path("high_freq_factor");
                fail!(Format, "{place}: {high_freq_factor} is not above low_freq_factor {low_freq_factor}")
            }
            RopeScaling::Llama3 {
                factor: need("factor")?,
                low_freq_factor,
                high_freq_factor,
                original_context: original()?,
            }
        }
        "yarn" => yarn(&map, original()?, context)?,
        _ => return Err(map.unsupported(key)),
    };
    checked(map.positive("rope_theta")?.unwrap_or(default_theta), scaling)
}

fn yarn(map: &Section, original_context: usize, context: &mut usize) -> Result<RopeScaling> {
    // transformers: without a factor, the stretch is the quotient of the two contexts.
    let factor = map.positive("factor")?.unwrap_or(*context as f64 / original_context as f64);
    let reached = (original_context as f64 * factor).min(MAX_CONTEXT as f64) as usize;
    let attention_factor = match map.positive("attention_factor")? {
        Some(given) => given,
        None => yarn_attention_factor(factor, map.float("mscale")?, map.float("mscale_all_dim")?),
    };
    if !(attention_factor as f32).is_normal() {
        fail!(Format, "{}: gives a factor of {attention_factor} on cos and sin", map.path("mscale"))
    }
    *context = reached.max(*context);
    Ok(RopeScaling::Yarn {
        factor,
        beta_fast: map.positive("beta_fast")?.unwrap_or(32.0),
        beta_slow: map.positive("beta_slow")?.unwrap_or(1.0),
        original_context,
        attention_factor,
        truncate: map.flag("truncate")?.unwrap_or(true),
    })
}

/// A base of one or less has no logarithm to divide by, and no frequencies.
fn checked(theta: f64, scaling: RopeScaling) -> Result<RopeSpec> {
    if theta <= 1.0 {
        fail!(Format, "config.json: rope_theta: {theta}, expected a number above one")
    }
    Ok(RopeSpec { theta, scaling })
}
