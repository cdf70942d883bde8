//! Plain Rust, for any processor; LLVM makes of it what the target has.

use super::lanes::{LANES, Lanes, Rows, WORDS};
use super::table::kernel_table;

#[derive(Clone, Copy)]
pub(super) struct Portable;

macro_rules! each {
    ($i:ident => $e:expr) => {
        std::array::from_fn(|$i| $e)
    };
}

impl Lanes for Portable {
    type I = [u32; LANES];
    type F = [f32; LANES];
    const SATURATES: bool = false;

    #[inline(always)]
    unsafe fn transpose(rows: &Rows, offset: usize, bytes: usize) -> [Self::I; WORDS] {
        let mut words = [[0; LANES]; WORDS];
        for (lane, row) in rows.iter().enumerate() {
            let mut buffer = [0u8; 4 * WORDS];
            // SAFETY: the caller vouches for `bytes` (at most 64) from each row on.
            unsafe { std::ptr::copy_nonoverlapping(row.add(offset), buffer.as_mut_ptr(), bytes) };
            for (word, bytes) in words.iter_mut().zip(buffer.chunks_exact(4)) {
                word[lane] = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
            }
        }
        words
    }
    #[inline(always)]
    unsafe fn load_i(at: *const u32) -> Self::I {
        // SAFETY: the caller vouches for 64 bytes.
        unsafe { at.cast::<Self::I>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store_i(at: *mut u32, v: Self::I) {
        // SAFETY: the caller vouches for 64 bytes.
        unsafe { at.cast::<Self::I>().write_unaligned(v) }
    }
    #[inline(always)]
    unsafe fn load_f(at: *const f32) -> Self::F {
        // SAFETY: the caller vouches for 64 bytes.
        unsafe { at.cast::<Self::F>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store_f(at: *mut f32, v: Self::F) {
        // SAFETY: the caller vouches for 64 bytes.
        unsafe { at.cast::<Self::F>().write_unaligned(v) }
    }
    #[inline(always)]
    unsafe fn splat_i(v: u32) -> Self::I {
        [v; LANES]
    }
    #[inline(always)]
    unsafe fn splat_f(v: f32) -> Self::F {
        [v; LANES]
    }
    #[inline(always)]
    unsafe fn and(a: Self::I, b: Self::I) -> Self::I {
        each!(i => a[i] & b[i])
    }
    #[inline(always)]
    unsafe fn or(a: Self::I, b: Self::I) -> Self::I {
        each!(i => a[i] | b[i])
    }
    #[inline(always)]
    unsafe fn shl(a: Self::I, n: u32) -> Self::I {
        each!(i => a[i] << n)
    }
    #[inline(always)]
    unsafe fn shr(a: Self::I, n: u32) -> Self::I {
        each!(i => a[i] >> n)
    }
    #[inline(always)]
    unsafe fn sub_i(a: Self::I, b: Self::I) -> Self::I {
        each!(i => a[i].wrapping_sub(b[i]))
    }
    #[inline(always)]
    unsafe fn add_i(a: Self::I, b: Self::I) -> Self::I {
        each!(i => a[i].wrapping_add(b[i]))
    }
    #[inline(always)]
    unsafe fn max_u(a: Self::I, b: Self::I) -> Self::I {
        each!(i => a[i].max(b[i]))
    }
    #[inline(always)]
    unsafe fn reduce_max_u(a: Self::I) -> u32 {
        a.iter().fold(0, |m, v| m.max(*v))
    }
    #[inline(always)]
    unsafe fn reduce_add(a: Self::I) -> i32 {
        a.iter().fold(0i32, |s, v| s.wrapping_add(*v as i32))
    }
    #[inline(always)]
    unsafe fn store_bytes(at: *mut u8, v: Self::I, order: &[u8; 16]) {
        let bytes: [u8; 16] = each!(i => v[usize::from(order[i] & 15)] as u8);
        // SAFETY: the caller vouches for 16 bytes.
        unsafe { at.cast::<[u8; 16]>().write_unaligned(bytes) }
    }
    #[inline(always)]
    unsafe fn dot<const WIDE: bool>(acc: Self::I, w: Self::I, x: Self::I) -> Self::I {
        each!(i => {
            let (w, x) = (w[i].to_le_bytes(), x[i].to_le_bytes());
            let product = |j: usize| i32::from(w[j]) * i32::from(x[j] as i8);
            acc[i].wrapping_add((product(0) + product(1) + product(2) + product(3)) as u32)
        })
    }
    #[inline(always)]
    unsafe fn dot_bf16(acc: Self::F, w: Self::I, x: Self::I) -> Self::F {
        each!(i => {
            let half = |v: u32, j: u32| f32::from_bits((v >> (16 * j)) << 16);
            acc[i] + (half(w[i], 0) * half(x[i], 0) + half(w[i], 1) * half(x[i], 1))
        })
    }
    #[inline(always)]
    unsafe fn to_f(a: Self::I) -> Self::F {
        each!(i => a[i] as i32 as f32)
    }
    #[inline(always)]
    unsafe fn cast_f(a: Self::I) -> Self::F {
        each!(i => f32::from_bits(a[i]))
    }
    #[inline(always)]
    unsafe fn cast_i(a: Self::F) -> Self::I {
        each!(i => a[i].to_bits())
    }
    #[inline(always)]
    unsafe fn f16_to_f(a: Self::I) -> Self::F {
        each!(i => half::f16::from_bits(a[i] as u16).to_f32())
    }
    #[inline(always)]
    unsafe fn add(a: Self::F, b: Self::F) -> Self::F {
        each!(i => a[i] + b[i])
    }
    #[inline(always)]
    unsafe fn mul(a: Self::F, b: Self::F) -> Self::F {
        each!(i => a[i] * b[i])
    }
    #[inline(always)]
    unsafe fn mul_add(a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        // Not `f32::mul_add`: without the instruction that is a call into libm.
        each!(i => a[i] * b[i] + c[i])
    }
}

kernel_table!(Portable, bf16: false, rows: 4, few_rows: 4, stream: [1, 2, 3, 4], dots: { 1: [1, 2, 3, 4] });
