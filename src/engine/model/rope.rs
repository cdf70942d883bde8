//! Rotary position encoding: from a [`RopeSpec`] to the frequencies that turn each pair of dimensions.
//!
//! Formulas and their single-precision steps follow transformers' `modeling_rope_utils.py`.

use std::f64::consts::PI;

use super::spec::{RopeScaling, RopeSpec};

/// What a kernel needs: at position `p`, dimensions `i` and `i + head_dim/2` turn by `p * inv_freq[i]`, and cos and
/// sin are multiplied by `factor`.
#[derive(Clone, Debug, PartialEq)]
pub struct RopeTable {
    /// Radians a position, `[head_dim / 2]`.
    pub inv_freq: Vec<f32>,
    /// Factor on cos and sin; 1 except for YaRN.
    pub factor: f32,
}

/// The table of `rope` for heads of `head_dim` (even) dimensions.
pub fn table(rope: &RopeSpec, head_dim: usize) -> RopeTable {
    let plain = |i: usize| 1.0 / power(rope.theta, 2 * i, head_dim);
    let half = head_dim / 2;
    let inv_freq = match rope.scaling {
        RopeScaling::None => (0..half).map(plain).collect(),
        RopeScaling::Linear { factor } => (0..half).map(|i| plain(i) / factor as f32).collect(),
        RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_context } => {
            let scale = |i| llama3(plain(i), factor, low_freq_factor, high_freq_factor, original_context as f64);
            (0..half).map(scale).collect()
        }
        RopeScaling::Yarn { factor, beta_fast, beta_slow, original_context, truncate, .. } => {
            let (low, high) = yarn_range(rope.theta, head_dim, beta_fast, beta_slow, original_context as f64, truncate);
            let blend = |i: usize| {
                let positions = power(rope.theta, 2 * i, head_dim);
                let kept = 1.0 - ((i as f32 - low) / (high - low)).clamp(0.0, 1.0);
                1.0 / (factor as f32 * positions) * (1.0 - kept) + 1.0 / positions * kept
            };
            (0..half).map(blend).collect()
        }
    };
    let factor = match rope.scaling {
        RopeScaling::Yarn { attention_factor, .. } => attention_factor as f32,
        _ => 1.0,
    };
    RopeTable { inv_freq, factor }
}

/// `base ^ (dimension / head_dim)`, the exponent in single precision as torch has it.
fn power(base: f64, dimension: usize, head_dim: usize) -> f32 {
    let exponent = dimension as f32 / head_dim as f32;
    base.powf(exponent as f64) as f32
}

fn llama3(plain: f32, factor: f64, low_factor: f64, high_factor: f64, original: f64) -> f32 {
    let wavelength = (2.0 * PI) as f32 / plain;
    if wavelength > (original / low_factor) as f32 {
        return plain / factor as f32;
    }
    if wavelength < (original / high_factor) as f32 {
        return plain;
    }
    let smooth = (original as f32 / wavelength - low_factor as f32) / (high_factor - low_factor) as f32;
    (1.0 - smooth) * plain / factor as f32 + smooth * plain
}

/// The dimensions between which YaRN blends.
fn yarn_range(base: f64, head_dim: usize, fast: f64, slow: f64, original: f64, truncate: bool) -> (f32, f32) {
    let dimension = |rotations: f64| head_dim as f64 * (original / (rotations * 2.0 * PI)).ln() / (2.0 * base.ln());
    let (mut low, mut high) = (dimension(fast), dimension(slow));
    if truncate {
        (low, high) = (low.floor(), high.ceil());
    }
    (low, high) = (low.max(0.0), high.min(head_dim as f64 - 1.0));
    if low == high {
        high += 0.001;
    }
    (low as f32, high as f32)
}

/// YaRN's factor on cos and sin where the config does not give it: the paper's `0.1 ln(factor) + 1`, or the quotient
/// that DeepSeek's `mscale` and `mscale_all_dim` ask for.
pub fn yarn_attention_factor(factor: f64, mscale: Option<f64>, mscale_all_dim: Option<f64>) -> f64 {
    let magnitude = |scale: f64| if factor <= 1.0 { 1.0 } else { 0.1 * scale * factor.ln() + 1.0 };
    match (mscale.filter(|m| *m != 0.0), mscale_all_dim.filter(|m| *m != 0.0)) {
        (Some(all), Some(dims)) => magnitude(all) / magnitude(dims),
        _ => magnitude(1.0),
    }
}
