//! `libgomlx`: language models inside the caller's own process.
//!
//! Two surfaces share one engine: the C ABI (`src/ffi`, declared in `include/gomlx.h`) and the safe Rust facade
//! ([`engine`]). `ARCHITECTURE.md` draws the layers; calls go down, values come up.
#![deny(unsafe_op_in_unsafe_fn)]
#![warn(missing_docs)]

pub mod engine;
pub mod ffi;
