//! One suite that every backend must pass: each operation against the double-precision reference, and the rules
//! of the trait (sharing, pages, windows, errors) that shapes and numbers alone do not show.
//!
//! A backend calls [`run`] with what it claims. A case it does not pass stands in its list of exceptions, with the
//! reason; a case that is listed but passes fails the suite too, so that the list stays true.

pub mod attention;
mod products;
pub mod reference;
mod rows;

use std::panic::{AssertUnwindSafe, catch_unwind};

use self::reference::Reference;
use super::Backend;

/// What a backend promises.
#[derive(Clone, Copy, Debug)]
pub struct Claims {
    /// Error of arithmetic in `f32`, relative to an element or to its row's root mean square, whichever is larger.
    pub float: f64,
    /// Error of projections, relative to the sum of the absolute products of an element.
    pub product: f64,
    /// Cases not passed, each with the reason.
    pub exceptions: &'static [(&'static str, &'static str)],
}

type Case<B> = (&'static str, fn(&B, &Claims));

/// Runs every case; panics with the names of those that break a claim.
pub fn run<B: Backend>(backend: &B, claims: &Claims) {
    let cases: Vec<Case<B>> = [rows::cases(), products::cases(), attention::cases()].concat();
    for (name, _) in claims.exceptions {
        assert!(cases.iter().any(|(case, _)| case == name), "exception {name} names no case");
    }
    let mut broken = Vec::new();
    for (name, case) in cases {
        let passed = catch_unwind(AssertUnwindSafe(|| case(backend, claims))).is_ok();
        let excepted = claims.exceptions.iter().any(|(except, _)| *except == name);
        if passed == excepted {
            broken.push(if excepted { format!("{name} (listed as an exception, but passes)") } else { name.into() });
        }
    }
    assert!(broken.is_empty(), "{:?} breaks: {}", backend.describe(), broken.join(", "));
}

/// Deterministic numbers, roughly normal, with a large one now and then.
pub struct Numbers(u64);

impl Numbers {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn bits(&mut self) -> u32 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 32) as u32
    }

    /// Of unit variance, at most 3.
    pub fn tame(&mut self) -> f32 {
        let mut unit = || self.bits() as f32 / u32::MAX as f32 - 0.5;
        (unit() + unit() + unit()) * 2.0
    }

    pub fn next(&mut self) -> f32 {
        let x = self.tame();
        if self.bits().is_multiple_of(101) { x * 8.0 } else { x }
    }

    pub fn take(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.next()).collect()
    }
}

/// `values` in double precision.
pub fn exact(cols: usize, values: &[f32]) -> Reference {
    Reference::new(cols, values.iter().map(|x| f64::from(*x)))
}

/// The activation's elements.
pub fn read<B: Backend>(backend: &B, x: &B::Act) -> Vec<f32> {
    let mut out = Vec::new();
    backend.read(x, &mut out).unwrap();
    out
}

/// Fails where an element is further from the truth than `tolerance`, relative to the larger of itself and its row's
/// root mean square.
pub fn assert_close(what: &str, found: &[f32], truth: &Reference, tolerance: f64) {
    assert_eq!(found.len(), truth.values.len(), "{what}: size");
    for (r, (found, truth)) in found.chunks_exact(truth.cols).zip(truth.rows()).enumerate() {
        let size = (truth.iter().map(|x| x * x).sum::<f64>() / truth.len() as f64).sqrt();
        for (c, (x, y)) in found.iter().zip(truth).enumerate() {
            let error = (f64::from(*x) - y).abs() / size.max(y.abs()).max(1e-30);
            assert!(error <= tolerance, "{what}: [{r}, {c}] is {x}, should be {y} ({error:.1e} > {tolerance:.1e})");
        }
    }
}
