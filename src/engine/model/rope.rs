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
                let kept = 1.0 - ((i as f32 - low as f32) / (high - low) as f32).clamp(0.0, 1.0);
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
fn yarn_range(base: f64, head_dim: usize, fast: f64, slow: f64, original: f64, truncate: bool) -> (f64, f64) {
    let dimension = |rotations: f64| head_dim as f64 * (original / (rotations * 2.0 * PI)).ln() / (2.0 * base.ln());
    let (mut low, mut high) = (dimension(fast), dimension(slow));
    if truncate {
        (low, high) = (low.floor(), high.ceil());
    }
    (low, high) = (low.max(0.0), high.min(head_dim as f64 - 1.0));
    if low == high {
        high += 0.001;
    }
    (low, high)
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

#[cfg(test)]
mod tests {
    use super::*;

    /// `(index, value)` of transformers 5.23's `ROPE_INIT_FUNCTIONS`, and its attention factor.
    fn check(head_dim: usize, theta: f64, scaling: RopeScaling, factor: f64, expected: &[(usize, f32)]) {
        let table = table(&RopeSpec { theta, scaling }, head_dim);
        assert_eq!(table.inv_freq.len(), head_dim / 2);
        assert!((table.factor as f64 - factor).abs() < 1e-7, "{} {factor}", table.factor);
        for &(at, value) in expected {
            let error = (table.inv_freq[at] - value).abs() / value;
            assert!(error < 3e-7, "{at}: {} is not {value}", table.inv_freq[at]);
        }
    }

    #[test]
    fn plain() {
        let expected =
            [(0, 1.0), (1, 0.7498942), (7, 0.13335215), (16, 0.01), (17, 0.007498942), (31, 0.000_133_352_15)];
        check(64, 1e4, RopeScaling::None, 1.0, &expected);
    }

    #[test]
    fn linear_as_in_gemma_3_4b() {
        let expected = [(0, 0.125), (1, 0.112_210_89), (12, 0.034_230_247), (64, 0.000_125), (127, 1.392_467_4e-7)];
        check(256, 1e6, RopeScaling::Linear { factor: 8.0 }, 1.0, &expected);
    }

    #[test]
    fn llama3_as_in_llama_3_2_1b() {
        let scaling =
            RopeScaling::Llama3 { factor: 32.0, low_freq_factor: 1.0, high_freq_factor: 4.0, original_context: 8192 };
        // Kept, kept, then the ramp (16) and what is divided by 32.
        let expected = [
            (0, 1.0),
            (1, 0.663_601_3),
            (12, 0.007_292_665),
            (16, 0.000_429_556_7),
            (17, 9.708_286e-5),
            (31, 9.418_306_5e-8),
        ];
        check(64, 5e5, scaling, 1.0, &expected);
    }

    #[test]
    fn yarn_as_in_qwen_2_5s_card() {
        let factor = yarn_attention_factor(4.0, None, None);
        let scaling = RopeScaling::Yarn {
            factor: 4.0,
            beta_fast: 32.0,
            beta_slow: 1.0,
            original_context: 32768,
            attention_factor: factor,
            truncate: true,
        };
        let expected = [(0, 1.0), (7, 0.220_673_4), (17, 0.025_482_967), (32, 0.000_602_941_15), (63, 3.102_344_4e-7)];
        check(128, 1e6, scaling, 1.138_629_436_111_989, &expected);
    }

    #[test]
    fn yarn_without_truncation_as_in_gpt_oss() {
        let scaling = RopeScaling::Yarn {
            factor: 32.0,
            beta_fast: 32.0,
            beta_slow: 1.0,
            original_context: 4096,
            attention_factor: yarn_attention_factor(32.0, None, None),
            truncate: false,
        };
        let expected = [
            (1, 0.689_044_3),
            (7, 0.073_744_565),
            (12, 0.006_794_959_3),
            (16, 0.000_456_483_92),
            (17, 0.000_129_318_7),
            (31, 3.023_511_4e-7),
        ];
        check(64, 150_000.0, scaling, 1.346_573_590_279_972_7, &expected);
    }

    #[test]
    fn yarn_with_mscale_of_its_own() {
        let scaling = RopeScaling::Yarn {
            factor: 40.0,
            beta_fast: 32.0,
            beta_slow: 1.0,
            original_context: 4096,
            attention_factor: yarn_attention_factor(40.0, Some(1.0), Some(0.5)),
            truncate: true,
        };
        let expected =
            [(7, 0.133_352_15), (12, 0.026_879_36), (16, 0.0055), (17, 0.003_561_997_3), (31, 3.333_803_5e-6)];
        check(64, 1e4, scaling, 1.155_721_990_196_260_8, &expected);
    }
}
