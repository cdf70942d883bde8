//! Replaces mlx-sys's build script where MLX comes as a wheel (Linux): upstream's builds MLX from its repository and
//! links Apple's frameworks. `scripts/mlx/prepare` puts this file into its copy of the crate, and both paths below
//! into the environment.

use std::env;
use std::path::{Path, PathBuf};

#[path = "src/bindgen_config.rs"]
mod bindgen_config;

fn main() {
    for name in ["GOMLX_MLXC", "GOMLX_MLX_LIB"] {
        println!("cargo:rerun-if-env-changed={name}");
        let folder = env::var(name).unwrap_or_else(|_| panic!("{name} is not set: build through scripts/mlx/cargo"));
        println!("cargo:rustc-link-search=native={folder}");
    }
    println!("cargo:rustc-link-lib=static=mlxc");
    println!("cargo:rustc-link-lib=dylib=mlx");
    println!("cargo:rustc-link-lib=dylib=stdc++");
    println!("cargo:rerun-if-changed=src/lib.rs");

    let root = Path::new("src/mlx-c");
    let headers = bindgen_config::discover_headers(root).expect("mlx-c's headers");
    let bindings = bindgen_config::builder(root, &headers).generate().expect("mlx-c's bindings");
    let out = PathBuf::from(env::var("OUT_DIR").expect("OUT_DIR"));
    bindings.write_to_file(out.join("bindings.rs")).expect("bindings.rs");
}
