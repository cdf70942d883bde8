//! Against the naive oracle, and bit against bit.

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use super::super::kernels::naive;
use super::*;
use crate::engine::weights::{self, Affine, Bytes, DType, Storage, Tensor};

/// Every table this processor runs.
fn available() -> Vec<Isa> {
    Isa::NAMES.iter().map(|(_, isa)| *isa).filter(|isa| isa.is_available()).collect()
}

/// Roughly normal, with an outlier now and then.
fn values(rng: &mut ChaCha8Rng, count: usize) -> Vec<f32> {
    let mut unit = || rng.next_u32() as f32 / u32::MAX as f32 - 0.5;
    (0..count).map(|i| (unit() + unit() + unit()) * if i % 97 == 0 { 20.0 } else { 1.0 }).collect()
}

/// A tensor whose bytes begin `shift` bytes into their buffer.
fn tensor(dtype: DType, shape: [usize; 2], bytes: Vec<u8>, shift: usize) -> Tensor {
    let len = bytes.len();
    let mut buffer = vec![0xaa; shift];
    buffer.extend(bytes);
    let bytes = Bytes::from(buffer).slice(shift..shift + len).unwrap();
    Tensor { name: "test".into(), dtype, shape: shape.to_vec(), bytes }
}

fn numbers(rng: &mut ChaCha8Rng, dtype: DType, shape: [usize; 2], scale: f32, shift: usize) -> Tensor {
    let values = values(rng, shape[0] * shape[1]).into_iter().map(|v| v * scale);
    let bytes = match dtype {
        DType::F32 => values.flat_map(f32::to_le_bytes).collect(),
        DType::F16 => values.flat_map(|v| half::f16::from_f32(v).to_le_bytes()).collect(),
        DType::BF16 => values.flat_map(|v| half::bf16::from_f32(v).to_le_bytes()).collect(),
        other => panic!("{other:?}"),
    };
    tensor(dtype, shape, bytes, shift)
}

fn affine(rng: &mut ChaCha8Rng, bits: u32, group: usize, dtype: DType, rows: usize, cols: usize) -> weights::Matrix {
    let words = cols * bits as usize / 32;
    let bytes = (0..rows * words).flat_map(|_| rng.next_u32().to_le_bytes()).collect();
    let weight = tensor(DType::U32, [rows, words], bytes, 3);
    let scale = 1.0 / (1 << bits) as f32;
    let scales = numbers(rng, dtype, [rows, cols / group], scale, 1);
    let biases = numbers(rng, dtype, [rows, cols / group], 1.0, 5);
    weights::Matrix { rows, cols, storage: Storage::Affine(Affine { bits, group, weight, scales, biases }) }
}

fn dense(rng: &mut ChaCha8Rng, dtype: DType, rows: usize, cols: usize) -> weights::Matrix {
    weights::Matrix { rows, cols, storage: Storage::Dense(numbers(rng, dtype, [rows, cols], 1.0, 1)) }
}

fn run(isa: Isa, exact: bool, team: &Team, x: &[f32], rows: usize, m: &Matrix, bias: Option<&[f32]>) -> Vec<f32> {
    let mut out = vec![f32::NAN; rows * m.rows()];
    let cx = Context { team, isa, exact };
    project(&cx, x, rows, &[(m, bias)], &mut [&mut out], &mut Scratch::new()).unwrap();
    out
}

/// All elements within `tolerance` of what the sizes of their terms add up to.
fn close(out: &[f32], want: &[(f64, f64)], tolerance: f64, what: &str) {
    assert_eq!(out.len(), want.len());
    for (i, (out, (want, size))) in out.iter().zip(want).enumerate() {
        let error = (f64::from(*out) - want).abs();
        assert!(error <= tolerance * size, "{what}: element {i} is {out}, not {want}; terms add up to {size}");
    }
}

/// 8-bit activations: half a step of 1/127 of the group's largest, on terms that are mostly much smaller; a loose
/// bound beside the tight one of `the_quantised_product_is_what_it_says`.
const I8: f64 = 0.04;
/// Sums of `f32`.
const F32: f64 = 2e-6;
/// Activations rounded to 8 bits of mantissa, sums in `f32`.
const BF16: f64 = 0.004;

