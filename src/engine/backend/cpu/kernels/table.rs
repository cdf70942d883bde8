//! The kernel table: for each instruction set, its entry points and the shape of its tiles.
//!
//! The loops are generic and inlined into the entry points that `kernel_table!` makes, one set of functions
//! compiled for each instruction set; everything above calls through the table.

use super::Isa;
use super::lanes::Rows;
use super::product::{Operands, Scales};
use super::stream::{Groups, Stream};

/// Bytes × bytes of one tile.
pub type DotI8 = unsafe fn(&Operands, &Scales);
/// Halves × halves or floats × floats of one tile.
pub type DotDense = unsafe fn(&Operands);
/// Packed weights × bytes, few rows.
pub type StreamI8 = unsafe fn(&Stream, &Groups);
/// bf16 × bf16, few rows of so many columns.
pub type StreamBf16 = unsafe fn(&Stream, usize);

/// Entry points of one instruction set. All are unsafe for the same two reasons: the processor must have the
/// instruction set, and pointers must be valid for what the function of that name in [`unpack`](super::unpack),
/// [`product`](super::product) or [`activations`](super::activations) says.
pub struct Table {
    /// Rows of a full block of activations.
    pub rows: usize,
    /// Whether [`Table::dot_bf16`] may be called.
    pub bf16: bool,
    /// Up to this many rows stream, more go by tiles; 0 where nothing streams.
    pub few_rows: usize,
    /// Stored words to a panel as they are.
    pub words: unsafe fn(&Rows, usize, usize, *mut u32),
    /// Packed weights to a bytes panel, by width in bits.
    pub bytes: [unsafe fn(&Rows, usize, usize, *mut u32); 9],
    /// Dense numbers to a floats panel, by [`Float`](super::unpack::Float).
    pub floats: [unsafe fn(&Rows, usize, usize, *mut f32); 3],
    /// Bytes panel to floats panel.
    pub dequantise: unsafe fn(*const u32, usize, usize, *const f32, *const f32, *mut f32),
    /// By "8-bit weights", panels - 1, rows - 1.
    pub dot_i8: [&'static [&'static [DotI8]]; 2],
    /// Rows of a block that the streaming kernels take.
    pub stream_rows: &'static [usize],
    /// By width in bits, place of the block's rows in `stream_rows`.
    pub stream_i8: [&'static [StreamI8]; 9],
    /// By place of the block's rows in `stream_rows`. Empty without [`Table::bf16`].
    pub stream_bf16: &'static [StreamBf16],
    /// By panels - 1, rows - 1.
    pub dot_bf16: &'static [&'static [DotDense]],
    /// By panels - 1, rows - 1.
    pub dot_f32: &'static [&'static [DotDense]],
    /// Row to bytes.
    pub quantise: unsafe fn(*const f32, usize, usize, &[u8; 16], *mut u8, *mut [f32; 2], usize),
    /// Row to bf16.
    pub halves: unsafe fn(*const f32, usize, *mut u16),
    /// Row of floats in a panel's order.
    pub reorder: unsafe fn(*const f32, usize, &[u8; 16], *mut f32),
    /// Rows of words to a block.
    pub interleave: unsafe fn(&Rows, usize, usize, *mut u32),
}

