//! AVX2: two registers are sixteen lanes. `maddubs` needs AVX2, FMA and F16C, `vnni` AVX-VNNI
//! besides.
//!
//! Registers hold eight vectors: six rows of sums, the weights, an activation. Streaming keeps more than that alive (a
//! step's words while the next ones are transposed): it took longer for one row than tiles for eight, so nothing streams.

use std::arch::x86_64::*;

use super::lanes::{Lanes, Rows, WORDS, value_ops};

/// Sixteen integers.
type I = [__m256i; 2];
/// Sixteen floats.
type F = [__m256; 2];

/// `DOT` says that there is an instruction for dot products of bytes.
#[derive(Clone, Copy)]
struct Avx2<const DOT: bool>;

/// Methods that do the same with both halves.
macro_rules! halves {
    ($(fn $name:ident($($arg:ident: $ty:ty),*) -> $out:ty = $half:expr;)*) => {$(
        #[inline(always)]
        unsafe fn $name($($arg: $ty),*) -> $out {
            // SAFETY: values only; the processor has the instructions, says the caller.
            unsafe { [$half($($arg[0]),*), $half($($arg[1]),*)] }
        }
    )*};
}

/// `bytes` (1 to 15) from `at` on, zeros behind them.
#[inline(always)]
unsafe fn load_part(at: *const u8, bytes: usize) -> __m128i {
    let index = [0, 1, 2, 3];
    let words = bytes / 4;
    // SAFETY: masked loads and the loop touch only the `bytes` the caller vouches for.
    unsafe {
        let index = _mm_loadu_si128(index.as_ptr().cast());
        let count = _mm_set1_epi32(words as i32);
        let whole = _mm_maskload_epi32(at.cast(), _mm_cmpgt_epi32(count, index));
        if bytes.is_multiple_of(4) {
            return whole;
        }
        let last = (4 * words..bytes).fold(0, |word, i| word | u32::from(at.add(i).read()) << (8 * (i % 4)));
        _mm_or_si128(whole, _mm_and_si128(_mm_set1_epi32(last as i32), _mm_cmpeq_epi32(count, index)))
    }
}

/// Sixteen bytes, or as many of them as there are, of rows `row` and `row + 4`, side by side.
#[inline(always)]
unsafe fn load_two(rows: &Rows, row: usize, offset: usize, bytes: usize) -> __m256i {
    let (low, high) = (rows[row].wrapping_add(offset), rows[row + 4].wrapping_add(offset));
    // SAFETY: the caller vouches for `bytes` of both.
    unsafe {
        if bytes >= 16 {
            _mm256_inserti128_si256::<1>(
                _mm256_castsi128_si256(_mm_loadu_si128(low.cast())),
                _mm_loadu_si128(high.cast()),
            )
        } else {
            _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(load_part(low, bytes)), load_part(high, bytes))
        }
    }
}

/// [`Lanes::dot`] of eight lanes.
#[inline(always)]
unsafe fn dot_half<const DOT: bool, const WIDE: bool>(acc: __m256i, w: __m256i, x: __m256i) -> __m256i {
    // SAFETY: values only; with `DOT` the processor has AVX-VNNI, says the caller.
    unsafe {
        if DOT {
            _mm256_dpbusd_avx_epi32(acc, w, x)
        } else if WIDE {
            // A sum of two products of bytes past 127 may not fit 16 bits: even and odd bytes, as 16 bits each.
            let (w_even, w_odd) = (_mm256_and_si256(w, _mm256_set1_epi16(0xff)), _mm256_srli_epi16::<8>(w));
            let (x_even, x_odd) = (_mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(x)), _mm256_srai_epi16::<8>(x));
            let acc = _mm256_add_epi32(acc, _mm256_madd_epi16(w_even, x_even));
            _mm256_add_epi32(acc, _mm256_madd_epi16(w_odd, x_odd))
        } else {
            // At most 2 · 127 · 127 = 32258: no sum of two saturates.
            let pairs = _mm256_maddubs_epi16(w, x);
            _mm256_add_epi32(acc, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
        }
    }
}

