//! The mlx backend against the conformance suite, and what happens when an operation fails.

use super::*;
use crate::engine::backend::conformance::{self, Claims};
use crate::engine::error::Status;
use crate::engine::weights::{DType, Storage, Tensor};

#[test]
fn conforms() {
    let mlx = Mlx::new(MlxOptions { exact: true, half: false }).unwrap();
    // A GPU multiplies f32 in TF32 unless MLX_ENABLE_TF32=0, and in its own order always.
    let (float, product) = if mlx.place.gpu { (1e-3, 1e-3) } else { (1e-5, 1e-6) };
    conformance::run(&mlx, &Claims { float, product, exceptions: &[] });
}

#[test]
fn a_corrupt_operation_leaves_an_error() {
    let mlx = Mlx::new(MlxOptions { exact: true, half: false }).unwrap();
    let a = mlx.write(2, 3, &[1.0; 6]).unwrap();
    let fault = done(a.matmul(&a)).unwrap_err();
    assert_eq!(fault.status(), Status::Backend);
    assert!(fault.message().contains("matmul"), "{fault}");
    let fault = done(a.reshape(&[7])).unwrap_err();
    assert_eq!(fault.status(), Status::Backend);
    // And the next operation is none the worse.
    let mut out = Vec::new();
    mlx.read(&mlx.add(a.clone(), &a).unwrap(), &mut out).unwrap();
    assert_eq!(out, [2.0; 6]);
}

/// Rows of a table by their numbers, some of which only the device knows.
#[test]
fn what_a_step_chose_can_be_embedded_before_it_is_read() {
    let mlx = Mlx::new(MlxOptions { exact: true, half: false }).unwrap();
    let values: Vec<u8> = (0..20).flat_map(|i| (i as f32).to_le_bytes()).collect();
    let tensor = Tensor { name: "t".into(), dtype: DType::F32, shape: vec![5, 4], bytes: values.into() };
    let table = mlx.matrix(&weights::Matrix { rows: 5, cols: 4, storage: Storage::Dense(tensor) }).unwrap();
    let mut logits = vec![0.5; 10];
    (logits[3], logits[5 + 1]) = (2.0, 1.5);
    let logits = mlx.write(2, 5, &logits).unwrap();
    let Some(Summarised::Coming(coming)) = mlx.summarise(&logits, &[(1, 1), (0, 0)]).unwrap() else {
        panic!("it is not coming")
    };
    let read = |act: Array| {
        let mut out = Vec::new();
        mlx.read(&act, &mut out).unwrap();
        out
    };
    let expected = |tokens: &[u32]| read(mlx.embed(&table, tokens, 2.0).unwrap());
    let found = |tokens: &[u32], following: &[(usize, usize)]| {
        mlx.embed_following(&table, tokens, &coming, following, 2.0).map(read)
    };
    assert_eq!(found(&[0, 0], &[(0, 0), (1, 1)]).unwrap(), expected(&[3, 1]));
    assert_eq!(found(&[0, 4, 0, 2], &[(0, 1), (2, 0)]).unwrap(), expected(&[1, 4, 3, 2]));
    assert_eq!(found(&[0], &[(0, 2)]).unwrap_err().status(), Status::Internal);
    let summary = mlx.await_summary(&coming).unwrap();
    assert_eq!(summary.best, [(3, 2.0), (1, 1.5)]);
    let log_softmax = |x: f32, largest: f32| x - (4.0 * 0.5_f32.exp() + largest.exp()).ln();
    for (found, expected) in summary.logprobs.iter().zip([log_softmax(1.5, 1.5), log_softmax(0.5, 2.0)]) {
        assert!((found - expected).abs() < 1e-5, "{found} {expected}");
    }
}

/// Other tests run beside this one and allocate little.
#[test]
fn the_counters_are_those_of_the_devices_allocator() {
    const BYTES: u64 = 256 << 20;
    let mlx = Mlx::new(MlxOptions { exact: true, half: false }).unwrap();
    let before = memory::usage();
    let big = done(ops::zeros_dtype(&[(BYTES / 4) as i32], Dtype::Float32)).unwrap();
    let big = done(big.add(Array::from_f32(1.0))).unwrap();
    done(big.eval()).unwrap();
    let with = memory::usage();
    assert!(with.active >= before.active + BYTES / 4 * 3, "{before:?} {with:?}");
    assert!(with.peak >= with.active, "{with:?}");
    drop(big);
    let without = memory::usage();
    assert!(without.active + BYTES / 4 * 3 <= with.active, "{with:?} {without:?}");
    assert!(without.peak >= with.active, "{with:?} {without:?}");
    mlx.release_unused();
    assert!(memory::usage().cached <= BYTES / 4, "{:?}", memory::usage());
}
