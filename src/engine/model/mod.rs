//! Models: what a decoder is (`spec`), how families describe theirs (`families`), how it runs (`decoder`) and how a
//! folder becomes one (`load`).

pub mod config;
pub mod decoder;
pub mod discover;
pub mod families;
pub mod identity;
pub mod load;
pub mod rope;
pub mod spec;
pub mod tensors;
