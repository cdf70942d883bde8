//! NEON: four registers are sixteen lanes. `base` runs on every 64-bit Arm, `dotprod` needs the 8-bit dot products.
//!
//! Signed and unsigned bytes are multiplied only by the newer `usdot` (I8MM), which would be a third table for the sake
//! of 8-bit weights. Here both sides are signed: narrower weights stay below 128 anyway, 8-bit ones are taken less 128,
//! and 128 times the sum of the activations comes on top, once for all lanes and rows of weights.
//!
//! Registers hold eight vectors, as with AVX2: tiles have its shape, and nothing streams. (Nobody measured this on an Arm:
//! the tests run in an emulator.)

use std::arch::aarch64::*;

use super::lanes::{Lanes, Rows, WORDS, value_ops};
use super::vector::neon::widen_f16;

/// Sixteen integers.
type I = [uint32x4_t; 4];
/// Sixteen floats.
type F = [float32x4_t; 4];

/// `DOT` says that there is an instruction for dot products of bytes.
#[derive(Clone, Copy)]
struct Neon<const DOT: bool>;

/// Methods that do the same with each register.
macro_rules! quarters {
    ($(fn $name:ident($($arg:ident: $ty:ty),*) -> $out:ty = $quarter:expr;)*) => {$(
        #[inline(always)]
        unsafe fn $name($($arg: $ty),*) -> $out {
            // SAFETY: values only; the processor has the instructions, says the caller.
            unsafe { [$quarter($($arg[0]),*), $quarter($($arg[1]),*), $quarter($($arg[2]),*), $quarter($($arg[3]),*)] }
        }
    )*};
}

/// Sixteen bytes from `at` on, or `bytes` of them and zeros.
#[inline(always)]
unsafe fn load_part(at: *const u8, bytes: usize) -> uint32x4_t {
    // SAFETY: the caller vouches for `bytes`.
    unsafe {
        if bytes >= 16 {
            return vreinterpretq_u32_u8(vld1q_u8(at));
        }
        let mut part = [0u8; 16];
        std::ptr::copy_nonoverlapping(at, part.as_mut_ptr(), bytes);
        vreinterpretq_u32_u8(vld1q_u8(part.as_ptr()))
    }
}

/// `acc + Σ a[j] * b[j]` over the four bytes of each lane, both signed. Without `DOT` no sum of two neighbouring
/// products may pass 16 bits.
#[inline(always)]
unsafe fn dot_signed<const DOT: bool>(acc: int32x4_t, a: int8x16_t, b: int8x16_t) -> int32x4_t {
    // SAFETY: values only; with `DOT` the processor has the instruction, for which Rust's intrinsic is not stable yet.
    unsafe {
        if DOT {
            let mut acc = acc;
            std::arch::asm!("sdot {acc:v}.4s, {a:v}.16b, {b:v}.16b", acc = inout(vreg) acc, a = in(vreg) a,
                b = in(vreg) b, options(pure, nomem, nostack, preserves_flags));
            acc
        } else {
            let low = vmull_s8(vget_low_s8(a), vget_low_s8(b));
            vpadalq_s16(acc, vpaddq_s16(low, vmull_high_s8(a, b)))
        }
    }
}

/// [`Lanes::dot`] of four lanes.
#[inline(always)]
unsafe fn dot_quarter<const DOT: bool, const WIDE: bool>(acc: uint32x4_t, w: uint32x4_t, x: uint32x4_t) -> uint32x4_t {
    // SAFETY: values only, handed on. Products of two bytes are at most 128 · 127 in size: two of them fit 16 bits.
    unsafe {
        let (mut acc, mut w, x) = (vreinterpretq_s32_u32(acc), vreinterpretq_s8_u32(w), vreinterpretq_s8_u32(x));
        if WIDE {
            w = veorq_s8(w, vdupq_n_s8(-128));
            acc = vaddq_s32(acc, vshlq_n_s32::<7>(vpaddlq_s16(vpaddlq_s8(x))));
        }
        vreinterpretq_u32_s32(dot_signed::<DOT>(acc, w, x))
    }
}

