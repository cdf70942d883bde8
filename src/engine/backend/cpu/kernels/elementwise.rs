//! Lane-by-lane operations over whole activations: an element's bits depend on nothing but the operands.

use super::math;
use super::vector::{Kernel, Simd, Vector};
use crate::engine::model::spec::Activation;

/// A function of two elements.
trait Binary {
    fn apply<V: Vector>(&self, a: V, b: V) -> V;
}

/// `a[i] = f(a[i], b[i])`; both of one length.
struct Zip<'a, F> {
    f: F,
    a: &'a mut [f32],
    b: &'a [f32],
}

impl<F: Binary> Kernel for Zip<'_, F> {
    type Output = ();
    #[inline(always)]
    fn run<V: Vector>(self) {
        assert_eq!(self.a.len(), self.b.len());
        let (a, b, count) = (self.a.as_mut_ptr(), self.b.as_ptr(), self.a.len());
        let mut i = 0;
        // SAFETY: every access is to `i .. i + LANES` or `i .. count`, within both slices of `count` floats.
        unsafe {
            while i + V::LANES <= count {
                self.f.apply(V::load(a.add(i)), V::load(b.add(i))).store(a.add(i));
                i += V::LANES;
            }
            if i < count {
                let rest = count - i;
                self.f.apply(V::load_part(a.add(i), rest), V::load_part(b.add(i), rest)).store_part(a.add(i), rest);
            }
        }
    }
}

struct Add;
impl Binary for Add {
    #[inline(always)]
    fn apply<V: Vector>(&self, a: V, b: V) -> V {
        a.add(b)
    }
}

struct Silu;
impl Binary for Silu {
    #[inline(always)]
    fn apply<V: Vector>(&self, gate: V, up: V) -> V {
        gate.mul(math::sigmoid(gate)).mul(up)
    }
}

struct GeluTanh;
impl Binary for GeluTanh {
    #[inline(always)]
    fn apply<V: Vector>(&self, x: V, up: V) -> V {
        // (1 + tanh u) / 2 is sigmoid(2u), here with u = sqrt(2/π) (x + 0.044715 x³).
        let cube = x.mul(x).mul(x);
        let twice_u = cube.mul_add(V::splat(0.044_715), x).mul(V::splat(1.595_769_1));
        x.mul(math::sigmoid(twice_u)).mul(up)
    }
}

struct Gelu;
impl Binary for Gelu {
    #[inline(always)]
    fn apply<V: Vector>(&self, x: V, up: V) -> V {
        x.mul(math::normal_cdf(x)).mul(up)
    }
}

/// `a += b`.
pub fn add(simd: Simd, a: &mut [f32], b: &[f32]) {
    simd.run(Zip { f: Add, a, b });
}

/// `gate = activation(gate) * up`.
pub fn gated(simd: Simd, activation: Activation, gate: &mut [f32], up: &[f32]) {
    match activation {
        Activation::Silu => simd.run(Zip { f: Silu, a: gate, b: up }),
        Activation::GeluTanh => simd.run(Zip { f: GeluTanh, a: gate, b: up }),
        Activation::Gelu => simd.run(Zip { f: Gelu, a: gate, b: up }),
    }
}

/// `cap * tanh(x / cap)`.
#[inline(always)]
pub fn softcap_vector<V: Vector>(x: V, cap: f32) -> V {
    math::tanh(x.div(V::splat(cap))).mul(V::splat(cap))
}

struct Softcap<'a> {
    values: &'a mut [f32],
    cap: f32,
}

impl Kernel for Softcap<'_> {
    type Output = ();
    #[inline(always)]
    fn run<V: Vector>(self) {
        let (x, count) = (self.values.as_mut_ptr(), self.values.len());
        let mut i = 0;
        // SAFETY: every access is to `i .. i + LANES` or `i .. count`, within the slice.
        unsafe {
            while i + V::LANES <= count {
                softcap_vector(V::load(x.add(i)), self.cap).store(x.add(i));
                i += V::LANES;
            }
            if i < count {
                softcap_vector(V::load_part(x.add(i), count - i), self.cap).store_part(x.add(i), count - i);
            }
        }
    }
}

/// `x = cap * tanh(x / cap)`.
pub fn softcap(simd: Simd, values: &mut [f32], cap: f32) {
    simd.run(Softcap { values, cap });
}
