//! The vector trait of the matrix products: sixteen 32-bit lanes, one lane an output row.
//!
//! Every instruction set supplies this trait (one AVX-512 register, two of AVX2, four of NEON, an array); the
//! products are written once over it.

/// Lanes of a vector, and output rows of a panel.
pub const LANES: usize = 16;

/// Where sixteen rows of a stored matrix are being read.
#[derive(Clone, Copy)]
pub struct Rows {
    /// First byte of each row's next piece. Rows past the matrix's end repeat its last one.
    pub at: [*const u8; LANES],
    /// Byte distance to the rows that will be read after these, for prefetching; 0 when not known. Never
    /// dereferenced.
    pub ahead: isize,
}

impl Rows {
    /// The same rows, `bytes` further on.
    #[inline(always)]
    pub fn skip(&self, bytes: usize) -> Rows {
        Rows { at: self.at.map(|row| row.wrapping_add(bytes)), ahead: self.ahead }
    }
}

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

    /// The first `bytes` (1 to 64) of each of sixteen rows as little-endian words, transposed: vector `w` holds
    /// word `w` of row `l` in lane `l`; what lies past `bytes` reads as 0 and is not touched in memory.
    unsafe fn transpose(rows: &Rows, offset: usize, bytes: usize) -> [Self::I; 16];

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
    /// the table says there is one.
    unsafe fn dot_bf16(acc: Self::F, w: Self::I, x: Self::I) -> Self::F;

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
