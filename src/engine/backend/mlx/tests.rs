//! The mlx backend against the conformance suite, and what happens when an operation fails.

use super::*;
use crate::engine::backend::conformance::{self, Claims};
use crate::engine::error::Status;

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
