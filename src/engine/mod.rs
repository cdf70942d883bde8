//! The safe engine that the C ABI, the tests and Rust programs share.

pub mod backend;
pub mod control;
pub mod error;
pub mod memory;
pub mod model;
pub mod sampling;
pub mod text;
pub mod weights;

pub use control::Control;
pub use error::{Error, Result, Status};
