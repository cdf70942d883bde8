//! Embedding, projections and the vocabulary head, over every layout that checkpoints use.

use super::{Case, Claims, Numbers, read};
use crate::engine::backend::cpu::kernels::naive;
use crate::engine::backend::{Backend, Linear};
use crate::engine::error::Status;
use crate::engine::weights::{Affine, Bytes, DType, Matrix, Storage, Tensor};

pub fn cases<B: Backend>() -> Vec<Case<B>> {
    vec![
        ("embed", embed),
        ("embed a token that is not there", embed_outside),
        ("project", project),
        ("project several at once", project_several),
        ("logits", logits),
    ]
}

fn tensor(dtype: DType, rows: usize, cols: usize, bytes: Vec<u8>) -> Tensor {
    Tensor { name: "conformance".into(), dtype, shape: vec![rows, cols], bytes: Bytes::from(bytes) }
}

fn dense(numbers: &mut Numbers, dtype: DType, rows: usize, cols: usize, size: f32) -> Tensor {
    let bytes = numbers.take(rows * cols).into_iter().map(|x| x * size).flat_map(|x| match dtype {
        DType::F16 => half::f16::from_f32(x).to_le_bytes().to_vec(),
        DType::BF16 => half::bf16::from_f32(x).to_le_bytes().to_vec(),
        _ => x.to_le_bytes().to_vec(),
    });
    tensor(dtype, rows, cols, bytes.collect())
}

/// A matrix of each layout.
fn layouts(rows: usize, cols: usize) -> Vec<(String, Matrix)> {
    let mut numbers = Numbers::new(20);
    let mut all = Vec::new();
    for dtype in [DType::F32, DType::F16, DType::BF16] {
        let storage = Storage::Dense(dense(&mut numbers, dtype, rows, cols, 1.0));
        all.push((format!("{dtype:?}"), Matrix { rows, cols, storage }));
    }
    for bits in [2, 3, 4, 5, 6, 8] {
        for (group, dtype) in [(32, DType::F16), (64, DType::BF16), (128, DType::F32)] {
            let words = cols * bits as usize / 32;
            let packed = (0..rows * words).flat_map(|_| numbers.bits().to_le_bytes()).collect();
            let weight = tensor(DType::U32, rows, words, packed);
            let scales = dense(&mut numbers, dtype, rows, cols / group, 1.0 / (1 << bits) as f32);
            let biases = dense(&mut numbers, dtype, rows, cols / group, 0.5);
            let storage = Storage::Affine(Affine { bits, group, weight, scales, biases });
            all.push((format!("{bits} bits in groups of {group}"), Matrix { rows, cols, storage }));
        }
    }
    all
}

fn embed<B: Backend>(backend: &B, claims: &Claims) {
    let (rows, cols) = (19, 256);
    for (layout, stored) in layouts(rows, cols) {
        let table = backend.matrix(&stored).unwrap();
        let weights = naive::weights(&stored);
        for (tokens, scale) in [(vec![18u32, 0, 7, 7], 1.0f32), (vec![3], 33.941_124)] {
            let found = read(backend, &backend.embed(&table, &tokens, scale).unwrap());
            assert_eq!(found.len(), tokens.len() * cols);
            for (i, x) in found.iter().enumerate() {
                let truth = weights[tokens[i / cols] as usize * cols + i % cols] * f64::from(scale);
                let off = (f64::from(*x) - truth).abs();
                assert!(off <= claims.float * truth.abs().max(f64::from(scale)), "{layout}: {x} for {truth}");
            }
        }
    }
}

fn embed_outside<B: Backend>(backend: &B, _: &Claims) {
    let (_, stored) = layouts(4, 128).remove(0);
    let table = backend.matrix(&stored).unwrap();
    assert_eq!(backend.embed(&table, &[4], 1.0).err().unwrap().status(), Status::Argument);
}

/// Compares with the exact product, each element's error relative to its sum of absolute products.
fn assert_product(what: &str, found: &[f32], truth: &[(f64, f64)], bias: Option<&[f32]>, tolerance: f64) {
    assert_eq!(found.len(), truth.len(), "{what}: size");
    for (i, (y, (sum, size))) in found.iter().zip(truth).enumerate() {
        let bias = bias.map_or(0.0, |bias| f64::from(bias[i % bias.len()]));
        let error = (f64::from(*y) - sum - bias).abs() / (size + bias.abs()).max(1e-30);
        assert!(error <= tolerance, "{what}: element {i} is {y}, should be {} ({error:.1e})", sum + bias);
    }
}

fn project<B: Backend>(backend: &B, claims: &Claims) {
    let mut numbers = Numbers::new(21);
    for (outputs, inputs) in [(1, 128), (40, 256), (200, 384)] {
        let bias = numbers.take(outputs);
        for (layout, stored) in layouts(outputs, inputs) {
            let plain = Linear { weight: backend.matrix(&stored).unwrap(), bias: None };
            let biased =
                Linear { weight: backend.matrix(&stored).unwrap(), bias: Some(backend.vector(&bias).unwrap()) };
            let weights = naive::weights(&stored);
            for rows in [1, 2, 5, 33] {
                let values = numbers.take(rows * inputs);
                let truth = naive::product(&values, &weights, inputs);
                let x = backend.write(rows, inputs, &values).unwrap();
                let what = format!("{layout}, {rows} rows through {outputs}x{inputs}");
                let [y] = backend.project(&x, [&plain]).unwrap();
                assert_product(&what, &read(backend, &y), &truth, None, claims.product);
                let [y] = backend.project(&x, [&biased]).unwrap();
                assert_product(&what, &read(backend, &y), &truth, Some(&bias), claims.product);
                assert_eq!(read(backend, &x), values, "project leaves its input");
            }
        }
    }
}

/// Matrices of different layouts and heights share an input, and each result is what it is alone.
fn project_several<B: Backend>(backend: &B, _: &Claims) {
    let mut numbers = Numbers::new(22);
    let tall = layouts(96, 256);
    let low = layouts(24, 256);
    let linear = |stored: &Matrix| Linear { weight: backend.matrix(stored).unwrap(), bias: None };
    for (a, b) in [(0, 9), (9, 9), (9, 18), (2, 1)] {
        let (q, k, v) = (linear(&tall[a].1), linear(&low[b].1), linear(&low[a].1));
        for rows in [1, 6] {
            let x = backend.write(rows, 256, &numbers.take(rows * 256)).unwrap();
            let together = backend.project(&x, [&q, &k, &v]).unwrap();
            for (alone, together) in [&q, &k, &v].into_iter().zip(&together) {
                let [alone] = backend.project(&x, [alone]).unwrap();
                assert_eq!(read(backend, &alone), read(backend, together));
            }
        }
    }
}

fn logits<B: Backend>(backend: &B, claims: &Claims) {
    let values = Numbers::new(23).take(2 * 128);
    for (layout, stored) in layouts(1000, 128) {
        let x = backend.write(2, 128, &values).unwrap();
        let y = backend.logits(&x, &backend.matrix(&stored).unwrap()).unwrap();
        let truth = naive::product(&values, &naive::weights(&stored), 128);
        assert_product(&layout, &read(backend, &y), &truth, None, claims.product);
    }
}
