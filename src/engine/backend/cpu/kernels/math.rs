//! Transcendental functions on vectors: the same polynomials on every instruction set and in every kernel, because a
//! system's `expf` differs from machine to machine. Coefficients were fitted by Chebyshev interpolation.

use super::vector::Vector;

/// 1.5 * 2^23: adding it rounds a float to an integer, which then lies in the low bits.
const ROUND: f32 = 12_582_912.0;
/// Below this `e^x` is no normal float, and [`exp`] is 0.
const EXP_LOW: f32 = -87.33;
/// `e^88` is near the largest float.
const EXP_HIGH: f32 = 88.0;

/// `sum coefficients[i] * x^i`.
#[inline(always)]
fn polynomial<V: Vector>(x: V, coefficients: &[f32]) -> V {
    let mut sum = V::splat(coefficients[coefficients.len() - 1]);
    let mut i = coefficients.len() - 1;
    while i > 0 {
        i -= 1;
        sum = sum.mul_add(x, V::splat(coefficients[i]));
    }
    sum
}

/// `e^x` within 2 units in the last place; exactly 0 below -87.33 (so a masked score weighs nothing), and no more
/// than `e^88`.
#[inline(always)]
pub fn exp<V: Vector>(x: V) -> V {
    let clamped = x.max(V::splat(EXP_LOW)).min(V::splat(EXP_HIGH));
    // x = n ln 2 + r with |r| <= ln 2 / 2; ln 2 in two parts, the first with zeros at its end, so that n times it
    // is exact.
    let n = clamped.mul_add(V::splat(std::f32::consts::LOG2_E), V::splat(ROUND));
    let whole = n.sub(V::splat(ROUND));
    let r = whole.mul_add(V::splat(-0.693_359_4), clamped);
    let r = whole.mul_add(V::splat(0.000_212_194_44), r);
    let tail = polynomial(r, &[0.5, 0.166_665_76, 0.041_666_552, 0.008_363_233, 0.001_392_625]);
    let y = tail.mul_add(r.mul(r), r).add(V::splat(1.0)).scale_by_bits(n);
    x.select_less(V::splat(EXP_LOW), V::splat(0.0), y)
}

/// `1 / (1 + e^-x)`.
#[inline(always)]
pub fn sigmoid<V: Vector>(x: V) -> V {
    let one = V::splat(1.0);
    one.div(one.add(exp(V::splat(0.0).sub(x))))
}

/// Hyperbolic tangent, to a few units in the last place everywhere: a polynomial near 0, where `1 - 2/(e^2x + 1)`
/// would cancel.
#[inline(always)]
pub fn tanh<V: Vector>(x: V) -> V {
    let size = x.abs();
    let z = x.mul(x);
    let tail = polynomial(z, &[-0.333_333_28, 0.133_327_69, -0.053_850_908, 0.020_997_18, -0.006_096_716_7]);
    let small = tail.mul(z).mul_add(x, x);
    let one = V::splat(1.0);
    let large = one.sub(V::splat(2.0).div(exp(size.add(size)).add(one)));
    let large = x.select_less(V::splat(0.0), V::splat(0.0).sub(large), large);
    size.select_less(V::splat(0.625), small, large)
}

/// The normal distribution's cumulative function, `(1 + erf(x / sqrt 2)) / 2`, with small relative error in the left
/// tail too: `erfc(a) = e^(-a²) t P(t)` with `t = 2 / (2 + a)`.
#[inline(always)]
pub fn normal_cdf<V: Vector>(x: V) -> V {
    let a = x.abs().mul(V::splat(std::f32::consts::FRAC_1_SQRT_2));
    let two = V::splat(2.0);
    let t = two.div(two.add(a));
    let p = polynomial(
        t,
        &[
            0.282_081_54,
            0.282_467_16,
            0.242_395_73,
            0.205_616_34,
            -0.033_780_713,
            0.288_694_14,
            -0.496_626_94,
            0.289_165_5,
            -0.060_012_806,
        ],
    );
    let half = V::splat(0.5);
    let left = exp(V::splat(0.0).sub(a.mul(a))).mul(t).mul(p).mul(half);
    x.select_less(V::splat(0.0), left, V::splat(1.0).sub(left))
}

