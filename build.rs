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
}
