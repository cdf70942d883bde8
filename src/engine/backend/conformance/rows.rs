//! Norms, rotary encoding, elementwise operations, and the moving of rows.

use super::reference::{self, Reference};
use super::{Case, Claims, Numbers, assert_close, exact, read};
use crate::engine::backend::{Backend, Rope};
use crate::engine::error::Status;
use crate::engine::model::spec::Activation;

pub fn cases<B: Backend>() -> Vec<Case<B>> {
    vec![
        ("describe", describe),
        ("write and read", write_and_read),
        ("sharing", sharing),
        ("select_rows", select_rows),
        ("rms_norm", rms_norm),
        ("head_norm", head_norm),
        ("rope", rope),
        ("rope far out", rope_far_out),
        ("gated", gated),
        ("gated extremes", gated_extremes),
        ("add", add),
        ("softcap", softcap),
        ("shapes that do not fit", misfits),
    ]
}

/// Rows and columns: vectors of every width with and without a rest, one and many rows, enough for many threads.
const SHAPES: [(usize, usize); 8] = [(1, 1), (3, 7), (1, 16), (2, 100), (5, 64), (1, 1152), (33, 640), (70, 1100)];

fn describe<B: Backend>(backend: &B, _: &Claims) {
    let description = backend.describe();
    assert!(!description.name.is_empty() && !description.device.is_empty() && description.threads > 0);
}

fn write_and_read<B: Backend>(backend: &B, _: &Claims) {
    for (rows, cols) in SHAPES {
        let values = Numbers::new(1).take(rows * cols);
        let x = backend.write(rows, cols, &values).unwrap();
        let mut out = vec![7.0; 5];
        backend.read(&x, &mut out).unwrap();
        assert_eq!(out, values);
    }
}

/// An activation passed by value is the caller's to give; a clone that stays behind keeps its contents.
fn sharing<B: Backend>(backend: &B, claims: &Claims) {
    let mut numbers = Numbers::new(2);
    let (a, b) = (numbers.take(3 * 40), numbers.take(3 * 40));
    let x = backend.write(3, 40, &a).unwrap();
    let y = backend.write(3, 40, &b).unwrap();
    let sum = Reference::new(40, a.iter().zip(&b).map(|(a, b)| f64::from(*a) + f64::from(*b)));
    let kept = x.clone();
    let added = backend.add(x, &y).unwrap();
    assert_eq!(read(backend, &kept), a);
    assert_close("shared", &read(backend, &added), &sum, claims.float);
    let added = backend.add(kept, &y).unwrap();
    assert_close("owned", &read(backend, &added), &sum, claims.float);
    assert_eq!(read(backend, &y), b);
    // Both operands one activation.
    let doubled = backend.add(y.clone(), &y).unwrap();
    assert_close("doubled", &read(backend, &doubled), &exact(40, &b.iter().map(|x| 2.0 * x).collect::<Vec<_>>()), 0.0);
    assert_eq!(read(backend, &y), b);
}

fn select_rows<B: Backend>(backend: &B, _: &Claims) {
    let values = Numbers::new(3).take(6 * 33);
    let x = backend.write(6, 33, &values).unwrap();
    let picked = backend.select_rows(&x, &[5, 0, 0, 3]).unwrap();
    let expected: Vec<f32> = [5, 0, 0, 3].iter().flat_map(|r| values[r * 33..][..33].to_vec()).collect();
    assert_eq!(read(backend, &picked), expected);
    assert!(backend.select_rows(&x, &[6]).is_err());
}