#[cfg(test)]
mod tests {
    use super::super::Isa;
    use super::super::vector::{Kernel, Simd};
    use super::*;

    struct Apply<'a> {
        function: usize,
        values: &'a mut [f32],
    }

    impl Kernel for Apply<'_> {
        type Output = ();
        #[inline(always)]
        fn run<V: Vector>(self) {
            for x in self.values.chunks_exact_mut(V::LANES) {
                // SAFETY: a chunk holds LANES floats.
                unsafe {
                    let v = V::load(x.as_ptr());
                    let y = match self.function {
                        0 => exp(v),
                        1 => sigmoid(v),
                        2 => tanh(v),
                        _ => normal_cdf(v),
                    };
                    y.store(x.as_mut_ptr());
                }
            }
        }
    }

    /// Largest relative error over `low ..= high`.
    fn error(isa: Isa, function: usize, low: f32, high: f32, truth: impl Fn(f64) -> f64) -> f64 {
        let xs: Vec<f32> = (0..16384).map(|i| low + (high - low) * i as f32 / 16383.0).collect();
        let mut ys = xs.clone();
        Simd::new(isa).unwrap().run(Apply { function, values: &mut ys });
        xs.iter().zip(&ys).fold(0.0, |worst: f64, (x, y)| {
            let t = truth(f64::from(*x));
            worst.max(((f64::from(*y) - t) / t.abs().max(1e-37)).abs())
        })
    }

    #[test]
    fn functions_agree_with_double_precision() {
        for (_, isa) in Isa::NAMES {
            if !isa.is_available() {
                continue;
            }
            let ulp = f64::from(f32::EPSILON);
            for (low, high) in [(-87.3, 0.0), (-1.0, 1.0), (0.0, 88.0)] {
                let e = error(isa, 0, low, high, f64::exp);
                assert!(e < 2.0 * ulp, "{isa:?}: exp on {low}..{high} is off by {e:e}");
            }
            assert!(error(isa, 1, -80.0, 30.0, |x| 1.0 / (1.0 + (-x).exp())) < 3.0 * ulp);
            for (low, high) in [(-12.0, 12.0), (-0.7, 0.7), (-1e-4, 1e-4)] {
                let e = error(isa, 2, low, high, f64::tanh);
                assert!(e < 4.0 * ulp, "{isa:?}: tanh on {low}..{high} is off by {e:e}");
            }
            // Golden values of the cumulative normal distribution come from CPython's math.erfc.
            let golden = [
                (-6.0f32, 9.865876450376946e-10),
                (-3.0, 0.0013498980316300933),
                (-1.0, 0.15865525393145707),
                (-0.5, 0.3085375387259869),
                (0.25, 0.5987063256829237),
                (2.0, 0.9772498680518208),
            ];
            for (x, truth) in golden {
                let e = error(isa, 3, x, x, |_| truth);
                assert!(e < 3e-6, "{isa:?}: normal_cdf({x}) is off by {e:e}");
            }
        }
    }

    #[test]
    fn exp_of_masked_scores_is_nothing() {
        for (_, isa) in Isa::NAMES {
            let Ok(simd) = Simd::new(isa) else { continue };
            let mut values = [f32::NEG_INFINITY; 16];
            values[1] = 0.0;
            values[2] = -87.34;
            values[3] = -1e30;
            simd.run(Apply { function: 0, values: &mut values });
            let mut expected = [0.0f32; 16];
            expected[1] = 1.0;
            assert_eq!(values.map(f32::to_bits), expected.map(f32::to_bits));
        }
    }
}
