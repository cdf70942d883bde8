//! The f32 vectors that elementwise, norm and attention kernels are written over: one trait, a thin file per
//! instruction set, and [`Simd`], which runs a kernel with the vectors of the processor at hand.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
pub(in crate::engine::backend::cpu::kernels) mod neon;
mod portable;

use super::Isa;
use crate::engine::error::{Result, fail};

/// `LANES` floats that are computed together.
///
/// Lane-wise operations treat every lane alike, so a value's bits do not depend on where in a vector it lies; only
/// [`sum`](Vector::sum) joins lanes, in an order fixed for each instruction set. Values of the types that need an
/// instruction set are made only inside [`Simd::run`], which is what makes the safe operations sound.
pub trait Vector: Copy {
    /// Floats a vector holds; at most [`MAX_LANES`].
    const LANES: usize;

    /// `x` in every lane.
    fn splat(x: f32) -> Self;
    /// # Safety
    /// `LANES` floats must be readable at `from`, of any alignment.
    unsafe fn load(from: *const f32) -> Self;
    /// # Safety
    /// `LANES` floats must be writable at `to`, of any alignment.
    unsafe fn store(self, to: *mut f32);
    /// IEEE half-precision elements, exactly.
    /// # Safety
    /// `LANES` 16-bit elements must be readable at `from`.
    unsafe fn load_f16(from: *const u16) -> Self;
    /// bfloat16 elements, exactly.
    /// # Safety
    /// `LANES` 16-bit elements must be readable at `from`.
    unsafe fn load_bf16(from: *const u16) -> Self;
    /// Rounded to the nearest half-precision number, ties to even.
    /// # Safety
    /// `LANES` 16-bit elements must be writable at `to`.
    unsafe fn store_f16(self, to: *mut u16);
    /// Rounded to the nearest bfloat16, ties to even.
    /// # Safety
    /// `LANES` 16-bit elements must be writable at `to`.
    unsafe fn store_bf16(self, to: *mut u16);

    /// `self + o`.
    fn add(self, o: Self) -> Self;
    /// `self - o`.
    fn sub(self, o: Self) -> Self;
    /// `self * o`.
    fn mul(self, o: Self) -> Self;
    /// `self / o`.
    fn div(self, o: Self) -> Self;
    /// `self * m + a`, rounded once where the instruction set can.
    fn mul_add(self, m: Self, a: Self) -> Self;
    /// The larger; `o` where `self` is NaN.
    fn max(self, o: Self) -> Self;
    /// The smaller; `o` where `self` is NaN.
    fn min(self, o: Self) -> Self;
    /// `|self|`.
    fn abs(self) -> Self;
    /// `yes` where `self < bound`, else `no`.
    fn select_less(self, bound: Self, yes: Self, no: Self) -> Self;
    /// `self * 2^n`, where the lowest 8 bits of `n`'s representation hold the integer (as they do after adding
    /// 1.5 * 2^23), and the result is a normal number.
    fn scale_by_bits(self, n: Self) -> Self;
    /// Sum of the lanes: pairs half a vector apart, then half of that, and so on.
    fn sum(self) -> f32;
    /// The largest lane.
    fn largest(self) -> f32;

    /// The first `count` lanes from memory, 0 in the rest.
    /// # Safety
    /// `count <= LANES` floats must be readable at `from`.
    #[inline(always)]
    unsafe fn load_part(from: *const f32, count: usize) -> Self {
        let mut lanes = [0.0f32; MAX_LANES];
        // SAFETY: the caller vouches for `count` floats; `lanes` holds at least LANES.
        unsafe {
            std::ptr::copy_nonoverlapping(from, lanes.as_mut_ptr(), count);
            Self::load(lanes.as_ptr())
        }
    }
    /// The first `count` lanes to memory.
    /// # Safety
    /// `count <= LANES` floats must be writable at `to`.
    #[inline(always)]
    unsafe fn store_part(self, to: *mut f32, count: usize) {
        let mut lanes = [0.0f32; MAX_LANES];
        // SAFETY: as above.
        unsafe {
            self.store(lanes.as_mut_ptr());
            std::ptr::copy_nonoverlapping(lanes.as_ptr(), to, count);
        }
    }
}