impl<const DOT: bool> Lanes for Avx2<DOT> {
    type I = I;
    type F = F;
    const SATURATES: bool = !DOT;

    #[inline(always)]
    unsafe fn transpose(rows: &Rows, offset: usize, bytes: usize) -> [I; WORDS] {
        // SAFETY: only the `bytes` the caller vouches for are loaded.
        unsafe {
            let mut words = [[_mm256_setzero_si256(); 2]; WORDS];
            for four in 0..WORDS / 4 {
                if bytes <= 16 * four {
                    break;
                }
                let (offset, bytes) = (offset + 16 * four, bytes - 16 * four);
                for half in 0..2 {
                    // Four words of four rows in each 128-bit half: the registers' halves never need to be exchanged.
                    let a = load_two(rows, 8 * half, offset, bytes);
                    let b = load_two(rows, 8 * half + 1, offset, bytes);
                    let c = load_two(rows, 8 * half + 2, offset, bytes);
                    let d = load_two(rows, 8 * half + 3, offset, bytes);
                    let (ab_low, ab_high) = (_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
                    let (cd_low, cd_high) = (_mm256_unpacklo_epi32(c, d), _mm256_unpackhi_epi32(c, d));
                    words[4 * four][half] = _mm256_unpacklo_epi64(ab_low, cd_low);
                    words[4 * four + 1][half] = _mm256_unpackhi_epi64(ab_low, cd_low);
                    words[4 * four + 2][half] = _mm256_unpacklo_epi64(ab_high, cd_high);
                    words[4 * four + 3][half] = _mm256_unpackhi_epi64(ab_high, cd_high);
                }
            }
            words
        }
    }
    #[inline(always)]
    unsafe fn load_i(at: *const u32) -> I {
        // SAFETY: the caller vouches for 64 bytes.
        unsafe { [_mm256_loadu_si256(at.cast()), _mm256_loadu_si256(at.add(8).cast())] }
    }
    #[inline(always)]
    unsafe fn store_i(at: *mut u32, v: I) {
        // SAFETY: the caller vouches for 64 bytes.
        unsafe {
            _mm256_storeu_si256(at.cast(), v[0]);
            _mm256_storeu_si256(at.add(8).cast(), v[1]);
        }
    }
    #[inline(always)]
    unsafe fn load_f(at: *const f32) -> F {
        // SAFETY: the caller vouches for 64 bytes.
        unsafe { [_mm256_loadu_ps(at), _mm256_loadu_ps(at.add(8))] }
    }
    #[inline(always)]
    unsafe fn store_f(at: *mut f32, v: F) {
        // SAFETY: the caller vouches for 64 bytes.
        unsafe {
            _mm256_storeu_ps(at, v[0]);
            _mm256_storeu_ps(at.add(8), v[1]);
        }
    }
    #[inline(always)]
    unsafe fn store_bytes(at: *mut u8, v: I, order: &[u8; 16]) {
        // SAFETY: the caller vouches for 16 bytes; values otherwise.
        unsafe {
            let byte = _mm256_set1_epi32(0xff);
            let halves = _mm256_packus_epi32(_mm256_and_si256(v[0], byte), _mm256_and_si256(v[1], byte));
            let bytes = _mm_packus_epi16(_mm256_castsi256_si128(halves), _mm256_extracti128_si256::<1>(halves));
            // Lanes 0 to 3, 8 to 11, 4 to 7, 12 to 15.
            let bytes = _mm_shuffle_epi32::<0b11_01_10_00>(bytes);
            _mm_storeu_si128(at.cast(), _mm_shuffle_epi8(bytes, _mm_loadu_si128(order.as_ptr().cast())));
        }
    }

    halves! {
        fn and(a: I, b: I) -> I = _mm256_and_si256;
        fn or(a: I, b: I) -> I = _mm256_or_si256;
        fn sub_i(a: I, b: I) -> I = _mm256_sub_epi32;
        fn add_i(a: I, b: I) -> I = _mm256_add_epi32;
        fn max_u(a: I, b: I) -> I = _mm256_max_epu32;
        fn to_f(a: I) -> F = _mm256_cvtepi32_ps;
        fn cast_f(a: I) -> F = _mm256_castsi256_ps;
        fn cast_i(a: F) -> I = _mm256_castps_si256;
        fn add(a: F, b: F) -> F = _mm256_add_ps;
        fn mul(a: F, b: F) -> F = _mm256_mul_ps;
        fn mul_add(a: F, b: F, c: F) -> F = _mm256_fmadd_ps;
    }
    value_ops! {
        fn splat_i(v: u32) -> I { [_mm256_set1_epi32(v as i32); 2] }
        fn splat_f(v: f32) -> F { [_mm256_set1_ps(v); 2] }
        fn shl(a: I, n: u32) -> I {
            let n = _mm256_set1_epi32(n as i32);
            [_mm256_sllv_epi32(a[0], n), _mm256_sllv_epi32(a[1], n)]
        }
        fn shr(a: I, n: u32) -> I {
            let n = _mm256_set1_epi32(n as i32);
            [_mm256_srlv_epi32(a[0], n), _mm256_srlv_epi32(a[1], n)]
        }
        fn reduce_max_u(a: I) -> u32 {
            let eight = _mm256_max_epu32(a[0], a[1]);
            let four = _mm_max_epu32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256::<1>(eight));
            let two = _mm_max_epu32(four, _mm_shuffle_epi32::<0b01_00_11_10>(four));
            _mm_cvtsi128_si32(_mm_max_epu32(two, _mm_shuffle_epi32::<0b10_11_00_01>(two))) as u32
        }
        fn reduce_add(a: I) -> i32 {
            let eight = _mm256_add_epi32(a[0], a[1]);
            let four = _mm_add_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256::<1>(eight));
            let two = _mm_add_epi32(four, _mm_shuffle_epi32::<0b01_00_11_10>(four));
            _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32::<0b10_11_00_01>(two)))
        }
        fn f16_to_f(a: I) -> F {
            let half = _mm256_set1_epi32(0xffff);
            let packed = _mm256_packus_epi32(_mm256_and_si256(a[0], half), _mm256_and_si256(a[1], half));
            let packed = _mm256_permute4x64_epi64::<0b11_01_10_00>(packed);
            [_mm256_cvtph_ps(_mm256_castsi256_si128(packed)), _mm256_cvtph_ps(_mm256_extracti128_si256::<1>(packed))]
        }
    }
    #[inline(always)]
    unsafe fn dot<const WIDE: bool>(acc: I, w: I, x: I) -> I {
        // SAFETY: values only; with `DOT` the processor has AVX-VNNI.
        unsafe { [dot_half::<DOT, WIDE>(acc[0], w[0], x[0]), dot_half::<DOT, WIDE>(acc[1], w[1], x[1])] }
    }
}

pub(super) mod maddubs {
    use super::super::table::kernel_table;
    use super::{Avx2, Lanes, Rows};
    kernel_table!(
        Avx2<false>,
        #[target_feature(enable = "avx2,fma,f16c")],
        bf16: false,
        rows: 6,
        few_rows: 0,
        stream: [],
        dots: { 1: [1, 2, 3, 4, 5, 6] }
    );
}

pub(super) mod vnni {
    use super::super::table::kernel_table;
    use super::{Avx2, Lanes, Rows};
    kernel_table!(
        Avx2<true>,
        #[target_feature(enable = "avx2,fma,f16c,avxvnni")],
        bf16: false,
        rows: 6,
        few_rows: 0,
        stream: [],
        dots: { 1: [1, 2, 3, 4, 5, 6] }
    );
}
