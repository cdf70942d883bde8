//! Reusable buffers of the matrix products: after the first step of a shape, nothing is allocated.

use std::cell::UnsafeCell;

use crate::engine::error::{Result, error};
use crate::engine::memory::{self, Kind, Reservation};

use super::pack::Packed;
use super::team::Shares;

/// A cache line, for alignment.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; 64]);

/// Bytes that start on a cache line and only ever grow. What they hold between uses is unspecified.
#[derive(Default)]
pub(super) struct Buffer(Vec<Line>);

impl Buffer {
    /// Makes room for `bytes`.
    pub fn ensure(&mut self, bytes: usize) -> Result<()> {
        let lines = bytes.div_ceil(64);
        if lines > self.0.len() {
            let more = lines - self.0.len();
            self.0.try_reserve_exact(more).map_err(|_| error!(Memory, "no memory for {bytes} bytes of scratch"))?;
            self.0.resize(lines, Line([0; 64]));
        }
        Ok(())
    }
    /// Bytes held.
    pub fn len(&self) -> usize {
        self.0.len() * 64
    }
    /// Their start.
    pub fn ptr<T>(&self) -> *const T {
        self.0.as_ptr().cast()
    }
    /// Their start.
    pub fn ptr_mut<T>(&mut self) -> *mut T {
        self.0.as_mut_ptr().cast()
    }
}

/// What one thread needs while it computes tiles or packs rows.
#[derive(Default)]
pub(super) struct Worker {
    /// The panels being multiplied.
    pub panel: Buffer,
    /// Bytes on their way to a floats panel.
    pub bytes: Buffer,
    /// `[panels][groups][16]` scales, then as many biases.
    pub scales: Buffer,
    /// `[rows][panels * 16]` accumulators.
    pub acc: Buffer,
    /// Rows converted but not yet interleaved.
    pub staging: Buffer,
}

/// Buffers for [`project`](super::project::project). Belongs to one caller at a time.
#[derive(Default)]
pub struct Scratch {
    pub(super) packed: Vec<Packed>,
    pub(super) workers: Vec<WorkerCell>,
    pub(super) shares: Shares,
    held: Option<Reservation>,
}

/// A thread's buffers, lent by thread number.
#[derive(Default)]
pub(super) struct WorkerCell(UnsafeCell<Worker>);

// SAFETY: `WorkerCell::get` is the only way in, and its caller promises exclusiveness.
unsafe impl Sync for WorkerCell {}

impl WorkerCell {
    /// The buffers.
    ///
    /// # Safety
    /// One caller at a time: a team gives each of its threads another number.
    #[allow(clippy::mut_from_ref)]
    pub unsafe fn get(&self) -> &mut Worker {
        // SAFETY: promised by the caller.
        unsafe { &mut *self.0.get() }
    }
}

impl Scratch {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes held.
    pub fn bytes(&mut self) -> usize {
        let worker = |w: &mut WorkerCell| {
            let w = w.0.get_mut();
            w.panel.len() + w.bytes.len() + w.scales.len() + w.acc.len() + w.staging.len()
        };
        self.packed.iter().map(Packed::bytes).sum::<usize>() + self.workers.iter_mut().map(worker).sum::<usize>()
    }

    /// Gives all of it back to the system.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Makes the process's figures say what is held now.
    pub(super) fn account(&mut self) -> Result<()> {
        let bytes = self.bytes();
        if self.held.as_ref().is_none_or(|held| held.bytes() != bytes as u64) {
            self.held = None;
            match memory::reserve(bytes, Kind::Owned, "scratch of the matrix products") {
                Ok(held) => self.held = Some(held),
                Err(refused) => {
                    self.clear();
                    return Err(refused);
                }
            }
        }
        Ok(())
    }

    /// Grows the buffers of `count` workers, each by `grow`.
    pub(super) fn workers(&mut self, count: usize, grow: impl Fn(&mut Worker) -> Result<()>) -> Result<()> {
        if self.workers.len() < count {
            self.workers.resize_with(count, WorkerCell::default);
        }
        self.shares.split(count);
        self.workers[..count].iter_mut().try_for_each(|w| grow(w.0.get_mut()))
    }
}
