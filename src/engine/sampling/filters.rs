//! Top-k, top-p, min-p and typical over unnormalised probabilities: what a filter removes becomes 0.
//!
//! The rules, ties included, are those of transformers' logits warpers; where two tokens are equally probable at the
//! border of top-p, the lower id stays. Nothing is sorted as a whole: a border is found by selection.

use std::cmp::Ordering;

use super::vector::{block_sums, largest, log_distances, weighted_log_sum, zero_below, zero_up_to};

/// Keeps the `k` largest weights and whatever equals the k-th.
pub(super) fn top_k(weights: &mut [f32], k: usize) {
    if k == 0 || k >= weights.len() {
        return;
    }
    if let Some(&(_, least)) = largest(weights, k).last() {
        zero_below(weights, least);
    }
}

/// Keeps weights of at least `min_p` times the largest.
pub(super) fn min_p(weights: &mut [f32], min_p: f32) {
    if min_p > 0.0 {
        // The largest weight is e^0 = 1 and no filter removes it.
        zero_below(weights, min_p);
    }
}

/// Keeps the largest weights that together have at least the share `p`, at least one.
pub(super) fn top_p(weights: &mut [f32], p: f32) {
    if p >= 1.0 {
        return;
    }
    let target = block_sums(weights).sum::<f64>() * f64::from(p);
    // Weights lie between 0 and 1; the largest come first.
    let bucket = |weight: f32| BUCKETS - 1 - bucket(weight);
    // Most of a vocabulary is all but impossible, and rarely does its mass reach the border.
    let Some((at, before)) = [1e-6, 0.0].iter().find_map(|&l| crossing_bucket(weights, l, |_, w| bucket(w), target))
    else {
        return;
    };
    let mut items: Vec<(u32, f32)> = Vec::new();
    for (start, chunk) in (0..).step_by(CHUNK).zip(weights.chunks(CHUNK)) {
        if chunk.iter().fold(false, |any, &weight| any | (bucket(weight) == at)) {
            items.extend(
                (start..).zip(chunk.iter().copied()).filter(|&(_, weight)| weight > 0.0 && bucket(weight) == at),
            );
        }
    }
    let order = |a: &(u32, f32), b: &(u32, f32)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
    if let Some((id, weight)) = crossing(&mut items, before, target, order, |item| item.1) {
        let (head, tail) = weights.split_at_mut(id as usize + 1);
        zero_below(head, weight);
        zero_up_to(tail, weight);
    }
}

/// Keeps the weights whose surprise −ln p is nearest to the entropy and that together have at least the share `mass`.
pub(super) fn typical(weights: &mut [f32], mass: f32) {
    if mass >= 1.0 {
        return;
    }
    let total: f64 = block_sums(weights).sum();
    // With p = w / total, the distance of −ln p from −Σ p ln p is that of ln w from its mean.
    let mean = weighted_log_sum(weights) / total;
    let distances = log_distances(weights, mean as f32);
    let target = total * f64::from(mass);
    let Some((at, before)) = crossing_bucket(weights, 0.0, |i, _| bucket(distances[i]), target) else { return };
    let candidates =
        distances.iter().zip(&*weights).filter(|(distance, weight)| **weight > 0.0 && bucket(**distance) == at);
    let mut items: Vec<(f32, f32)> = candidates.map(|(&distance, &weight)| (distance, weight)).collect();
    let order = |a: &(f32, f32), b: &(f32, f32)| a.0.total_cmp(&b.0);
    if let Some((farthest, _)) = crossing(&mut items, before, target, order, |item| item.1) {
        for (weight, &distance) in weights.iter_mut().zip(&distances) {
            *weight = if distance > farthest { 0.0 } else { *weight };
        }
    }
}

/// Buckets for numbers from 0 up: eight an octave, up to 1,024 and beyond in the last.
const BUCKETS: usize = (0x4480_0000 >> 20) + 1;

/// The number's bucket: its exponent and upper three mantissa bits.
fn bucket(x: f32) -> usize {
    ((x.to_bits() >> 20) as usize).min(BUCKETS - 1)
}

/// Weights looked at together, to pass over those that do not matter.
const CHUNK: usize = 16;

