//! The CPU backend: our own kernels over weights that stay where the checkpoint's mapping has them.

pub mod kernels;
pub mod matrix;
mod pack;
pub mod project;
pub mod scratch;
pub mod team;
