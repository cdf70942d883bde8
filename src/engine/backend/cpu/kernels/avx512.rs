//! AVX-512: one register is sixteen lanes. `vnni` needs F, BW, VL, DQ and VNNI; `bf16` the BF16 unit besides.

use std::arch::x86_64::*;

use super::lanes::{Lanes, Rows, WORDS, value_ops};

#[derive(Clone, Copy)]
struct Avx512;

impl Lanes for Avx512 {
    type I = __m512i;
    type F = __m512;
    const SATURATES: bool = false;

    #[inline(always)]
    unsafe fn transpose(rows: &Rows, offset: usize, bytes: usize) -> [Self::I; WORDS] {
        // SAFETY: masked loads touch only the `bytes` the caller vouches for.
        unsafe {
            let mut a = [_mm512_setzero_si512(); 16];
            if bytes == 64 {
                for (a, row) in a.iter_mut().zip(rows) {
                    *a = _mm512_loadu_si512(row.wrapping_add(offset).cast());
                }
            } else {
                let mask = u64::MAX >> (64 - bytes);
                for (a, row) in a.iter_mut().zip(rows) {
                    *a = _mm512_maskz_loadu_epi8(mask, row.wrapping_add(offset).cast());
                }
            }
            // Pairs of rows, then quads: 4x4 blocks of words stand transposed in each 128-bit quarter.
            let mut b = [_mm512_setzero_si512(); 16];
            for i in 0..8 {
                b[2 * i] = _mm512_unpacklo_epi32(a[2 * i], a[2 * i + 1]);
                b[2 * i + 1] = _mm512_unpackhi_epi32(a[2 * i], a[2 * i + 1]);
            }
            // c[4q + j], quarter k: word 4k + j of rows 4q .. 4q + 4.
            let mut c = [_mm512_setzero_si512(); 16];
            for q in 0..4 {
                c[4 * q] = _mm512_unpacklo_epi64(b[4 * q], b[4 * q + 2]);
                c[4 * q + 1] = _mm512_unpackhi_epi64(b[4 * q], b[4 * q + 2]);
                c[4 * q + 2] = _mm512_unpacklo_epi64(b[4 * q + 1], b[4 * q + 3]);
                c[4 * q + 3] = _mm512_unpackhi_epi64(b[4 * q + 1], b[4 * q + 3]);
            }
            // Then the 4x4 quarters of each j.
            let mut d = [_mm512_setzero_si512(); 16];
            for j in 0..4 {
                let low01 = _mm512_shuffle_i32x4::<0x88>(c[j], c[4 + j]);
                let low23 = _mm512_shuffle_i32x4::<0x88>(c[8 + j], c[12 + j]);
                let high01 = _mm512_shuffle_i32x4::<0xdd>(c[j], c[4 + j]);
                let high23 = _mm512_shuffle_i32x4::<0xdd>(c[8 + j], c[12 + j]);
                d[j] = _mm512_shuffle_i32x4::<0x88>(low01, low23);
                d[8 + j] = _mm512_shuffle_i32x4::<0xdd>(low01, low23);
                d[4 + j] = _mm512_shuffle_i32x4::<0x88>(high01, high23);
                d[12 + j] = _mm512_shuffle_i32x4::<0xdd>(high01, high23);
            }
            d
        }
    }
    #[inline(always)]
    unsafe fn load_i(at: *const u32) -> Self::I {
        // SAFETY: the caller vouches for 64 bytes.
        unsafe { _mm512_loadu_si512(at.cast()) }
    }
    #[inline(always)]
    unsafe fn store_i(at: *mut u32, v: Self::I) {
        // SAFETY: the caller vouches for 64 bytes.
        unsafe { _mm512_storeu_si512(at.cast(), v) }
    }
    #[inline(always)]
    unsafe fn load_f(at: *const f32) -> Self::F {
        // SAFETY: the caller vouches for 64 bytes.
        unsafe { _mm512_loadu_ps(at) }
    }
    #[inline(always)]
    unsafe fn store_f(at: *mut f32, v: Self::F) {
        // SAFETY: the caller vouches for 64 bytes.
        unsafe { _mm512_storeu_ps(at, v) }
    }
    #[inline(always)]
    unsafe fn store_bytes(at: *mut u8, v: Self::I, order: &[u8; 16]) {
        // SAFETY: the caller vouches for 16 bytes; values otherwise.
        unsafe {
            let order = _mm_loadu_si128(order.as_ptr().cast());
            _mm_storeu_si128(at.cast(), _mm_shuffle_epi8(_mm512_cvtepi32_epi8(v), order));
        }
    }

