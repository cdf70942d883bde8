//! A cancel flag and a progress meter that any thread may touch and that outlives what it controls.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use super::error::{Result, fail};

/// Shared handle; clones control the same work. Every method is lock-free, and [`Control::cancel`] is
/// async-signal-safe: it is one atomic store.
#[derive(Clone, Debug, Default)]
pub struct Control(Arc<State>);

#[derive(Debug, Default)]
struct State {
    cancelled: AtomicBool,
    done: AtomicU64,
    total: AtomicU64,
}

impl Control {
    /// A control that nobody has cancelled.
    pub fn new() -> Self {
        Self::default()
    }
    /// Asks the work to stop. It ends within one step; asking twice is the same as once.
    pub fn cancel(&self) {
        self.0.cancelled.store(true, Relaxed);
    }
    /// Whether somebody asked.
    pub fn is_cancelled(&self) -> bool {
        self.0.cancelled.load(Relaxed)
    }
    /// `GOMLX_ERR_CANCELLED` once somebody asked; for `?` at the borders of steps.
    pub fn check(&self) -> Result<()> {
        if self.is_cancelled() {
            fail!(Cancelled, "cancelled by the caller")
        }
        Ok(())
    }
    /// Reports how far the work is, in the work's own unit (bytes while loading, tokens while prefilling).
    pub fn report(&self, done: u64, total: u64) {
        self.0.total.store(total, Relaxed);
        self.0.done.store(done, Relaxed);
    }
    /// `(done, total)` as last reported; `(0, 0)` before the work starts.
    pub fn progress(&self) -> (u64, u64) {
        (self.0.done.load(Relaxed), self.0.total.load(Relaxed))
    }
}