#[test]
fn affine_matrices_against_the_oracle() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let team = Team::new(2).unwrap();
    for bits in [2, 3, 4, 5, 6, 8] {
        for group in [32, 64, 128] {
            // More than one chunk of scales for groups of 32, an odd number of groups, no multiple of 16 outputs.
            let (n, cols) = (53, group * if group == 32 { 35 } else { 5 });
            for dtype in [DType::BF16, DType::F16, DType::F32] {
                let stored = affine(&mut rng, bits, group, dtype, n, cols);
                let matrix = Matrix::new(&stored).unwrap();
                let w = naive::weights(&stored);
                for rows in [1, 2, 3, 7, 8, 9, 16, 17, 64] {
                    if dtype != DType::BF16 && !matches!(rows, 1 | 9 | 17) {
                        continue;
                    }
                    let x = values(&mut rng, rows * cols);
                    let want = naive::product(&x, &w, cols);
                    for isa in available() {
                        let what = format!("{} {bits} bits, groups of {group}, {dtype:?}, {rows} rows", isa.name());
                        close(&run(isa, true, &team, &x, rows, &matrix, None), &want, F32, &what);
                        close(&run(isa, false, &team, &x, rows, &matrix, None), &want, I8, &what);
                    }
                }
            }
        }
    }
}

#[test]
fn the_quantised_product_is_what_it_says() {
    // Against the same formula in f64 on the quantised activations: only f32 rounding may differ.
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    let team = Team::new(1).unwrap();
    for (bits, group) in [(2, 64), (3, 64), (4, 32), (4, 64), (5, 128), (6, 64), (8, 32), (8, 128)] {
        let (n, cols, rows) = (37, group * 7, 3);
        let stored = affine(&mut rng, bits, group, DType::BF16, n, cols);
        let x = values(&mut rng, rows * cols);
        let rounded: Vec<f32> = x
            .chunks_exact(group)
            .flat_map(|x| {
                let absmax = x.iter().fold(0f32, |m, v| m.max(v.abs()));
                x.iter().map(move |v| (v * (127.0 / absmax)).round_ties_even() * (absmax / 127.0))
            })
            .collect();
        let want = naive::product(&rounded, &naive::weights(&stored), cols);
        for isa in available() {
            let out = run(isa, false, &team, &x, rows, &Matrix::new(&stored).unwrap(), None);
            close(&out, &want, F32, &format!("{} {bits} bits, groups of {group}", isa.name()));
        }
    }
}

#[test]
fn extreme_bytes_do_not_saturate() {
    // All weights at their largest, activations at both ends: the sums that overflow 16 bits.
    let team = Team::new(1).unwrap();
    for bits in [4u32, 6, 8] {
        let (n, cols) = (16, 128);
        let words = cols * bits as usize / 32;
        let weight = tensor(DType::U32, [n, words], vec![0xff; n * words * 4], 0);
        let ones = |v: f32| tensor(DType::F32, [n, 2], [v; 32].iter().flat_map(|v| v.to_le_bytes()).collect(), 0);
        let affine = Affine { bits, group: 64, weight, scales: ones(1.0), biases: ones(0.0) };
        let stored = weights::Matrix { rows: n, cols, storage: Storage::Affine(affine) };
        let matrix = Matrix::new(&stored).unwrap();
        for sign in [1.0f32, -1.0] {
            let x = vec![sign * 127.0; cols];
            let want = sign * 127.0 * ((1 << bits) - 1) as f32 * cols as f32;
            for isa in available() {
                let out = run(isa, false, &team, &x, 1, &matrix, None);
                assert!(out.iter().all(|v| *v == want), "{} {bits}: {} not {want}", isa.name(), out[0]);
            }
        }
    }
}