impl<const DOT: bool> Lanes for Neon<DOT> {
    type I = I;
    type F = F;
    const SATURATES: bool = true;

    #[inline(always)]
    unsafe fn transpose(rows: &Rows, offset: usize, bytes: usize) -> [I; WORDS] {
        // SAFETY: only the `bytes` the caller vouches for are loaded.
        unsafe {
            let mut words = [[vdupq_n_u32(0); 4]; WORDS];
            for four in 0..WORDS / 4 {
                if bytes <= 16 * four {
                    break;
                }
                let (offset, bytes) = (offset + 16 * four, bytes - 16 * four);
                for quarter in 0..4 {
                    let row = |i: usize| rows[4 * quarter + i].wrapping_add(offset);
                    let (a, b) = (load_part(row(0), bytes), load_part(row(1), bytes));
                    let (c, d) = (load_part(row(2), bytes), load_part(row(3), bytes));
                    // Words 0 and 2, words 1 and 3.
                    let (ab_even, ab_odd) = (vtrn1q_u32(a, b), vtrn2q_u32(a, b));
                    let (cd_even, cd_odd) = (vtrn1q_u32(c, d), vtrn2q_u32(c, d));
                    words[4 * four][quarter] = low_pairs(ab_even, cd_even);
                    words[4 * four + 1][quarter] = low_pairs(ab_odd, cd_odd);
                    words[4 * four + 2][quarter] = high_pairs(ab_even, cd_even);
                    words[4 * four + 3][quarter] = high_pairs(ab_odd, cd_odd);
                }
            }
            words
        }
    }
    #[inline(always)]
    unsafe fn load_i(at: *const u32) -> I {
        // SAFETY: the caller vouches for 64 bytes.
        unsafe { std::array::from_fn(|i| vld1q_u32(at.add(4 * i))) }
    }
    #[inline(always)]
    unsafe fn store_i(at: *mut u32, v: I) {
        for i in 0..4 {
            // SAFETY: the caller vouches for 64 bytes.
            unsafe { vst1q_u32(at.add(4 * i), v[i]) };
        }
    }
    #[inline(always)]
    unsafe fn load_f(at: *const f32) -> F {
        // SAFETY: the caller vouches for 64 bytes.
        unsafe { std::array::from_fn(|i| vld1q_f32(at.add(4 * i))) }
    }
    #[inline(always)]
    unsafe fn store_f(at: *mut f32, v: F) {
        for i in 0..4 {
            // SAFETY: the caller vouches for 64 bytes.
            unsafe { vst1q_f32(at.add(4 * i), v[i]) };
        }
    }
    #[inline(always)]
    unsafe fn store_bytes(at: *mut u8, v: I, order: &[u8; 16]) {
        // SAFETY: the caller vouches for 16 bytes; values otherwise.
        unsafe {
            let low = vcombine_u16(vmovn_u32(v[0]), vmovn_u32(v[1]));
            let high = vcombine_u16(vmovn_u32(v[2]), vmovn_u32(v[3]));
            let bytes = vcombine_u8(vmovn_u16(low), vmovn_u16(high));
            vst1q_u8(at, vqtbl1q_u8(bytes, vld1q_u8(order.as_ptr())));
        }
    }

