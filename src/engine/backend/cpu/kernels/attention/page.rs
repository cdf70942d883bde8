//! What a page holds of one head: its element types, and how a token's keys and values are written.

use std::marker::PhantomData;

use crate::engine::backend::PAGE_TOKENS;
use crate::engine::backend::cpu::cache::STRIP;
use crate::engine::backend::cpu::kernels::vector::{Kernel, MAX_LANES, Vector};

/// Element type of the cache.
pub trait Element {
    /// As it lies in memory.
    type Bits: Copy + Default;
    /// # Safety
    /// `V::LANES` elements must be readable at `from`.
    unsafe fn load<V: Vector>(from: *const Self::Bits) -> V;
    /// # Safety
    /// `V::LANES` elements must be writable at `to`.
    unsafe fn store<V: Vector>(v: V, to: *mut Self::Bits);
}

/// Single precision.
pub struct F32;
/// Half precision; larger numbers than its largest become that.
pub struct F16;
/// bfloat16.
pub struct BF16;

impl Element for F32 {
    type Bits = f32;
    #[inline(always)]
    unsafe fn load<V: Vector>(from: *const f32) -> V {
        // SAFETY: the caller's promise.
        unsafe { V::load(from) }
    }
    #[inline(always)]
    unsafe fn store<V: Vector>(v: V, to: *mut f32) {
        // SAFETY: the caller's promise.
        unsafe { v.store(to) }
    }
}

impl Element for F16 {
    type Bits = u16;
    #[inline(always)]
    unsafe fn load<V: Vector>(from: *const u16) -> V {
        // SAFETY: the caller's promise.
        unsafe { V::load_f16(from) }
    }
    #[inline(always)]
    unsafe fn store<V: Vector>(v: V, to: *mut u16) {
        // SAFETY: the caller's promise.
        unsafe { v.max(V::splat(-65504.0)).min(V::splat(65504.0)).store_f16(to) }
    }
}

impl Element for BF16 {
    type Bits = u16;
    #[inline(always)]
    unsafe fn load<V: Vector>(from: *const u16) -> V {
        // SAFETY: the caller's promise.
        unsafe { V::load_bf16(from) }
    }
    #[inline(always)]
    unsafe fn store<V: Vector>(v: V, to: *mut u16) {
        // SAFETY: the caller's promise.
        unsafe { v.store_bf16(to) }
    }
}

/// Writes one token's keys and values of one head.
pub struct Write<E> {
    k: *const f32,
    v: *const f32,
    head: *mut u8,
    head_dim: usize,
    token: usize,
    element: PhantomData<E>,
}

impl<E: Element> Write<E> {
    /// # Safety
    /// `head_dim` floats must be readable at `k` and `v`; at `head` must begin a head's keys in a page, followed by
    /// its values, touched by nobody else while this runs. `token` is a place in the page.
    pub unsafe fn new(k: *const f32, v: *const f32, head: *mut u8, head_dim: usize, token: usize) -> Self {
        Self { k, v, head, head_dim, token, element: PhantomData }
    }
}

impl<E: Element> Kernel for Write<E> {
    type Output = ();
    #[inline(always)]
    fn run<V: Vector>(self) {
        let (head_dim, token) = (self.head_dim, self.token);
        let mut bits = [E::Bits::default(); MAX_LANES];
        // SAFETY: the promises made to `new`: dimension `d`'s key of a token lies at `d * PAGE_TOKENS + token`, its
        // value in the strip of `d`, at `token * width + d % STRIP`.
        unsafe {
            let keys = self.head.cast::<E::Bits>();
            let values = keys.add(head_dim * PAGE_TOKENS);
            let mut d = 0;
            while d < head_dim {
                let count = if head_dim - d < V::LANES { head_dim - d } else { V::LANES };
                E::store(V::load_part(self.k.add(d), count), bits.as_mut_ptr());
                let mut i = 0;
                while i < count {
                    *keys.add((d + i) * PAGE_TOKENS + token) = bits[i];
                    i += 1;
                }
                E::store(V::load_part(self.v.add(d), count), bits.as_mut_ptr());
                let strip = d - d % STRIP;
                let width = if head_dim - strip < STRIP { head_dim - strip } else { STRIP };
                let to = values.add(strip * PAGE_TOKENS + token * width + d % STRIP);
                std::ptr::copy_nonoverlapping(bits.as_ptr(), to, count);
                d += V::LANES;
            }
        }
    }
}
