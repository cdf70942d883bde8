//! The passes over a whole vocabulary, written in fixed lanes so that the compiler vectorises them and every machine
//! adds in the same order.

/// Values that one step of a pass handles side by side; sums keep this many partial sums.
const LANES: usize = 16;
/// Values whose maximum or sum is kept as one figure.
pub(super) const BLOCK: usize = 256;

/// The largest value and the first index that has it; `None` for an empty slice or where a NaN stands.
pub(super) fn argmax(values: &[f32]) -> Option<(usize, f32)> {
    let mut best: Option<(usize, f32)> = None;
    for (at, block) in values.chunks(BLOCK).enumerate() {
        let (largest, nan) = block_max(block);
        if nan {
            return None;
        }
        if best.is_none_or(|(_, value)| largest > value) {
            best = Some((at, largest));
        }
    }
    let (at, largest) = best?;
    let start = at * BLOCK;
    let within = values[start..].iter().position(|&x| x == largest)?;
    Some((start + within, largest))
}

/// The block's largest value, and whether it has a NaN.
fn block_max(block: &[f32]) -> (f32, bool) {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let mut nans = [0u32; LANES];
    let (chunks, rest) = block.as_chunks::<LANES>();
    for chunk in chunks {
        for lane in 0..LANES {
            let x = chunk[lane];
            lanes[lane] = if x > lanes[lane] { x } else { lanes[lane] };
            nans[lane] |= u32::from(x.is_nan());
        }
    }
    let larger = |a: f32, &b: &f32| if b > a { b } else { a };
    let largest = lanes.iter().chain(rest).fold(f32::NEG_INFINITY, larger);
    (largest, nans.iter().any(|&nan| nan != 0) || rest.iter().any(|x| x.is_nan()))
}

/// e^x for x ≤ 0, within 2 units in the last place; 0 below −87, where results leave the normal range.
///
/// x = n·ln 2 + r with |r| ≤ ln 2 / 2 (ln 2 in two parts, Cody and Waite 1980); e^r by the degree-5 polynomial of
/// Cephes' `expf`; 2^n by exponent bits.
#[inline(always)]
fn exp(x: f32) -> f32 {
    // Adding and taking away 1.5·2^23 rounds to the nearest whole number.
    const ROUND: f32 = 12_582_912.0;
    let clamped = if x > -87.0 { x } else { -87.0 };
    let shifted = clamped * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = clamped - n * 0.693_359_4 - n * -2.121_944_4e-4;
    let mut p = 1.987_569_1e-4;
    p = p * r + 1.398_2e-3;
    p = p * r + 8.333_452e-3;
    p = p * r + 4.166_579_6e-2;
    p = p * r + 1.666_666_6e-1;
    p = p * r + 5e-1;
    let power = p * r * r + r + 1.0;
    // The low bits of `shifted` hold n.
    let scale = f32::from_bits((shifted.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127)) << 23);
    if x > -87.0 { power * scale } else { 0.0 }
}

/// ln x for normal positive x, within 2 units in the last place of the larger of result and 1.
///
/// x = 2^e·m with m between √½ and √2; ln m by the polynomial of Cephes' `logf`.
#[inline(always)]
fn ln(x: f32) -> f32 {
    const SQRT_HALF: u32 = 0x3f35_04f3;
    let shifted = x.to_bits().wrapping_sub(SQRT_HALF);
    let e = ((shifted as i32) >> 23) as f32;
    let m = f32::from_bits((shifted & 0x007f_ffff) + SQRT_HALF);
    let r = m - 1.0;
    let mut p = 7.037_684e-2;
    p = p * r - 1.151_461e-1;
    p = p * r + 1.167_699_9e-1;
    p = p * r - 1.242_014_1e-1;
    p = p * r + 1.424_932_3e-1;
    p = p * r - 1.666_805_8e-1;
    p = p * r + 2.000_071_5e-1;
    p = p * r - 2.499_999_4e-1;
    p = p * r + 3.333_333e-1;
    let square = r * r;
    let y = p * square * r - 2.121_944_4e-4 * e - 0.5 * square;
    r + y + 0.693_359_4 * e
}

/// Σ w·ln w over the positive weights.
pub(super) fn weighted_log_sum(weights: &[f32]) -> f64 {
    blocks(weights, |w| if w > 0.0 { w * ln(w) } else { 0.0 }).sum()
}

/// |ln w − mean| of each weight; 0 for the weight 0.
pub(super) fn log_distances(weights: &[f32], mean: f32) -> Vec<f32> {
    weights.iter().map(|&w| if w > 0.0 { (ln(w) - mean).abs() } else { 0.0 }).collect()
}

/// Replaces each value by e^((value − largest)·inverse_temperature).
pub(super) fn exp_weights(values: &mut [f32], largest: f32, inverse_temperature: f32) {
    for x in values {
        *x = exp((*x - largest) * inverse_temperature);
    }
}

/// Σ e^(value − largest).
pub(super) fn sum_exp(values: &[f32], largest: f32) -> f64 {
    blocks(values, |x| exp(x - largest)).sum()
}

