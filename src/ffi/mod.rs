//! The C ABI: every function declared in `include/gomlx.h`, which cbindgen writes from these files.
//!
//! Each function does four things: check what came in, convert it, call the engine, hand back what came out. The
//! craft that all of them share lives in five files and nowhere else:
//! - `guard`: the panic boundary that every entry passes;
//! - `handle`: the only casts between C pointers and owned Rust values;
//! - `options`: `struct_size`, and C enumerators to Rust enums;
//! - `input`: the caller's strings and arrays; `output`: the caller's out-pointers and buffers.
//!
//! Doc comments of `gomlx_*` items end up in the header, so they speak to C programmers; the conventions that hold for
//! all of them (`cbindgen.toml`) are stated once, there.

// Names are the header's own: one name for one thing in every language.
#![allow(non_camel_case_types)]
// The header's conventions chapter is the safety contract of every function; repeating it on each would bury the
// sentences that differ.
#![allow(clippy::missing_safety_doc)]

mod guard;
mod handle;
pub mod input;
mod options;
mod output;
mod sharing;

pub mod batch;
pub mod classify;
pub mod control;
pub mod discover;
pub mod error;
pub mod generation;
pub mod memory;
pub mod model;
pub mod request;
pub mod runtime;
pub mod version;
