//! The safe engine that the C ABI, the tests and Rust programs share.

pub mod control;
pub mod error;

pub use control::Control;
pub use error::{Error, Result, Status};
