//! The largest of many numbers.

use super::vector::{Kernel, Simd, Vector};

/// Maxima kept side by side, so that one need not wait for the last.
const CHAINS: usize = 4;

struct Largest<'a>(&'a [f32]);

impl Kernel for Largest<'_> {
    /// The largest number, and 0, or NaN where some number is not finite.
    type Output = (f32, f32);
    #[inline(always)]
    fn run<V: Vector>(self) -> (f32, f32) {
        let (from, count) = (self.0.as_ptr(), self.0.len());
        let mut tops = [V::splat(f32::NEG_INFINITY); CHAINS];
        let mut odd = [V::splat(0.0); CHAINS];
        let mut i = 0;
        while i + CHAINS * V::LANES <= count {
            let mut c = 0;
            while c < CHAINS {
                // SAFETY: within the slice, says the loop's condition.
                let x = unsafe { V::load(from.add(i + c * V::LANES)) };
                tops[c] = x.max(tops[c]);
                odd[c] = odd[c].add(x.sub(x));
                c += 1;
            }
            i += CHAINS * V::LANES;
        }
        let mut top = tops[0].max(tops[1]).max(tops[2].max(tops[3])).largest();
        let mut odd = odd[0].add(odd[1]).add(odd[2].add(odd[3])).sum();
        while i < count {
            let x = self.0[i];
            top = if x > top { x } else { top };
            odd += x * 0.0; // as x - x above: NaN where x is not finite
            i += 1;
        }
        (top, odd)
    }
}

/// The largest number; NaN where there is one.
pub fn largest(simd: Simd, values: &[f32]) -> f32 {
    let (top, odd) = simd.run(Largest(values));
    if odd == 0.0 || !values.iter().any(|x| x.is_nan()) { top } else { f32::NAN }
}