    quarters! {
        fn and(a: I, b: I) -> I = vandq_u32;
        fn or(a: I, b: I) -> I = vorrq_u32;
        fn sub_i(a: I, b: I) -> I = vsubq_u32;
        fn add_i(a: I, b: I) -> I = vaddq_u32;
        fn max_u(a: I, b: I) -> I = vmaxq_u32;
        fn cast_f(a: I) -> F = vreinterpretq_f32_u32;
        fn cast_i(a: F) -> I = vreinterpretq_u32_f32;
        fn add(a: F, b: F) -> F = vaddq_f32;
        fn mul(a: F, b: F) -> F = vmulq_f32;
    }
    value_ops! {
        fn splat_i(v: u32) -> I { [vdupq_n_u32(v); 4] }
        fn splat_f(v: f32) -> F { [vdupq_n_f32(v); 4] }
        fn shl(a: I, n: u32) -> I {
            let n = vdupq_n_s32(n as i32);
            [vshlq_u32(a[0], n), vshlq_u32(a[1], n), vshlq_u32(a[2], n), vshlq_u32(a[3], n)]
        }
        fn shr(a: I, n: u32) -> I {
            // To the right is a negative count to the left.
            let n = vdupq_n_s32(-(n as i32));
            [vshlq_u32(a[0], n), vshlq_u32(a[1], n), vshlq_u32(a[2], n), vshlq_u32(a[3], n)]
        }
        fn reduce_max_u(a: I) -> u32 { vmaxvq_u32(vmaxq_u32(vmaxq_u32(a[0], a[1]), vmaxq_u32(a[2], a[3]))) }
        fn reduce_add(a: I) -> i32 { vaddvq_u32(vaddq_u32(vaddq_u32(a[0], a[1]), vaddq_u32(a[2], a[3]))) as i32 }
        fn to_f(a: I) -> F { a.map(|a| vcvtq_f32_s32(vreinterpretq_s32_u32(a))) }
        fn f16_to_f(a: I) -> F { a.map(|a| widen_f16(vmovn_u32(a))) }
        fn mul_add(a: F, b: F, c: F) -> F {
            [vfmaq_f32(c[0], a[0], b[0]), vfmaq_f32(c[1], a[1], b[1]), vfmaq_f32(c[2], a[2], b[2]), vfmaq_f32(c[3], a[3], b[3])]
        }
    }
    #[inline(always)]
    unsafe fn dot<const WIDE: bool>(acc: I, w: I, x: I) -> I {
        // SAFETY: values only; with `DOT` the processor has the instruction. (No closure: those are not compiled for it.)
        unsafe {
            [
                dot_quarter::<DOT, WIDE>(acc[0], w[0], x[0]),
                dot_quarter::<DOT, WIDE>(acc[1], w[1], x[1]),
                dot_quarter::<DOT, WIDE>(acc[2], w[2], x[2]),
                dot_quarter::<DOT, WIDE>(acc[3], w[3], x[3]),
            ]
        }
    }
}

/// The first two words of both.
#[inline(always)]
unsafe fn low_pairs(a: uint32x4_t, b: uint32x4_t) -> uint32x4_t {
    // SAFETY: values only.
    unsafe { vreinterpretq_u32_u64(vtrn1q_u64(vreinterpretq_u64_u32(a), vreinterpretq_u64_u32(b))) }
}

/// The last two words of both.
#[inline(always)]
unsafe fn high_pairs(a: uint32x4_t, b: uint32x4_t) -> uint32x4_t {
    // SAFETY: values only.
    unsafe { vreinterpretq_u32_u64(vtrn2q_u64(vreinterpretq_u64_u32(a), vreinterpretq_u64_u32(b))) }
}

pub(super) mod base {
    use super::super::table::kernel_table;
    use super::{Lanes, Neon, Rows};
    kernel_table!(
        Neon<false>,
        #[target_feature(enable = "neon")],
        bf16: false,
        rows: 6,
        few_rows: 0,
        stream: [],
        dots: { 1: [1, 2, 3, 4, 5, 6] }
    );
}

pub(super) mod dotprod {
    use super::super::table::kernel_table;
    use super::{Lanes, Neon, Rows};
    kernel_table!(
        Neon<true>,
        #[target_feature(enable = "neon,dotprod")],
        bf16: false,
        rows: 6,
        few_rows: 0,
        stream: [],
        dots: { 1: [1, 2, 3, 4, 5, 6] }
    );
}
