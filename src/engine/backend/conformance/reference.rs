//! The operations in double precision, as their definitions read: what every backend is measured against.

use crate::engine::backend::{AttentionParams, KvType};
use crate::engine::model::spec::Activation;

/// A matrix of doubles, row-major.
#[derive(Clone, Debug)]
pub struct Reference {
    pub cols: usize,
    pub values: Vec<f64>,
}

impl Reference {
    pub fn new(cols: usize, values: impl IntoIterator<Item = f64>) -> Self {
        Self { cols, values: values.into_iter().collect() }
    }

    pub fn rows(&self) -> impl Iterator<Item = &[f64]> {
        self.values.chunks_exact(self.cols)
    }

    fn map_rows(&self, f: impl Fn(&[f64]) -> Vec<f64>) -> Self {
        Self::new(self.cols, self.rows().flat_map(f))
    }
}

/// RMSNorm over stretches of `weight.len()`.
pub fn rms_norm(x: &Reference, weight: &[f64], eps: f64) -> Reference {
    let norm = |part: &[f64]| {
        let mean = part.iter().map(|x| x * x).sum::<f64>() / part.len() as f64;
        part.iter().zip(weight).map(|(x, w)| x / (mean + eps).sqrt() * w).collect::<Vec<_>>()
    };
    x.map_rows(|row| row.chunks_exact(weight.len()).flat_map(norm).collect())
}

/// Half-split rotation.
pub fn rope(x: &Reference, positions: &[usize], inv_freq: &[f64], factor: f64) -> Reference {
    let half = inv_freq.len();
    let rows = x.rows().zip(positions).flat_map(|(row, position)| {
        row.chunks_exact(2 * half).flat_map(move |head| {
            let turn = move |i: usize| {
                let (sin, cos) = (*position as f64 * inv_freq[i % half]).sin_cos();
                let other = if i < half { -head[i + half] } else { head[i - half] };
                factor * (head[i] * cos + other * sin)
            };
            (0..2 * half).map(turn)
        })
    });
    Reference::new(x.cols, rows)
}

/// The gate's activation.
pub fn activation(kind: Activation, x: f64) -> f64 {
    match kind {
        Activation::Silu => x / (1.0 + (-x).exp()),
        Activation::GeluTanh => {
            0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh())
        }
        Activation::Gelu => x * normal_cdf(x),
    }
}

/// The normal distribution function by its power series near 0 and its continued fraction in the tails
/// (Abramowitz & Stegun 26.2.10 and 26.2.14): standard Rust has no erf.
pub fn normal_cdf(x: f64) -> f64 {
    let density = (-x * x / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
    let size = x.abs();
    if size < 3.0 {
        let (mut term, mut sum, mut odd) = (x, x, 1.0);
        while term.abs() > 1e-18 {
            odd += 2.0;
            term *= x * x / odd;
            sum += term;
        }
        return 0.5 + density * sum;
    }
    let fraction = (1..=200).rev().fold(0.0, |tail, k| f64::from(k) / (size + tail));
    let tail = density / (size + fraction);
    if x < 0.0 { tail } else { 1.0 - tail }
}

/// A number as the cache keeps it.
pub fn as_cached(kind: KvType, x: f32) -> f64 {
    f64::from(match kind {
        KvType::F32 => x,
        KvType::F16 => half::f16::from_f32(x).to_f32(),
        KvType::BF16 => half::bf16::from_f32(x).to_f32(),
    })
}

/// Attention of one row at position `position`: `q` of `heads * head_dim`; `keys` and `values` of all positions up
/// to it, `kv_heads * head_dim` each.
pub fn attend(q: &[f64], position: usize, keys: &Reference, values: &Reference, p: &AttentionParams) -> Vec<f64> {
    let first = p.window.map_or(0, |window| (position + 1).saturating_sub(window));
    let mut out = Vec::with_capacity(q.len());
    for (head, q) in q.chunks_exact(p.head_dim).enumerate() {
        let at = head / (p.heads / p.kv_heads) * p.head_dim;
        let score = |t: usize| {
            let key = &keys.values[t * keys.cols + at..][..p.head_dim];
            let s = q.iter().zip(key).map(|(q, k)| q * k).sum::<f64>() * f64::from(p.scale);
            p.softcap.map_or(s, |cap| f64::from(cap) * (s / f64::from(cap)).tanh())
        };
        let scores: Vec<f64> = (first..=position).map(score).collect();
        let largest = scores.iter().copied().fold(f64::MIN, f64::max);
        let weights: Vec<f64> = scores.iter().map(|s| (s - largest).exp()).collect();
        let total: f64 = weights.iter().sum();
        out.extend((0..p.head_dim).map(|d| {
            let weighted = weights.iter().zip(first..).map(|(w, t)| w * values.values[t * values.cols + at + d]);
            weighted.sum::<f64>() / total
        }));
    }
    out
}
