//! From stored rows to panels: sixteen output rows side by side, one in each lane, columns along memory.
//!
//! Three kinds of panel, all `[steps][16 lanes]` of 32-bit words:
//! - **bytes**: a word holds four consecutive columns (in the width's [`ORDER`]) as unsigned bytes,
//! - **halves**: a word holds two consecutive bf16 columns,
//! - **floats**: a word is one column.

use super::lanes::{LANES, Lanes, Rows, WORDS};

/// The order in which a width's columns stand in a panel: within each sixteen columns, place `i` holds column
/// `ORDER[bits][i]`. Whatever is multiplied with a panel is packed in the same order. Widths that divide a word
/// evenly are cheapest to take apart by masking every other (4) or every fourth (2) field at once.
pub const ORDER: [[u8; 16]; 9] = {
    const NATURAL: [u8; 16] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];
    let mut order = [NATURAL; 9];
    order[2] = [0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15];
    order[4] = [0, 2, 4, 6, 1, 3, 5, 7, 8, 10, 12, 14, 9, 11, 13, 15];
    order
};

/// Words to a panel as they are: 8-bit weights to a bytes panel, bf16 to a halves panel. Reads `bytes` of each row
/// from `offset` on, writes `bytes / 4` (rounded up) vectors; a last half word is filled up with zeros.
#[inline(always)]
pub unsafe fn words<S: Lanes>(rows: &Rows, offset: usize, bytes: usize, mut out: *mut u32) {
    let (mut at, end) = (offset, offset + bytes);
    while at < end {
        let piece = (end - at).min(4 * WORDS);
        // SAFETY: `piece` bytes of each row are inside the `bytes` the caller vouches for; it has room for a vector
        // for every word of them.
        unsafe {
            let words = S::transpose(rows, at, piece);
            for (w, word) in words.into_iter().enumerate() {
                if w * 4 < piece {
                    S::store_i(out, word);
                    out = out.add(LANES);
                }
            }
        }
        at += piece;
    }
}

/// Packed weights of `BITS` bits to a bytes panel: `columns` (a multiple of 32) of each row from byte `offset` on,
/// `columns / 4` vectors.
#[inline(always)]
pub unsafe fn bytes<S: Lanes, const BITS: u32>(rows: &Rows, offset: usize, columns: usize, mut out: *mut u32) {
    if BITS == 8 {
        // SAFETY: handed on.
        return unsafe { words::<S>(rows, offset, columns, out) };
    }
    let blocks = blocks_at_once(BITS);
    let block_bytes = 4 * BITS as usize;
    let mut left = columns / 32;
    let mut at = offset;
    while left > 0 {
        let now = left.min(blocks);
        // SAFETY: `now` blocks are inside the columns that the caller vouches for, and 8 vectors of room each.
        unsafe {
            let words = S::transpose(rows, at, now * block_bytes);
            for block in 0..blocks {
                if block < now {
                    for four in expand::<S, BITS>(&words, block * BITS as usize) {
                        S::store_i(out, four);
                        out = out.add(LANES);
                    }
                }
            }
        }
        at += now * block_bytes;
        left -= now;
    }
}

/// 32 columns are as many words as a width has bits: how many times 32 columns are transposed together. A power of
/// two, so that groups are made of whole transpositions or transpositions of whole groups.
pub const fn blocks_at_once(bits: u32) -> usize {
    if WORDS >= 4 * bits as usize { 4 } else { 2 }
}