/// Asks for the cache line at `at`, which need not be readable.
#[inline(always)]
pub fn prefetch<T>(at: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch touches nothing; every x86-64 has it.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(at.cast());
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: a prefetch touches nothing.
    unsafe {
        std::arch::asm!("prfm pldl1keep, [{at}]", at = in(reg) at, options(nostack, preserves_flags, readonly));
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let _ = at;
}

/// The widest vector of any instruction set.
pub const MAX_LANES: usize = 16;

/// A computation written over [`Vector`]. `run`, and everything it calls with vectors, must be `#[inline(always)]`
/// and free of closures over vectors: only then is it compiled for the instruction set that calls it.
pub trait Kernel {
    /// What it returns.
    type Output;
    /// The computation.
    fn run<V: Vector>(self) -> Self::Output;
}

/// The right to run kernels with an instruction set's vectors: proof that the processor has it.
#[derive(Clone, Copy, Debug)]
pub struct Simd(Isa);

impl Simd {
    /// Fails with `Unsupported` where this processor lacks `isa`.
    pub fn new(isa: Isa) -> Result<Self> {
        if !isa.is_available() {
            fail!(Unsupported, "instruction set {}: this processor does not have it", isa.name())
        }
        Ok(Self(isa))
    }

    /// The instruction set.
    pub fn isa(self) -> Isa {
        self.0
    }

    /// Runs `kernel` with this instruction set's vectors.
    #[inline]
    pub fn run<K: Kernel>(self, kernel: K) -> K::Output {
        match self.0 {
            // SAFETY: `new` found the processor to have these features.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 | Isa::Avx2Vnni => unsafe { avx2::run(kernel) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Vnni | Isa::Avx512Bf16 => unsafe { avx512::run(kernel) },
            // SAFETY: as above.
            #[cfg(target_arch = "aarch64")]
            Isa::Neon | Isa::NeonDot => unsafe { neon::run(kernel) },
            _ => kernel.run::<portable::Portable>(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every operation, lane by lane, against scalar Rust.
    struct Check;

    impl Kernel for Check {
        type Output = ();
        #[inline(always)]
        fn run<V: Vector>(self) {
            let a: Vec<f32> = (0..V::LANES).map(|i| (i as f32 - 5.3) * 1.7).collect();
            let b: Vec<f32> = (0..V::LANES).map(|i| 0.37 * i as f32 - 2.0).collect();
            let c: Vec<f32> = (0..V::LANES).map(|i| 10.0 - i as f32).collect();
            // SAFETY: the three hold LANES floats.
            let (va, vb, vc) = unsafe { (V::load(a.as_ptr()), V::load(b.as_ptr()), V::load(c.as_ptr())) };
            check(va.add(vb), |i| a[i] + b[i]);
            check(va.sub(vb), |i| a[i] - b[i]);
            check(va.mul(vb), |i| a[i] * b[i]);
            check(va.div(vb), |i| a[i] / b[i]);
            check(va.max(vb), |i| a[i].max(b[i]));
            check(va.min(vb), |i| a[i].min(b[i]));
            check(va.abs(), |i| a[i].abs());
            check(va.select_less(vb, vc, V::splat(7.0)), |i| if a[i] < b[i] { c[i] } else { 7.0 });
            let magic = V::splat(12_582_912.0);
            check(V::splat(1.5).scale_by_bits(vc.add(magic)), |i| 1.5 * c[i].exp2());
            let fused = lanes(va.mul_add(vb, vc));
            for i in 0..V::LANES {
                let exact = f64::from(a[i]) * f64::from(b[i]) + f64::from(c[i]);
                assert!((f64::from(fused[i]) - exact).abs() <= 4e-6, "{} {exact}", fused[i]);
            }
            let sum: f64 = a.iter().map(|x| f64::from(*x)).sum();
            assert!((f64::from(va.sum()) - sum).abs() < 1e-4);
            assert_eq!(va.largest(), a.iter().copied().fold(f32::MIN, f32::max));
            for count in 0..=V::LANES {
                // SAFETY: count is at most LANES.
                let part = lanes(unsafe { V::load_part(a.as_ptr(), count) });
                let mut out = vec![9.0; V::LANES];
                // SAFETY: as above.
                unsafe { va.store_part(out.as_mut_ptr(), count) };
                for i in 0..V::LANES {
                    assert_eq!(part[i], if i < count { a[i] } else { 0.0 });
                    assert_eq!(out[i], if i < count { a[i] } else { 9.0 });
                }
            }
        }
    }

    fn lanes<V: Vector>(v: V) -> Vec<f32> {
        let mut out = vec![0.0; V::LANES];
        // SAFETY: `out` holds LANES floats.
        unsafe { v.store(out.as_mut_ptr()) };
        out
    }

    fn check<V: Vector>(v: V, expected: impl Fn(usize) -> f32) {
        for (i, x) in lanes(v).into_iter().enumerate() {
            assert_eq!(x.to_bits(), expected(i).to_bits(), "lane {i}: {x} {}", expected(i));
        }
    }

    /// Conversions to and from 16 bits, against the `half` crate.
    struct Convert<'a>(&'a [f32]);

    impl Kernel for Convert<'_> {
        type Output = ();
        #[inline(always)]
        fn run<V: Vector>(self) {
            let mut out = vec![0u16; V::LANES];
            for x in self.0.chunks_exact(V::LANES) {
                // SAFETY: `x` and `out` hold LANES elements.
                let back = unsafe {
                    V::load(x.as_ptr()).store_f16(out.as_mut_ptr());
                    V::load_f16(out.as_ptr())
                };
                for i in 0..V::LANES {
                    assert_eq!(out[i], half::f16::from_f32(x[i]).to_bits(), "f16 of {}", x[i]);
                }
                check(back, |i| half::f16::from_bits(out[i]).to_f32());
                // SAFETY: as above.
                let back = unsafe {
                    V::load(x.as_ptr()).store_bf16(out.as_mut_ptr());
                    V::load_bf16(out.as_ptr())
                };
                for i in 0..V::LANES {
                    assert_eq!(out[i], half::bf16::from_f32(x[i]).to_bits(), "bf16 of {}", x[i]);
                }
                check(back, |i| half::bf16::from_bits(out[i]).to_f32());
            }
        }
    }

    #[test]
    fn every_instruction_set_computes_what_scalars_do() {
        let mut values: Vec<f32> =
            vec![0.0, -0.0, 65504.0, 65519.0, 65520.0, 1e6, -1e6, f32::INFINITY, 5.9e-8, 2.9e-8, 6.1e-5];
        values
            .extend((0..4085).map(|i| f32::from_bits((i as u32).wrapping_mul(2_654_435_761))).filter(|x| !x.is_nan()));
        values.extend((0..1000).map(|i| (i as f32 - 500.0) * 0.01171875));
        for (_, isa) in Isa::NAMES {
            let Ok(simd) = Simd::new(isa) else { continue };
            simd.run(Check);
            simd.run(Convert(&values));
        }
    }
}
