//! Top-k, top-p, min-p and typical over unnormalised probabilities: what a filter removes becomes 0.
//!
//! The rules, ties included, are those of transformers' logits warpers; where two tokens are equally probable at the
//! border of top-p, the lower id stays. Nothing is sorted as a whole: a border is found by selection.

use std::cmp::Ordering;

use super::vector::{block_sums, largest, zero_below, zero_up_to};

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

/// Exponent and upper three mantissa bits of a weight: eight buckets an octave, of which 1.0 is in the last.
const BUCKETS: usize = (0x3f80_0000 >> 20) + 1;
const fn bucket(weight: f32) -> usize {
    let at = (weight.to_bits() >> 20) as usize;
    if at < BUCKETS { at } else { BUCKETS - 1 }
}

/// Keeps the largest weights that together have at least the share `p`, at least one.
pub(super) fn top_p(weights: &mut [f32], p: f32) {
    if p >= 1.0 {
        return;
    }
    let target = block_sums(weights).sum::<f64>() * f64::from(p);
    // Mass by bucket, in four histograms side by side because neighbouring tokens often share a bucket.
    let mut mass = [const { [0f64; BUCKETS] }; 4];
    let (quads, rest) = weights.as_chunks::<4>();
    for quad in quads {
        for (lane, &weight) in quad.iter().enumerate() {
            mass[lane][bucket(weight)] += f64::from(weight);
        }
    }
    for &weight in rest {
        mass[0][bucket(weight)] += f64::from(weight);
    }
    let mut before = 0.0;
    for at in (0..BUCKETS).rev() {
        let inside: f64 = mass.iter().map(|lane| lane[at]).sum();
        if inside > 0.0 && before + inside >= target {
            let mut items: Vec<(u32, f32)> = (0..)
                .zip(weights.iter().copied())
                .filter(|&(_, weight)| weight > 0.0 && bucket(weight) == at)
                .collect();
            let order = |a: &(u32, f32), b: &(u32, f32)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
            if let Some((id, weight)) = crossing(&mut items, before, target, order, |item| item.1) {
                let (head, tail) = weights.split_at_mut(id as usize + 1);
                zero_below(head, weight);
                zero_up_to(tail, weight);
            }
            return;
        }
        before += inside;
    }
}

/// Keeps the weights whose surprise −ln p is nearest to the entropy and that together have at least the share `mass`.
pub(super) fn typical(weights: &mut [f32], mass: f32) {
    if mass >= 1.0 {
        return;
    }
    let total: f64 = block_sums(weights).sum();
    let log_total = total.ln();
    // Entropy: −Σ p ln p with p = w / total.
    let weighted: f64 = weights.iter().filter(|w| **w > 0.0).map(|&w| f64::from(w) * f64::from(w.ln())).sum();
    let entropy = log_total - weighted / total;
    let distance = |weight: f32| (log_total - f64::from(weight.ln()) - entropy).abs() as f32;
    let mut items: Vec<(f32, f32)> = weights.iter().filter(|w| **w > 0.0).map(|&w| (distance(w), w)).collect();
    let order = |a: &(f32, f32), b: &(f32, f32)| a.0.total_cmp(&b.0);
    if let Some((farthest, _)) = crossing(&mut items, 0.0, total * f64::from(mass), order, |item| item.1) {
        for weight in weights {
            *weight = if *weight > 0.0 && distance(*weight) > farthest { 0.0 } else { *weight };
        }
    }
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
                    let farthest = distance(by_distance[last.unwrap_or(length - 1)]) + 1e-6;
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