/// The sum of each block of [`BLOCK`] values.
pub(super) fn block_sums(values: &[f32]) -> impl Iterator<Item = f64> {
    blocks(values, |x| x)
}

#[inline(always)]
fn blocks(values: &[f32], of: impl Fn(f32) -> f32) -> impl Iterator<Item = f64> {
    values.chunks(BLOCK).map(move |block| {
        let mut lanes = [0f32; LANES];
        let (chunks, rest) = block.as_chunks::<LANES>();
        for chunk in chunks {
            for lane in 0..LANES {
                lanes[lane] += of(chunk[lane]);
            }
        }
        let whole: f64 = lanes.iter().map(|&sum| f64::from(sum)).sum();
        whole + rest.iter().map(|&x| f64::from(of(x))).sum::<f64>()
    })
}

/// Zeroes every value below `least`.
pub(super) fn zero_below(values: &mut [f32], least: f32) {
    for x in values {
        *x = if *x < least { 0.0 } else { *x };
    }
}

/// Zeroes every value up to `most`.
pub(super) fn zero_up_to(values: &mut [f32], most: f32) {
    for x in values {
        *x = if *x <= most { 0.0 } else { *x };
    }
}

/// The `count` largest values with their indices, largest first, the lower index first among equals. `count` ≥ 1;
/// one pass, in which almost every value only meets a comparison.
pub(super) fn largest(values: &[f32], count: usize) -> Vec<(u32, f32)> {
    let order = |a: &(u32, f32), b: &(u32, f32)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
    let count = count.min(values.len());
    let room = (2 * count).max(64);
    let mut kept: Vec<(u32, f32)> = Vec::with_capacity(room + BLOCK);
    let mut least = f32::NEG_INFINITY;
    for (at, block) in values.chunks(BLOCK).enumerate() {
        if kept.len() >= count && block_max(block).0 <= least {
            continue; // an equal value further on has the higher index
        }
        let enough = kept.len() >= count;
        for (within, &x) in block.iter().enumerate() {
            if !enough || x > least {
                kept.push(((at * BLOCK + within) as u32, x));
            }
        }
        if kept.len() >= room {
            kept.select_nth_unstable_by(count - 1, order);
            kept.truncate(count);
            least = kept[count - 1].1;
        }
    }
    kept.sort_unstable_by(order);
    kept.truncate(count);
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_exact_to_two_units() {
        let mut worst = 0u32;
        for i in 0..2_000_000 {
            let x = -(i as f32) * 43.5e-6;
            let want = f64::from(x).exp() as f32;
            worst = worst.max(exp(x).to_bits().abs_diff(want.to_bits()));
        }
        assert!(worst <= 2, "{worst} units");
        assert_eq!((exp(0.0), exp(-1e30), exp(f32::NEG_INFINITY)), (1.0, 0.0, 0.0));
    }

    #[test]
    fn ln_is_exact_to_two_units() {
        for i in 1..2_000_000u32 {
            let x = f32::from_bits(0x0080_0000 + i * 497);
            let want = f64::from(x).ln();
            let unit = f64::from(f32::EPSILON) * want.abs().max(1.0);
            assert!((f64::from(ln(x)) - want).abs() <= 2.0 * unit, "ln {x:e}: {} {want}", ln(x));
        }
        assert_eq!(ln(1.0), 0.0);
    }

    #[test]
    fn argmax_takes_the_first_of_equals_and_sees_nan() {
        for length in [1, 15, 16, 255, 256, 257, 5000] {
            let mut values = vec![-1.0f32; length];
            assert_eq!(argmax(&values), Some((0, -1.0)));
            values[length - 1] = 2.0;
            assert_eq!(argmax(&values), Some((length - 1, 2.0)));
            values[length / 2] = 2.0;
            assert_eq!(argmax(&values), Some((length / 2, 2.0)));
            for place in [0, length / 2, length - 1] {
                let mut bad = values.clone();
                bad[place] = f32::NAN;
                assert_eq!(argmax(&bad), None, "{length} {place}");
            }
        }
        assert_eq!(argmax(&[f32::NEG_INFINITY; 3]), Some((0, f32::NEG_INFINITY)));
        assert_eq!(argmax(&[]), None);
    }

    #[test]
    fn largest_equals_a_full_sort() {
        let mut state = 7u64;
        let mut random = || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 40) as f32 / 1e4
        };
        for length in [1usize, 70, 1000, 4096] {
            // Few distinct values: ties everywhere.
            for coarse in [false, true] {
                let values: Vec<f32> =
                    (0..length).map(|_| if coarse { (random() / 300.0).floor() } else { random() }).collect();
                let mut sorted: Vec<(u32, f32)> = values.iter().enumerate().map(|(i, &x)| (i as u32, x)).collect();
                sorted.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
                for count in [1, 2, 20, 500, length] {
                    assert_eq!(largest(&values, count), sorted[..count.min(length)], "{length} {count}");
                }
            }
        }
    }
}
