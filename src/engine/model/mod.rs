//! Models: what a decoder is (`spec`), how families describe theirs (`families`), how it runs (`decoder`) and how a
//! folder becomes one (`load`).

pub mod spec;
pub mod tensors;
