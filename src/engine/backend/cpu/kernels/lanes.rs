//! The vector trait of the matrix products: sixteen 32-bit lanes, one lane an output row.
//!
//! Every instruction set supplies this trait (one AVX-512 register, two of AVX2, four of NEON, an array); the
//! products are written once over it.

/// Lanes of a vector, and output rows of a panel.
pub const LANES: usize = 16;
/// Words of each row that are transposed together.
pub const WORDS: usize = 16;

/// Sixteen rows of a stored matrix: where each begins.
pub type Rows = [*const u8; LANES];

/// A stored table with a fixed number of bytes to the row, to be read sixteen rows at a time.
#[derive(Clone, Copy)]
pub struct Strided {
    start: *const u8,
    stride: usize,
    rows: usize,
}

// SAFETY: a view of bytes that nobody writes; whoever reads through it vouches for their lifetime.
unsafe impl Sync for Strided {}
// SAFETY: as above.
unsafe impl Send for Strided {}

impl Strided {
    /// `bytes` as rows of `stride` bytes, at least one.
    pub fn new(bytes: &[u8], stride: usize) -> Self {
        Self { start: bytes.as_ptr(), stride, rows: bytes.len() / stride.max(1) }
    }
    /// Bytes of a row.
    #[inline(always)]
    pub fn stride(&self) -> usize {
        self.stride
    }
    /// Where `row` begins.
    #[inline(always)]
    pub fn at(&self, row: usize) -> *const u8 {
        self.start.wrapping_add(row * self.stride)
    }
    /// Rows `first .. first + 16`; those past the end repeat the last one.
    #[inline(always)]
    pub fn rows(&self, first: usize) -> Rows {
        let last = self.at(self.rows - 1);
        let mut row = self.at(first);
        let mut rows = [row; LANES];
        for at in &mut rows {
            *at = row.min(last);
            row = row.wrapping_add(self.stride);
        }
        rows
    }
}

