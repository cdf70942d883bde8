//! Rotary position encoding in the half-split form.

use super::vector::{Kernel, Simd, Vector};

/// Fills `cos` and `sin` (of `inv_freq.len()` each) for one position, times `factor`.
///
/// The angle is an exact product in double precision and reduced there, so position 131,072 turns as exactly as
/// position 1.
pub fn angles(position: usize, inv_freq: &[f32], factor: f32, cos: &mut [f32], sin: &mut [f32]) {
    for ((frequency, cos), sin) in inv_freq.iter().zip(cos).zip(sin) {
        let (s, c) = (position as f64 * f64::from(*frequency)).sin_cos();
        *cos = (c * f64::from(factor)) as f32;
        *sin = (s * f64::from(factor)) as f32;
    }
}

struct Rotate<'a> {
    row: &'a mut [f32],
    cos: &'a [f32],
    sin: &'a [f32],
}

impl Kernel for Rotate<'_> {
    type Output = ();
    #[inline(always)]
    fn run<V: Vector>(self) {
        let half = self.cos.len();
        assert!(half > 0 && self.sin.len() == half && self.row.len().is_multiple_of(2 * half));
        let (cos, sin) = (self.cos.as_ptr(), self.sin.as_ptr());
        let mut head = 0;
        while head < self.row.len() {
            // SAFETY: `low` and `high` have `half` floats each, `low .. low + 2 * half` being within the row; so do
            // `cos` and `sin`. Accesses are to `i .. i + LANES` with `i + LANES <= half`, or to `i .. half`.
            unsafe {
                let low = self.row.as_mut_ptr().add(head);
                let high = low.add(half);
                let mut i = 0;
                while i + V::LANES <= half {
                    let (a, b) = (V::load(low.add(i)), V::load(high.add(i)));
                    let (c, s) = (V::load(cos.add(i)), V::load(sin.add(i)));
                    a.mul(c).sub(b.mul(s)).store(low.add(i));
                    b.mul(c).add(a.mul(s)).store(high.add(i));
                    i += V::LANES;
                }
                if i < half {
                    let n = half - i;
                    let (a, b) = (V::load_part(low.add(i), n), V::load_part(high.add(i), n));
                    let (c, s) = (V::load_part(cos.add(i), n), V::load_part(sin.add(i), n));
                    a.mul(c).sub(b.mul(s)).store_part(low.add(i), n);
                    b.mul(c).add(a.mul(s)).store_part(high.add(i), n);
                }
            }
            head += 2 * half;
        }
    }
}

/// Turns every head (`2 * cos.len()` columns) of one row.
pub fn rotate(simd: Simd, row: &mut [f32], cos: &[f32], sin: &[f32]) {
    simd.run(Rotate { row, cos, sin });
}