#[test]
fn dense_matrices_against_the_oracle() {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let team = Team::new(2).unwrap();
    for dtype in [DType::F32, DType::F16, DType::BF16] {
        for (n, cols) in [(53, 320), (16, 1), (33, 31), (1, 1111), (40, 2048)] {
            let stored = dense(&mut rng, dtype, n, cols);
            let matrix = Matrix::new(&stored).unwrap();
            let w = naive::weights(&stored);
            for rows in [1, 2, 3, 7, 8, 9, 16, 17, 64] {
                let x = values(&mut rng, rows * cols);
                let want = naive::product(&x, &w, cols);
                for isa in available() {
                    let what = format!("{} {dtype:?} {n} by {cols}, {rows} rows", isa.name());
                    close(&run(isa, true, &team, &x, rows, &matrix, None), &want, F32, &what);
                    let rounded = dtype == DType::BF16 && Table::of(isa).bf16;
                    let tolerance = if rounded { BF16 } else { F32 };
                    close(&run(isa, false, &team, &x, rows, &matrix, None), &want, tolerance, &what);
                }
            }
        }
    }
}

#[test]
fn bits_do_not_depend_on_company() {
    let mut rng = ChaCha8Rng::seed_from_u64(4);
    let teams = [Team::new(1).unwrap(), Team::new(2).unwrap(), Team::new(3).unwrap()];
    let (n, cols, rows) = (117, 576, 100);
    let stored = [
        affine(&mut rng, 4, 64, DType::BF16, n, cols),
        affine(&mut rng, 4, 32, DType::F16, n, cols),
        affine(&mut rng, 3, 64, DType::BF16, n, cols),
        affine(&mut rng, 8, 64, DType::BF16, n, cols),
        dense(&mut rng, DType::BF16, n, cols),
        dense(&mut rng, DType::F16, n, cols),
    ];
    let x = values(&mut rng, rows * cols);
    for (which, stored) in stored.iter().enumerate() {
        let matrix = Matrix::new(stored).unwrap();
        for isa in available() {
            for exact in [false, true] {
                let alone: Vec<f32> =
                    x.chunks_exact(cols).flat_map(|x| run(isa, exact, &teams[0], x, 1, &matrix, None)).collect();
                for team in &teams {
                    for chunk in [2, 3, 5, 7, 8, 9, 12, 13, 16, 17, 33, 64, 100] {
                        let together: Vec<f32> = x
                            .chunks(chunk * cols)
                            .flat_map(|x| run(isa, exact, team, x, x.len() / cols, &matrix, None))
                            .collect();
                        let same = alone.iter().zip(&together).all(|(a, b)| a.to_bits() == b.to_bits());
                        assert!(
                            same,
                            "{} matrix {which}, exact {exact}, {} threads, {chunk}",
                            isa.name(),
                            team.threads()
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn several_matrices_share_an_input_and_scratch() {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let team = Team::new(2).unwrap();
    let cols = 384;
    let stored = [
        affine(&mut rng, 4, 64, DType::BF16, 200, cols),
        affine(&mut rng, 4, 64, DType::BF16, 40, cols),
        affine(&mut rng, 8, 64, DType::BF16, 48, cols),
        affine(&mut rng, 6, 64, DType::BF16, 7, cols),
        dense(&mut rng, DType::BF16, 19, cols),
    ];
    let matrices: Vec<Matrix> = stored.iter().map(|m| Matrix::new(m).unwrap()).collect();
    let biases: Vec<Vec<f32>> = matrices.iter().map(|m| values(&mut rng, m.rows())).collect();
    let mut scratch = Scratch::new();
    for rows in [600, 1, 5] {
        let x = values(&mut rng, rows * cols);
        for isa in available() {
            let cx = Context { team: &team, isa, exact: false };
            let to: Vec<_> = matrices.iter().zip(&biases).map(|(m, b)| (m, Some(b.as_slice()))).collect();
            let mut out: Vec<Vec<f32>> = matrices.iter().map(|m| vec![f32::NAN; rows * m.rows()]).collect();
            let mut views: Vec<&mut [f32]> = out.iter_mut().map(Vec::as_mut_slice).collect();
            project(&cx, &x, rows, &to, &mut views, &mut scratch).unwrap();
            for ((m, b), out) in matrices.iter().zip(&biases).zip(&out) {
                let alone = run(isa, false, &team, &x, rows, m, None);
                let with_bias = alone.iter().zip(b.iter().cycle()).map(|(a, b)| a + b);
                assert!(out.iter().zip(with_bias).all(|(a, b)| a.to_bits() == b.to_bits()), "{} {rows}", isa.name());
            }
        }
    }
    let held = scratch.bytes();
    let x = values(&mut rng, 600 * cols);
    let mut out = vec![0.0; 600 * 200];
    let cx = Context { team: &team, isa: available()[0], exact: false };
    project(&cx, &x, 600, &[(&matrices[0], None)], &mut [&mut out], &mut scratch).unwrap();
    assert_eq!(scratch.bytes(), held, "the same shape again allocates nothing");
}

#[test]
fn what_is_not_a_number_stays_visible() {
    let mut rng = ChaCha8Rng::seed_from_u64(6);
    let team = Team::new(1).unwrap();
    let stored = affine(&mut rng, 4, 64, DType::BF16, 20, 128);
    let matrix = Matrix::new(&stored).unwrap();
    for isa in available() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut x = values(&mut rng, 3 * 128);
            x[128 + 70] = bad;
            let out = run(isa, false, &team, &x, 3, &matrix, None);
            assert!(out[..20].iter().chain(&out[40..]).all(|v| v.is_finite()));
            assert!(out[20..40].iter().all(|v| v.is_nan()), "{} {bad}", isa.name());
        }
        // Zeros and what is too small to invert are not bad numbers.
        for small in [0.0, -0.0, 1e-40] {
            let out = run(isa, false, &team, &[small; 128], 1, &matrix, None);
            assert!(out.iter().all(|v| v.abs() < 1e-30), "{} {small}", isa.name());
        }
    }
}

#[test]
fn rows_decode_to_what_the_oracle_says() {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    for bits in [2, 3, 4, 5, 6, 8] {
        for dtype in [DType::F32, DType::F16, DType::BF16] {
            let stored = affine(&mut rng, bits, 32, dtype, 9, 96);
            rows_match(&stored);
        }
    }
    for dtype in [DType::F32, DType::F16, DType::BF16] {
        rows_match(&dense(&mut rng, dtype, 9, 33));
    }
}

fn rows_match(stored: &weights::Matrix) {
    let matrix = Matrix::new(stored).unwrap();
    let (w, cols) = (naive::weights(stored), stored.cols);
    let rows = [8, 0, 3, 3];
    let mut out = vec![0.0; 4 * cols];
    matrix.decode_rows(&rows, 2.0, &mut out).unwrap();
    for (row, out) in rows.iter().zip(out.chunks_exact(cols)) {
        for (out, want) in out.iter().zip(&w[*row as usize * cols..]) {
            assert!((f64::from(*out) - 2.0 * want).abs() <= 1e-6 * (1.0 + want.abs()));
        }
    }
    assert!(matrix.decode_rows(&[9], 1.0, &mut out[..cols]).is_err());
    assert!(matrix.decode_rows(&[1], 1.0, &mut out).is_err());
}

#[test]
fn broken_layouts_are_refused() {
    let mut rng = ChaCha8Rng::seed_from_u64(8);
    let good = affine(&mut rng, 4, 64, DType::BF16, 4, 128);
    let Storage::Affine(good) = good.storage else { unreachable!() };
    let refused = |change: &dyn Fn(&mut Affine)| {
        let mut affine = good.clone();
        change(&mut affine);
        Matrix::new(&weights::Matrix { rows: 4, cols: 128, storage: Storage::Affine(affine) }).is_err()
    };
    assert!(!refused(&|_| ()));
    assert!(refused(&|a| a.bits = 7));
    assert!(refused(&|a| a.bits = 8));
    assert!(refused(&|a| a.group = 48));
    assert!(refused(&|a| a.group = 0));
    assert!(refused(&|a| a.scales.dtype = DType::U8));
    assert!(refused(&|a| a.biases.dtype = DType::F16));
    assert!(refused(&|a| a.weight.dtype = DType::F32));
    assert!(refused(&|a| a.biases.bytes = a.biases.bytes.slice(0..8).unwrap()));
    let empty = tensor(DType::F32, [0, 4], vec![], 0);
    assert!(Matrix::new(&weights::Matrix { rows: 0, cols: 4, storage: Storage::Dense(empty) }).is_err());
}