/// 32 columns: the `BITS` vectors of `words` from `first` on to eight vectors of bytes.
#[inline(always)]
pub unsafe fn expand<S: Lanes, const BITS: u32>(words: &[S::I; WORDS], first: usize) -> [S::I; 8] {
    // SAFETY: value operations.
    unsafe {
        let mut out = [S::splat_i(0); 8];
        if BITS == 8 {
            for (i, out) in out.iter_mut().enumerate() {
                *out = words[first + i];
            }
        } else if BITS == 2 || BITS == 4 {
            let per_word = 8 / BITS as usize;
            let mask = S::splat_i(if BITS == 2 { 0x0303_0303 } else { 0x0f0f_0f0f });
            for (i, out) in out.iter_mut().enumerate() {
                let word = words[first + i / per_word];
                *out = S::and(S::shr(word, BITS * (i % per_word) as u32), mask);
            }
        } else {
            // Four columns at a time: first apart into the two halves of the word, then each into its two bytes.
            let pair = (1 << (2 * BITS)) - 1;
            let one = (1 << BITS) - 1;
            for (i, out) in out.iter_mut().enumerate() {
                let bit = 4 * BITS * i as u32;
                let (word, shift) = (first + (bit / 32) as usize, bit % 32);
                let mut four = S::shr(words[word], shift);
                if shift + 4 * BITS > 32 {
                    four = S::or(four, S::shl(words[word + 1], 32 - shift));
                }
                let low = S::and(four, S::splat_i(pair));
                let high = S::and(S::shl(four, 16 - 2 * BITS), S::splat_i(pair << 16));
                let pairs = S::or(low, high);
                let low = S::and(pairs, S::splat_i(one | one << 16));
                let high = S::and(S::shl(pairs, 8 - BITS), S::splat_i(one << 8 | one << 24));
                *out = S::or(low, high);
            }
        }
        out
    }
}

/// How the numbers of a dense row are stored; indexes the kernel table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Float {
    /// Single precision.
    F32 = 0,
    /// Half precision.
    F16 = 1,
    /// bfloat16.
    BF16 = 2,
}

impl Float {
    /// Bytes a number takes.
    pub fn size(self) -> usize {
        if self == Float::F32 { 4 } else { 2 }
    }
}

/// Dense numbers (`KIND` is a [`Float`]) to a floats panel: `count` of each row from byte `offset` on, `count` vectors.
/// Also how the scales and biases of sixteen rows are turned to `[group][16]`.
#[inline(always)]
pub unsafe fn floats<S: Lanes, const KIND: usize>(rows: &Rows, offset: usize, count: usize, mut out: *mut f32) {
    let size = if KIND == Float::F32 as usize { 4 } else { 2 };
    let (mut at, end) = (offset, offset + count * size);
    while at < end {
        let piece = (end - at).min(4 * WORDS);
        // SAFETY: `piece` bytes of each row are inside what the caller vouches for; it has room for a vector for
        // every number of them.
        unsafe {
            let words = S::transpose(rows, at, piece);
            for (w, word) in words.into_iter().enumerate() {
                if w * 4 >= piece {
                    continue;
                }
                if KIND == Float::F32 as usize {
                    S::store_f(out, S::cast_f(word));
                    out = out.add(LANES);
                    continue;
                }
                let (low, high) = if KIND == Float::BF16 as usize {
                    (S::cast_f(S::shl(word, 16)), S::cast_f(S::and(word, S::splat_i(0xffff_0000))))
                } else {
                    (S::f16_to_f(S::and(word, S::splat_i(0xffff))), S::f16_to_f(S::shr(word, 16)))
                };
                S::store_f(out, low);
                out = out.add(LANES);
                if w * 4 + 2 < piece {
                    S::store_f(out, high);
                    out = out.add(LANES);
                }
            }
        }
        at += piece;
    }
}

/// A bytes panel of `groups` groups of `quads` words to a floats panel, in the panel's own column order:
/// `scale * q + bias`, rounded after the product and after the sum.
#[inline(always)]
pub unsafe fn dequantise<S: Lanes>(
    mut panel: *const u32,
    groups: usize,
    quads: usize,
    scales: *const f32,
    biases: *const f32,
    mut out: *mut f32,
) {
    for group in 0..groups {
        // SAFETY: the caller vouches for `groups` vectors of scales and biases, `groups * quads` of the panel, and
        // room for four times as many.
        unsafe {
            let scale = S::load_f(scales.add(group * LANES));
            let bias = S::load_f(biases.add(group * LANES));
            for _ in 0..quads {
                let four = S::load_i(panel);
                panel = panel.add(LANES);
                for j in 0..4 {
                    let q = S::to_f(S::and(S::shr(four, 8 * j), S::splat_i(0xff)));
                    S::store_f(out, S::add(S::mul(q, scale), bias));
                    out = out.add(LANES);
                }
            }
        }
    }
}
