//! NEON: four lanes.

use std::arch::aarch64::*;

use super::{Kernel, Vector};

/// Runs `kernel` compiled for NEON.
/// # Safety
/// The processor must have NEON, as every 64-bit Arm does.
#[target_feature(enable = "neon")]
pub unsafe fn run<K: Kernel>(kernel: K) -> K::Output {
    kernel.run::<Neon>()
}

/// Half-precision numbers as floats. The conversion is part of the base instruction set, but Rust's intrinsic for it is
/// not stable yet.
#[inline(always)]
pub(in crate::engine::backend::cpu::kernels) unsafe fn widen_f16(half: uint16x4_t) -> float32x4_t {
    let wide: float32x4_t;
    // SAFETY: values only; NEON is part of 64-bit Arm.
    unsafe {
        std::arch::asm!("fcvtl {o:v}.4s, {i:v}.4h", i = in(vreg) half, o = out(vreg) wide,
            options(pure, nomem, nostack, preserves_flags));
    }
    wide
}

/// Four floats in a register.
#[derive(Clone, Copy)]
pub struct Neon(float32x4_t);

// SAFETY of every block below: NEON is part of 64-bit Arm; pointers are vouched for by the callers of the methods
// that take them.
impl Vector for Neon {
    const LANES: usize = 4;

    #[inline(always)]
    fn splat(x: f32) -> Self {
        // SAFETY: see above.
        Self(unsafe { vdupq_n_f32(x) })
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: see above.
        Self(unsafe { vld1q_f32(from) })
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: see above.
        unsafe { vst1q_f32(to, self.0) }
    }
    #[inline(always)]
    unsafe fn load_f16(from: *const u16) -> Self {
        // SAFETY: see above.
        unsafe { Self(widen_f16(vld1_u16(from))) }
    }
    #[inline(always)]
    unsafe fn load_bf16(from: *const u16) -> Self {
        // SAFETY: see above.
        Self(unsafe { vreinterpretq_f32_u32(vshll_n_u16::<16>(vld1_u16(from))) })
    }
    #[inline(always)]
    unsafe fn store_f16(self, to: *mut u16) {
        // SAFETY: see above; as for widen_f16, Rust's intrinsic is not stable yet.
        unsafe {
            let half: uint16x4_t;
            std::arch::asm!("fcvtn {o:v}.4h, {i:v}.4s", i = in(vreg) self.0, o = out(vreg) half,
                options(pure, nomem, nostack, preserves_flags));
            vst1_u16(to, half);
        }
    }
    #[inline(always)]
    unsafe fn store_bf16(self, to: *mut u16) {
        // SAFETY: see above.
        unsafe {
            let bits = vreinterpretq_u32_f32(self.0);
            let odd = vandq_u32(vshrq_n_u32::<16>(bits), vdupq_n_u32(1));
            let up = vaddq_u32(bits, vaddq_u32(odd, vdupq_n_u32(0x7fff)));
            // Rounding could carry a NaN's payload into infinity: NaN stays the quiet NaN.
            let number = vceqq_f32(self.0, self.0);
            let up = vbslq_u32(number, up, vorrq_u32(bits, vdupq_n_u32(0x40_0000)));
            vst1_u16(to, vshrn_n_u32::<16>(up));
        }
    }
    #[inline(always)]
    fn add(self, o: Self) -> Self {
        // SAFETY: see above.
        Self(unsafe { vaddq_f32(self.0, o.0) })
    }
    #[inline(always)]
    fn sub(self, o: Self) -> Self {
        // SAFETY: see above.
        Self(unsafe { vsubq_f32(self.0, o.0) })
    }
    #[inline(always)]
    fn mul(self, o: Self) -> Self {
        // SAFETY: see above.
        Self(unsafe { vmulq_f32(self.0, o.0) })
    }
    #[inline(always)]
    fn div(self, o: Self) -> Self {
        // SAFETY: see above.
        Self(unsafe { vdivq_f32(self.0, o.0) })
    }
    #[inline(always)]
    fn mul_add(self, m: Self, a: Self) -> Self {
        // SAFETY: see above.
        Self(unsafe { vfmaq_f32(a.0, self.0, m.0) })
    }
    #[inline(always)]
    fn max(self, o: Self) -> Self {
        // SAFETY: see above.
        Self(unsafe { vbslq_f32(vcgtq_f32(self.0, o.0), self.0, o.0) })
    }
    #[inline(always)]
    fn min(self, o: Self) -> Self {
        // SAFETY: see above.
        Self(unsafe { vbslq_f32(vcltq_f32(self.0, o.0), self.0, o.0) })
    }
    #[inline(always)]
    fn abs(self) -> Self {
        // SAFETY: see above.
        Self(unsafe { vabsq_f32(self.0) })
    }
    #[inline(always)]
    fn select_less(self, bound: Self, yes: Self, no: Self) -> Self {
        // SAFETY: see above.
        Self(unsafe { vbslq_f32(vcltq_f32(self.0, bound.0), yes.0, no.0) })
    }
    #[inline(always)]
    fn scale_by_bits(self, n: Self) -> Self {
        // SAFETY: see above.
        unsafe {
            let shift = vshlq_n_u32::<23>(vreinterpretq_u32_f32(n.0));
            Self(vreinterpretq_f32_u32(vaddq_u32(vreinterpretq_u32_f32(self.0), shift)))
        }
    }
    #[inline(always)]
    fn sum(self) -> f32 {
        // SAFETY: see above.
        unsafe {
            let two = vadd_f32(vget_low_f32(self.0), vget_high_f32(self.0));
            vget_lane_f32::<0>(two) + vget_lane_f32::<1>(two)
        }
    }
    #[inline(always)]
    fn largest(self) -> f32 {
        // SAFETY: see above.
        unsafe { vmaxvq_f32(self.0) }
    }
}
