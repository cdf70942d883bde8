//! The safe engine that the C ABI, the tests and Rust programs share.

pub mod backend;
pub mod batch;
pub mod catalog;
pub mod classify;
pub mod control;
pub mod defect;
pub mod error;
pub mod generation;
pub mod language_model;
mod logging;
pub mod memory;
pub mod model;
pub mod options;
mod prefix_file;
pub mod request;
mod residence;
pub mod runtime;
pub mod sampling;
mod scheduler;
pub(crate) mod sync;
pub mod text;
mod trace;
pub mod weights;

pub use control::Control;
pub use error::{Error, Result, Status};
pub use generation::{Generation, Step};
pub use language_model::{Model, ModelInfo};
pub use options::{BackendChoice, ModelOptions, Precision, WeightsMode};
pub use request::{Chat, Chunk, Metrics, Prompt, Request, StopReason, TokenInfo, WhenFull};