fn rms_norm<B: Backend>(backend: &B, claims: &Claims) {
    let mut numbers = Numbers::new(4);
    for (rows, cols) in SHAPES {
        for (eps, size) in [(1e-6, 1.0), (1e-5, 1e-3), (1e-6, 1e4)] {
            let values: Vec<f32> = numbers.take(rows * cols).iter().map(|x| x * size).collect();
            let weight = numbers.take(cols);
            let x = backend.write(rows, cols, &values).unwrap();
            let y = backend.rms_norm(&x, &backend.vector(&weight).unwrap(), eps).unwrap();
            let truth = reference::rms_norm(&exact(cols, &values), &exact(cols, &weight).values, f64::from(eps));
            assert_close("rms_norm", &read(backend, &y), &truth, claims.float);
            assert_eq!(read(backend, &x), values, "rms_norm leaves its input");
        }
    }
    // A row of zeros stays one.
    let zeros = backend.write(1, 64, &[0.0; 64]).unwrap();
    let y = backend.rms_norm(&zeros, &backend.vector(&[1.0; 64]).unwrap(), 1e-6).unwrap();
    assert_eq!(read(backend, &y), [0.0; 64]);
}

fn head_norm<B: Backend>(backend: &B, claims: &Claims) {
    let mut numbers = Numbers::new(5);
    for (rows, heads, width) in [(1, 1, 4), (3, 4, 64), (2, 3, 80), (40, 8, 128), (1, 4, 256)] {
        let cols = heads * width;
        let (values, weight) = (numbers.take(rows * cols), numbers.take(width));
        let x = backend.write(rows, cols, &values).unwrap();
        let y = backend.head_norm(x, &backend.vector(&weight).unwrap(), 1e-6).unwrap();
        let truth = reference::rms_norm(&exact(cols, &values), &exact(width, &weight).values, 1e-6);
        assert_close("head_norm", &read(backend, &y), &truth, claims.float);
    }
}

/// Turns `positions` with the usual frequencies of base `theta`, and compares.
fn turn<B: Backend>(
    backend: &B,
    claims: &Claims,
    heads: usize,
    width: usize,
    positions: &[usize],
    theta: f64,
    factor: f32,
) {
    let cols = heads * width;
    let inv_freq: Vec<f32> = (0..width / 2).map(|i| theta.powf(-2.0 * i as f64 / width as f64) as f32).collect();
    let values = Numbers::new(6).take(positions.len() * cols);
    let rope = Rope { inv_freq: backend.vector(&inv_freq).unwrap(), head_dim: width, factor };
    let x = backend.write(positions.len(), cols, &values).unwrap();
    let truth = reference::rope(&exact(cols, &values), positions, &exact(1, &inv_freq).values, f64::from(factor));
    for _ in 0..2 {
        let y = backend.rope(x.clone(), positions, &rope).unwrap();
        assert_close("rope", &read(backend, &y), &truth, claims.float);
    }
    // Other positions with the same encoding: nothing may be remembered wrongly.
    let moved: Vec<usize> = positions.iter().map(|p| p + 1).collect();
    let y = backend.rope(x, &moved, &rope).unwrap();
    let truth = reference::rope(&exact(cols, &values), &moved, &exact(1, &inv_freq).values, f64::from(factor));
    assert_close("rope moved", &read(backend, &y), &truth, claims.float);
}

fn rope<B: Backend>(backend: &B, claims: &Claims) {
    turn(backend, claims, 1, 2, &[3], 10_000.0, 1.0);
    turn(backend, claims, 4, 64, &[0, 1, 2, 700], 10_000.0, 1.0);
    turn(backend, claims, 2, 80, &[5, 5, 9], 500_000.0, 1.25);
    turn(backend, claims, 1, 256, &(100..180).collect::<Vec<_>>(), 1e6, 1.0);
}

/// Angles of 100,000 radians need more than single precision.
fn rope_far_out<B: Backend>(backend: &B, claims: &Claims) {
    turn(backend, claims, 2, 128, &[8_191, 32_767, 131_071], 10_000.0, 1.0);
}