/// The first bucket with which the weights of at least `least` reach `target`, and the mass before it.
/// `bucket_of`: a weight's bucket, by index and value.
fn crossing_bucket(
    weights: &[f32],
    least: f32,
    bucket_of: impl Fn(usize, f32) -> usize,
    target: f64,
) -> Option<(usize, f64)> {
    // Four histograms side by side, because neighbouring tokens often share a bucket.
    let mut histograms = [const { [0f64; BUCKETS] }; 4];
    for (start, chunk) in (0..).step_by(CHUNK).zip(weights.chunks(CHUNK)) {
        if chunk.iter().fold(false, |any, &weight| any | (weight >= least)) {
            for (lane, &weight) in chunk.iter().enumerate() {
                let mass = if weight >= least { weight } else { 0.0 };
                histograms[lane % 4][bucket_of(start + lane, weight)] += f64::from(mass);
            }
        }
    }
    let mut before = 0.0;
    for at in 0..BUCKETS {
        let inside: f64 = histograms.iter().map(|histogram| histogram[at]).sum();
        if inside > 0.0 && before + inside >= target {
            return Some((at, before));
        }
        before += inside;
    }
    None // out of reach: of these weights nothing is to be removed
}

/// The first item, in `order`, with which `before` and the items' masses up to it reach `target`; the last item
/// where rounding leaves them short. Halves by selection, so the work is proportional to the number of items.
fn crossing<T: Copy>(
    items: &mut [T],
    before: f64,
    target: f64,
    order: impl Fn(&T, &T) -> Ordering,
    mass: impl Fn(&T) -> f32,
) -> Option<T> {
    let (mut rest, mut before) = (items, before);
    while rest.len() > 1 {
        let middle = rest.len() / 2;
        rest.select_nth_unstable_by(middle, &order);
        let (low, high) = rest.split_at_mut(middle);
        let inside: f64 = low.iter().map(|item| f64::from(mass(item))).sum();
        if before + inside >= target {
            rest = low;
        } else {
            before += inside;
            rest = high;
        }
    }
    rest.first().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn random_weights(length: usize, seed: u64, coarse: bool) -> Vec<f32> {
        let mut state = seed;
        let mut weights: Vec<f32> = (0..length)
            .map(|_| {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                let x = -((state >> 40) as f32) / 2f32.powi(24) * 12.0;
                (if coarse { x.floor() } else { x }).exp()
            })
            .collect();
        weights[length / 3] = 1.0;
        weights
    }

    fn kept(weights: &[f32]) -> Vec<usize> {
        (0..weights.len()).filter(|&i| weights[i] > 0.0).collect()
    }

    /// By full sorts, straight from transformers' definitions.
    #[test]
    fn filters_equal_their_definitions() {
        for (length, coarse) in [(1usize, false), (5, false), (300, false), (3000, false), (3000, true)] {
            for seed in 0..6 {
                let weights = random_weights(length, seed, coarse);
                let total: f64 = weights.iter().map(|&w| f64::from(w)).sum();
                let mut sorted: Vec<usize> = (0..length).collect();
                sorted.sort_by(|&a, &b| weights[b].total_cmp(&weights[a]).then(a.cmp(&b)));

                for k in [1, 3, 50, 1000] {
                    let mut ours = weights.clone();
                    top_k(&mut ours, k);
                    let least = weights[sorted[k.min(length) - 1]];
                    let want: Vec<usize> = (0..length).filter(|&i| weights[i] >= least).collect();
                    assert_eq!(kept(&ours), want, "top_k {k} of {length}");
                }
                for p in [0.0f32, 0.1, 0.5, 0.9, 0.95, 0.999] {
                    let mut ours = weights.clone();
                    top_p(&mut ours, p);
                    let (mut want, mut before) = (Vec::new(), 0.0);
                    for &i in &sorted {
                        if before < f64::from(p) * total || want.is_empty() {
                            want.push(i);
                        }
                        before += f64::from(weights[i]);
                    }
                    want.sort_unstable();
                    assert_eq!(kept(&ours), want, "top_p {p} of {length}");
                }
                for m in [0.1f32, 0.5, 0.9] {
                    let mut ours = weights.clone();
                    typical(&mut ours, m);
                    let p = |i: usize| f64::from(weights[i]) / total;
                    let entropy: f64 = -(0..length).map(|i| p(i) * p(i).ln()).sum::<f64>();
                    let distance = |i: usize| (-p(i).ln() - entropy).abs();
                    let mut by_distance: Vec<usize> = (0..length).collect();
                    by_distance.sort_by(|&a, &b| distance(a).total_cmp(&distance(b)));
                    let mut sum = 0.0;
                    let last = by_distance.iter().position(|&i| {
                        sum += p(i);
                        sum >= f64::from(m)
                    });
                    let farthest = distance(by_distance[last.unwrap_or(length - 1)]) + 2e-6;
                    let want: Vec<usize> = (0..length).filter(|&i| distance(i) <= farthest).collect();
                    assert_eq!(kept(&ours), want, "typical {m} of {length}");
                }
                let mut ours = weights.clone();
                min_p(&mut ours, 0.05);
                let want: Vec<usize> = (0..length).filter(|&i| weights[i] >= 0.05).collect();
                assert_eq!(kept(&ours), want);
            }
        }
    }
}
