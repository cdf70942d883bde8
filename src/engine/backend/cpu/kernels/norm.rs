//! RMSNorm of one row: `x / sqrt(mean(x²) + eps) * weight`.

use super::vector::{Kernel, Simd, Vector};

/// Accumulators of the sum of squares. With the vector's width this fixes the order of the adds: it depends on the
/// row's length alone.
const CHAINS: usize = 4;

/// Norms each of `out`'s consecutive stretches of `weight.len()` floats.
struct RmsNorm<'a> {
    /// `None`: in place.
    x: Option<&'a [f32]>,
    out: &'a mut [f32],
    weight: &'a [f32],
    eps: f32,
}

impl Kernel for RmsNorm<'_> {
    type Output = ();
    #[inline(always)]
    fn run<V: Vector>(self) {
        let cols = self.weight.len();
        assert!(cols > 0 && self.out.len().is_multiple_of(cols));
        assert!(self.x.is_none_or(|x| x.len() == self.out.len()));
        let to = self.out.as_mut_ptr();
        let from = self.x.map_or(to.cast_const(), <[f32]>::as_ptr);
        let mut at = 0;
        while at < self.out.len() {
            // SAFETY: `at .. at + cols` lies within `x` and `out`, whose lengths are the same multiple of `cols`;
            // where they are one, each element is read before it is written.
            unsafe { norm_row::<V>(from.add(at), to.add(at), self.weight, self.eps) };
            at += cols;
        }
    }
}

/// # Safety
/// `weight.len()` floats must be readable at `from` and writable at `to`.
#[inline(always)]
unsafe fn norm_row<V: Vector>(from: *const f32, to: *mut f32, weight: &[f32], eps: f32) {
    let cols = weight.len();
    // SAFETY: every access is to `i .. i + LANES` with `i + LANES <= cols`, or to `i .. cols`.
    unsafe {
        let mut sums = [V::splat(0.0); CHAINS];
        let mut i = 0;
        while i + CHAINS * V::LANES <= cols {
            let mut c = 0;
            while c < CHAINS {
                let x = V::load(from.add(i + c * V::LANES));
                sums[c] = x.mul_add(x, sums[c]);
                c += 1;
            }
            i += CHAINS * V::LANES;
        }
        while i < cols {
            let x = V::load_part(from.add(i), V::LANES.min(cols - i));
            sums[0] = x.mul_add(x, sums[0]);
            i += V::LANES;
        }
        let square = sums[0].add(sums[1]).add(sums[2].add(sums[3])).sum();
        let factor = V::splat(1.0 / (square / cols as f32 + eps).sqrt());
        let w = weight.as_ptr();
        let mut i = 0;
        while i + V::LANES <= cols {
            V::load(from.add(i)).mul(factor).mul(V::load(w.add(i))).store(to.add(i));
            i += V::LANES;
        }
        if i < cols {
            let rest = cols - i;
            let y = V::load_part(from.add(i), rest).mul(factor).mul(V::load_part(w.add(i), rest));
            y.store_part(to.add(i), rest);
        }
    }
}

/// Norms `x`'s stretches of `weight.len()` into `out`, of the same length.
pub fn rms_norm(simd: Simd, x: &[f32], out: &mut [f32], weight: &[f32], eps: f32) {
    simd.run(RmsNorm { x: Some(x), out, weight, eps });
}

/// The same in place.
pub fn rms_norm_in_place(simd: Simd, x: &mut [f32], weight: &[f32], eps: f32) {
    simd.run(RmsNorm { x: None, out: x, weight, eps });
}