    value_ops! {
        fn splat_i(v: u32) -> __m512i { _mm512_set1_epi32(v as i32) }
        fn splat_f(v: f32) -> __m512 { _mm512_set1_ps(v) }
        fn and(a: __m512i, b: __m512i) -> __m512i { _mm512_and_si512(a, b) }
        fn or(a: __m512i, b: __m512i) -> __m512i { _mm512_or_si512(a, b) }
        fn shl(a: __m512i, n: u32) -> __m512i { _mm512_sllv_epi32(a, _mm512_set1_epi32(n as i32)) }
        fn shr(a: __m512i, n: u32) -> __m512i { _mm512_srlv_epi32(a, _mm512_set1_epi32(n as i32)) }
        fn sub_i(a: __m512i, b: __m512i) -> __m512i { _mm512_sub_epi32(a, b) }
        fn add_i(a: __m512i, b: __m512i) -> __m512i { _mm512_add_epi32(a, b) }
        fn max_u(a: __m512i, b: __m512i) -> __m512i { _mm512_max_epu32(a, b) }
        fn reduce_max_u(a: __m512i) -> u32 { _mm512_reduce_max_epu32(a) }
        fn reduce_add(a: __m512i) -> i32 { _mm512_reduce_add_epi32(a) }
        fn to_f(a: __m512i) -> __m512 { _mm512_cvtepi32_ps(a) }
        fn cast_f(a: __m512i) -> __m512 { _mm512_castsi512_ps(a) }
        fn cast_i(a: __m512) -> __m512i { _mm512_castps_si512(a) }
        fn f16_to_f(a: __m512i) -> __m512 { _mm512_cvtph_ps(_mm512_cvtepi32_epi16(a)) }
        fn add(a: __m512, b: __m512) -> __m512 { _mm512_add_ps(a, b) }
        fn mul(a: __m512, b: __m512) -> __m512 { _mm512_mul_ps(a, b) }
        fn mul_add(a: __m512, b: __m512, c: __m512) -> __m512 { _mm512_fmadd_ps(a, b, c) }
        fn dot_bf16(acc: __m512, w: __m512i, x: __m512i) -> __m512 {
            // SAFETY (of the casts): the same 512 bits.
            _mm512_dpbf16_ps(acc, std::mem::transmute::<__m512i, __m512bh>(w), std::mem::transmute::<__m512i, __m512bh>(x))
        }
    }
    #[inline(always)]
    unsafe fn dot<const WIDE: bool>(acc: Self::I, w: Self::I, x: Self::I) -> Self::I {
        // SAFETY: values only.
        unsafe { _mm512_dpbusd_epi32(acc, w, x) }
    }
}

pub(super) mod vnni {
    use super::super::table::kernel_table;
    use super::{Avx512, Lanes, Rows};
    kernel_table!(
        Avx512,
        #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")],
        bf16: false,
        rows: 8,
        few_rows: 16,
        stream: [1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14],
        dots: { 1: [1, 2, 3, 4, 5, 6, 7, 8], 2: [1, 2, 3, 4, 5, 6, 7, 8] }
    );
}

pub(super) mod bf16 {
    use super::super::table::kernel_table;
    use super::{Avx512, Lanes, Rows};
    kernel_table!(
        Avx512,
        #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512bf16,avx2,fma,f16c")],
        bf16: true,
        rows: 8,
        few_rows: 16,
        stream: [1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14],
        dots: { 1: [1, 2, 3, 4, 5, 6, 7, 8], 2: [1, 2, 3, 4, 5, 6, 7, 8] }
    );
}