fn gated<B: Backend>(backend: &B, claims: &Claims) {
    let mut numbers = Numbers::new(7);
    for (rows, cols) in SHAPES {
        for kind in [Activation::Silu, Activation::GeluTanh, Activation::Gelu] {
            let (gate, up) = (numbers.take(rows * cols), numbers.take(rows * cols));
            let truth = gate.iter().zip(&up).map(|(g, u)| reference::activation(kind, f64::from(*g)) * f64::from(*u));
            let truth = Reference::new(cols, truth);
            let (gate, up) = (backend.write(rows, cols, &gate).unwrap(), backend.write(rows, cols, &up).unwrap());
            let y = backend.gated(gate, &up, kind).unwrap();
            assert_close(&format!("{kind:?}"), &read(backend, &y), &truth, claims.float);
        }
    }
}

/// Gates far out neither overflow nor become NaN.
fn gated_extremes<B: Backend>(backend: &B, claims: &Claims) {
    for kind in [Activation::Silu, Activation::GeluTanh, Activation::Gelu] {
        for gate in [-1e4f32, -200.0, -90.0, -20.0, -1e-30, 0.0, 1e-30, 20.0, 90.0, 1e4] {
            let truth = reference::activation(kind, f64::from(gate));
            let (gate, one) = (backend.write(1, 1, &[gate]).unwrap(), backend.write(1, 1, &[1.0]).unwrap());
            let y = read(backend, &backend.gated(gate, &one, kind).unwrap())[0];
            let off = (f64::from(y) - truth).abs();
            assert!(off <= claims.float * truth.abs().max(1e-6), "{kind:?}: {y} for {truth}");
        }
    }
}

fn add<B: Backend>(backend: &B, claims: &Claims) {
    let mut numbers = Numbers::new(8);
    for (rows, cols) in SHAPES {
        let (a, b) = (numbers.take(rows * cols), numbers.take(rows * cols));
        let truth = Reference::new(cols, a.iter().zip(&b).map(|(a, b)| f64::from(*a) + f64::from(*b)));
        let (a, b) = (backend.write(rows, cols, &a).unwrap(), backend.write(rows, cols, &b).unwrap());
        assert_close("add", &read(backend, &backend.add(a, &b).unwrap()), &truth, claims.float);
    }
}

fn softcap<B: Backend>(backend: &B, claims: &Claims) {
    let mut numbers = Numbers::new(9);
    for (rows, cols, size) in [(1, 5, 1.0), (2, 300, 1e-3), (1, 40_000, 30.0), (3, 64, 1e4)] {
        let values: Vec<f32> = numbers.take(rows * cols).iter().map(|x| x * size).collect();
        for cap in [30.0f32, 50.0] {
            let c = f64::from(cap);
            let truth = Reference::new(cols, values.iter().map(|x| c * (f64::from(*x) / c).tanh()));
            let y = backend.softcap(backend.write(rows, cols, &values).unwrap(), cap).unwrap();
            assert_close("softcap", &read(backend, &y), &truth, claims.float);
        }
    }
}

/// A mistake of the decoder is an error, not a crash or a wrong answer.
fn misfits<B: Backend>(backend: &B, _: &Claims) {
    let act = |rows: usize, cols: usize| backend.write(rows, cols, &vec![1.0; rows * cols]).unwrap();
    assert_eq!(backend.write(2, 3, &[0.0; 5]).err().unwrap().status(), Status::Internal);
    assert!(backend.add(act(2, 3), &act(3, 2)).is_err());
    assert!(backend.gated(act(2, 3), &act(2, 4), Activation::Silu).is_err());
    assert!(backend.rms_norm(&act(2, 3), &backend.vector(&[1.0; 4]).unwrap(), 1e-6).is_err());
    assert!(backend.head_norm(act(2, 6), &backend.vector(&[1.0; 4]).unwrap(), 1e-6).is_err());
    let rope = Rope { inv_freq: backend.vector(&[1.0, 0.5]).unwrap(), head_dim: 4, factor: 1.0 };
    assert!(backend.rope(act(2, 4), &[0], &rope).is_err());
    assert!(backend.rope(act(1, 6), &[0], &rope).is_err());
}