/// Asks for the cache line at `at`, which need not be valid, to come as near as the second-level cache. What is needed
/// much later would drive out of the first one what is needed now, and requests that wait there hold up loads: with
/// two Zen 4 cores reading one panel ahead, 16 GB/s instead of 24.
#[inline(always)]
pub fn prefetch(at: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: SSE is part of x86-64; prefetching touches nothing.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T1>(at.cast());
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: a hint that touches nothing.
    unsafe {
        std::arch::asm!("prfm pldl2keep, [{}]", in(reg) at, options(nostack, preserves_flags, readonly));
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let _ = at;
}

/// Asks for the cache line at `at`, which need not be valid, to come into the first-level cache.
#[inline(always)]
pub fn prefetch_near(at: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: as for `prefetch`.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(at.cast());
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: as for `prefetch`.
    unsafe {
        std::arch::asm!("prfm pldl1keep, [{}]", in(reg) at, options(nostack, preserves_flags, readonly));
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let _ = at;
}

/// Methods of [`Lanes`] that are values in, values out.
macro_rules! value_ops {
    ($(fn $name:ident($($arg:ident: $ty:ty),*) -> $out:ty $body:block)*) => {$(
        #[inline(always)]
        unsafe fn $name($($arg: $ty),*) -> $out {
            // SAFETY: values only; the processor has the instructions, says the caller.
            unsafe { $body }
        }
    )*};
}

pub(super) use value_ops;

/// Sixteen lanes of `u32`/`i32` (`I`) or `f32` (`F`).
///
/// # Safety
/// Every method may only be called on a processor that has the instruction set, from code compiled for it (it is
/// inlined into the entry points of the kernel table). Pointers must be valid for the bytes the method names; no
/// alignment is needed.
pub trait Lanes: Copy {
    /// Sixteen 32-bit integers.
    type I: Copy;
    /// Sixteen floats.
    type F: Copy;
    /// Whether [`dot`](Lanes::dot) has to be told about bytes past 127.
    const SATURATES: bool;

    /// `bytes` (1 to 64) of each of sixteen rows from `offset` on as little-endian words, transposed: vector `w` holds
    /// word `w` of row `l` in lane `l`; what lies past `bytes` reads as 0 and is not touched in memory.
    unsafe fn transpose(rows: &Rows, offset: usize, bytes: usize) -> [Self::I; WORDS];

    /// Reads 64 bytes.
    unsafe fn load_i(at: *const u32) -> Self::I;
    /// Writes 64 bytes.
    unsafe fn store_i(at: *mut u32, v: Self::I);
    /// Reads 64 bytes.
    unsafe fn load_f(at: *const f32) -> Self::F;
    /// Writes 64 bytes.
    unsafe fn store_f(at: *mut f32, v: Self::F);
    /// One word in every lane.
    unsafe fn splat_i(v: u32) -> Self::I;
    /// One float in every lane.
    unsafe fn splat_f(v: f32) -> Self::F;

    /// Bitwise and.
    unsafe fn and(a: Self::I, b: Self::I) -> Self::I;
    /// Bitwise or.
    unsafe fn or(a: Self::I, b: Self::I) -> Self::I;
    /// Shift left; `n` below 32, a constant after inlining.
    unsafe fn shl(a: Self::I, n: u32) -> Self::I;
    /// Logical shift right; `n` below 32, a constant after inlining.
    unsafe fn shr(a: Self::I, n: u32) -> Self::I;
    /// Wrapping difference.
    unsafe fn sub_i(a: Self::I, b: Self::I) -> Self::I;
    /// The larger, unsigned.
    unsafe fn max_u(a: Self::I, b: Self::I) -> Self::I;
    /// The largest lane, unsigned.
    unsafe fn reduce_max_u(a: Self::I) -> u32;
    /// The lanes' wrapping sum.
    unsafe fn reduce_add(a: Self::I) -> i32;
    /// Wrapping sum.
    unsafe fn add_i(a: Self::I, b: Self::I) -> Self::I;
    /// Writes the low byte of lane `order[i]` to `at + i`: 16 bytes.
    unsafe fn store_bytes(at: *mut u8, v: Self::I, order: &[u8; 16]);

    /// `acc + Σ w[j] * x[j]` over the four bytes of each lane, `w` unsigned, `x` signed and never -128, exact.
    /// `WIDE` says that bytes of `w` may pass 127 (8-bit weights).
    unsafe fn dot<const WIDE: bool>(acc: Self::I, w: Self::I, x: Self::I) -> Self::I;
    /// `acc + Σ w[j] * x[j]` over the two bf16 halves of each lane, by the instruction for it. Only called where
    /// the table says there is one; without, products and sums one after the other.
    #[inline(always)]
    unsafe fn dot_bf16(acc: Self::F, w: Self::I, x: Self::I) -> Self::F {
        // SAFETY: values only; the processor has the instructions, says the caller.
        unsafe {
            let high = Self::splat_i(0xffff_0000);
            let acc = Self::mul_add(Self::cast_f(Self::shl(w, 16)), Self::cast_f(Self::shl(x, 16)), acc);
            Self::mul_add(Self::cast_f(Self::and(w, high)), Self::cast_f(Self::and(x, high)), acc)
        }
    }

    /// Signed integers to floats.
    unsafe fn to_f(a: Self::I) -> Self::F;
    /// The same bits as floats.
    unsafe fn cast_f(a: Self::I) -> Self::F;
    /// The same bits as integers.
    unsafe fn cast_i(a: Self::F) -> Self::I;
    /// The low 16 bits of each lane, a half-precision number, as a float.
    unsafe fn f16_to_f(a: Self::I) -> Self::F;
    /// Sum.
    unsafe fn add(a: Self::F, b: Self::F) -> Self::F;
    /// Product.
    unsafe fn mul(a: Self::F, b: Self::F) -> Self::F;
    /// `a * b + c`, in one rounding where the instruction set has it, in two where not: always the same on one.
    unsafe fn mul_add(a: Self::F, b: Self::F, c: Self::F) -> Self::F;
}