/// Makes `TABLE` for a [`Lanes`](super::lanes::Lanes) type: `features` is the attribute for its entry points, `tile`
/// the rows of a block, `dots` for each number of panels the numbers of rows there are micro-kernels for.
macro_rules! kernel_table {
    ($S:ty, $(#[$features:meta],)? bf16: $bf16:literal, rows: $rows:literal, few_rows: $few_rows:literal, stream: [$($few:literal),*], dots: {$($p:literal: [$($r:literal),*]),*}) => {
        use $crate::engine::backend::cpu::kernels::{activations, product, stream, table, unpack};
        use product::{Operands, Scales};
        use stream::{Groups, Stream};

        $(#[$features])?
        unsafe fn words(rows: &Rows, offset: usize, bytes: usize, out: *mut u32) {
            // SAFETY: handed on to the caller, as everywhere in this macro.
            unsafe { unpack::words::<$S>(rows, offset, bytes, out) }
        }
        $(#[$features])?
        unsafe fn bytes<const BITS: u32>(rows: &Rows, offset: usize, columns: usize, out: *mut u32) {
            // SAFETY: as above.
            unsafe { unpack::bytes::<$S, BITS>(rows, offset, columns, out) }
        }
        $(#[$features])?
        unsafe fn floats<const KIND: usize>(rows: &Rows, offset: usize, count: usize, out: *mut f32) {
            // SAFETY: as above.
            unsafe { unpack::floats::<$S, KIND>(rows, offset, count, out) }
        }
        $(#[$features])?
        unsafe fn dequantise(
            panel: *const u32,
            groups: usize,
            quads: usize,
            scales: *const f32,
            biases: *const f32,
            out: *mut f32,
        ) {
            // SAFETY: as above.
            unsafe { unpack::dequantise::<$S>(panel, groups, quads, scales, biases, out) }
        }
        $(#[$features])?
        unsafe fn dot_i8<const R: usize, const P: usize, const WIDE: bool>(o: &Operands, s: &Scales) {
            // SAFETY: as above.
            unsafe { product::dot_i8::<$S, R, P, WIDE>(o, s) }
        }
        #[allow(dead_code)] // where nothing streams
        $(#[$features])?
        unsafe fn stream_i8<const BITS: u32, const R: usize, const WIDE: bool>(s: &Stream, g: &Groups) {
            // SAFETY: as above.
            unsafe { stream::stream_i8::<$S, BITS, R, WIDE>(s, g) }
        }
        #[allow(dead_code)] // where nothing streams
        $(#[$features])?
        unsafe fn stream_bf16<const R: usize>(s: &Stream, columns: usize) {
            // SAFETY: as above.
            unsafe { stream::stream_bf16::<$S, R>(s, columns) }
        }
        $(#[$features])?
        unsafe fn dot_dense<const R: usize, const P: usize, const BF16: bool>(o: &Operands) {
            // SAFETY: as above.
            unsafe { product::dot_dense::<$S, R, P, BF16>(o) }
        }
        $(#[$features])?
        unsafe fn quantise(
            x: *const f32,
            groups: usize,
            group: usize,
            order: &[u8; 16],
            out: *mut u8,
            scales: *mut [f32; 2],
            stride: usize,
        ) {
            // SAFETY: as above.
            unsafe { activations::quantise::<$S>(x, groups, group, order, out, scales, stride) }
        }
        $(#[$features])?
        unsafe fn halves(x: *const f32, columns: usize, out: *mut u16) {
            // SAFETY: as above.
            unsafe { activations::halves(x, columns, out) }
        }
        $(#[$features])?
        unsafe fn reorder(x: *const f32, columns: usize, order: &[u8; 16], out: *mut f32) {
            // SAFETY: as above.
            unsafe { activations::reorder(x, columns, order, out) }
        }
        $(#[$features])?
        unsafe fn interleave(rows: &Rows, r: usize, steps: usize, out: *mut u32) {
            // SAFETY: as above.
            unsafe { activations::interleave::<$S>(rows, r, steps, out) }
        }

        pub(in crate::engine::backend::cpu::kernels) static TABLE: table::Table = table::Table {
            rows: $rows,
            bf16: $bf16,
            few_rows: $few_rows,
            words,
            // Widths that no layout has fall to the nearest that reads no more bytes; none is ever asked for.
            bytes: [
                bytes::<2>, bytes::<2>, bytes::<2>, bytes::<3>, bytes::<4>, bytes::<5>, bytes::<6>, bytes::<6>, bytes::<8>,
            ],
            floats: [floats::<0>, floats::<1>, floats::<2>],
            dequantise,
            dot_i8: [
                &[$(&[$(dot_i8::<$r, $p, false>),*]),*],
                &[$(&[$(dot_i8::<$r, $p, { <$S as Lanes>::SATURATES }>),*]),*],
            ],
            stream_rows: &[$($few),*],
            stream_i8: [
                &[],
                &[],
                &[$(stream_i8::<2, $few, false>),*],
                &[$(stream_i8::<3, $few, false>),*],
                &[$(stream_i8::<4, $few, false>),*],
                &[$(stream_i8::<5, $few, false>),*],
                &[$(stream_i8::<6, $few, false>),*],
                &[],
                &[$(stream_i8::<8, $few, { <$S as Lanes>::SATURATES }>),*],
            ],
            stream_bf16: if $bf16 { &[$(stream_bf16::<$few>),*] } else { &[] },
            dot_bf16: &[$(&[$(dot_dense::<$r, $p, $bf16>),*]),*],
            dot_f32: &[$(&[$(dot_dense::<$r, $p, false>),*]),*],
            quantise,
            halves,
            reorder,
            interleave,
        };
    };
}

pub(super) use kernel_table;

impl Table {
    /// The table of `isa`; the portable one for those this build has none for.
    pub fn of(isa: Isa) -> &'static Table {
        match isa {
            #[cfg(all(target_arch = "x86_64", not(fuzzing)))]
            Isa::Avx2 => &super::avx2::maddubs::TABLE,
            #[cfg(all(target_arch = "x86_64", not(fuzzing)))]
            Isa::Avx2Vnni => &super::avx2::vnni::TABLE,
            #[cfg(all(target_arch = "x86_64", not(fuzzing)))]
            Isa::Avx512Vnni => &super::avx512::vnni::TABLE,
            #[cfg(all(target_arch = "x86_64", not(fuzzing)))]
            Isa::Avx512Bf16 => &super::avx512::bf16::TABLE,
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => &super::neon::base::TABLE,
            #[cfg(target_arch = "aarch64")]
            Isa::NeonDot => &super::neon::dotprod::TABLE,
            _ => &super::portable::TABLE,
        }
    }
    /// The most panels a micro-kernel takes.
    pub fn panels(&self) -> usize {
        self.dot_f32.len()
    }
}
