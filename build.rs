//! Gives the shared library its SONAME, `libgomlx.so.<ABI>`: programs linked against one ABI never load another.

use std::{env, fs};

const SOURCE: &str = "src/ffi/version.rs";

fn main() {
    println!("cargo:rerun-if-changed={SOURCE}");
    println!("cargo:rerun-if-changed=build.rs");
    let source = fs::read_to_string(SOURCE).expect(SOURCE);
    let (_, rest) = source.split_once("GOMLX_ABI_VERSION = ").expect("the ABI's number");
    let abi: String = rest.chars().take_while(char::is_ascii_digit).collect();
    match env::var("CARGO_CFG_TARGET_OS").as_deref() {
        Ok("macos" | "ios") => {
            println!("cargo:rustc-cdylib-link-arg=-Wl,-install_name,@rpath/libgomlx.{abi}.dylib");
        }
        Ok("windows") => {}
        _ => println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libgomlx.so.{abi}"),
    }
    // `cfg(mlx)`: the backend is there always on Apple's systems, elsewhere with the feature.
    println!("cargo:rustc-check-cfg=cfg(mlx)");
    let apple = env::var("CARGO_CFG_TARGET_VENDOR").is_ok_and(|vendor| vendor == "apple");
    let feature = env::var_os("CARGO_FEATURE_MLX").is_some();
    if apple || feature {
        println!("cargo:rustc-cfg=mlx");
    }
    if feature && !apple {
        // libmlx and what it needs lie beside the library. The old kind of path: it holds for libmlx's own needs too.
        println!("cargo:rustc-cdylib-link-arg=-Wl,--disable-new-dtags,-rpath,$ORIGIN");
    }
}
