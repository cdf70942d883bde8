//! Continuous batching: one thread owns the backend, callers submit requests and read their own queues.
//!
//! ```text
//! caller ── submit ──► inbox ──► worker: admit → plan → execute → sample ──► channel ──► caller
//! ```

mod channel;
mod evaluation;
mod exchange;
#[cfg(all(test, not(feature = "shuttle")))]
mod faults;
mod flight;
#[cfg(all(test, feature = "shuttle"))]
mod models;
mod pages;
mod plan;
mod prefix;
mod sequence;
#[cfg(test)]
mod toy;
mod worker;

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Weak};

pub use channel::{Channel, Event};
pub use evaluation::{Asking, Evaluation, Pooling, Question};
pub use exchange::{Block, BlockId, Errand, Exchange};
pub use sequence::{Generating, Goal, Roll, Submission};

use super::backend::{Backend, KvType};
use super::defect;
use super::error::{Error, Result, Status, error, fail};
use super::memory;
use super::model::decoder::Decoder;
use super::sync::thread::{self, JoinHandle};
use super::sync::{AtomicBool, Condvar, Mutex, mpsc};

/// What the scheduler keeps to.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Positions a sequence may take.
    pub context: usize,
    /// Sequences computed together.
    pub sequences: usize,
    /// Requests that may wait.
    pub queue: usize,
    /// Prompt tokens in one step.
    pub chunk: usize,
    /// Element type of the KV cache.
    pub kv_type: KvType,
    /// Bytes of KV cache.
    pub kv_budget: u64,
    /// Bytes of it that finished requests may keep for later ones; `None`: one full context; 0: none.
    pub prefix_budget: Option<u64>,
    /// Bytes of weights that the worker holds.
    pub weights: u64,
}

/// Questions that run where one generation would.
const QUESTIONS_PER_SEQUENCE: usize = 16;

impl Limits {
    /// Questions computed together.
    pub fn questions(&self) -> usize {
        self.sequences.saturating_mul(QUESTIONS_PER_SEQUENCE)
    }
}

/// What a worker is made of, on its own thread.
pub struct Parts<B: Backend> {
    /// What computes.
    pub backend: B,
    /// The model.
    pub decoder: Decoder<B>,
    /// Names everything that decides what a KV page holds for given tokens. Called seldom.
    pub identity: Box<dyn Fn() -> [u8; 32]>,
}

/// What callers leave for the worker.
pub enum Parcel {
    /// To be answered through its channel.
    Request(Submission),
    /// To be done between two steps.
    Errand(Errand),
}

/// The door to a model's worker thread. Dropping it closes it.
pub struct Scheduler {
    inbox: Arc<Inbox>,
    thread: Mutex<Option<JoinHandle<()>>>,
    pid: u32,
}

/// Where callers leave requests for the worker.
struct Inbox {
    state: Mutex<InboxState>,
    news: Condvar,
    queue: usize,
    /// The model is being freed: seen inside a step, without the lock.
    closing: AtomicBool,
}

#[derive(Default)]
struct InboxState {
    waiting: Vec<Submission>,
    errands: Vec<Errand>,
    /// Submitted and not yet admitted, those the worker has taken over included.
    queued: usize,
    closed: bool,
    /// Nothing runs: what the worker holds meanwhile.
    resting: Option<memory::Resting>,
    /// It is asked to let go of that, or has done so.
    unload: bool,
    /// Why the worker is gone, once it is.
    failure: Option<Error>,
}

impl memory::Owner for Inbox {
    fn wake(&self) {
        // Under the lock: the worker is then either before its last look or asleep, never between the two.
        let _state = self.state.lock();
        self.news.notify_one();
    }
    fn resting(&self) -> Option<(u64, u64)> {
        self.state.lock().resting.as_ref().map(memory::Resting::figures)
    }
    fn unload(&self) {
        let mut state = self.state.lock();
        if state.resting.is_some() {
            state.unload = true;
            self.news.notify_one();
        }
    }
}

impl Scheduler {
    /// Starts the thread. `make` builds backend and decoder there, because backends are bound to their thread.
    pub fn start<B, F>(limits: Limits, make: F) -> Result<Self>
    where
        B: Backend,
        F: FnOnce() -> Result<Parts<B>> + Send + 'static,
    {
        let inbox = Arc::new(Inbox {
            state: Mutex::default(),
            news: Condvar::new(),
            queue: limits.queue,
            closing: AtomicBool::new(false),
        });
        let owner: Weak<Inbox> = Arc::downgrade(&inbox);
        memory::register(owner);
        let (ready, outcome) = mpsc::channel();
        let theirs = inbox.clone();
        let body = move || {
            // Dropped last, and also when a step panics: whoever waits learns that the worker is gone.
            let _farewell = Farewell(&theirs);
            match make().and_then(|parts| worker::Worker::new(parts, limits)) {
                Ok(mut worker) => {
                    let _ = ready.send(Ok(()));
                    worker.serve(&theirs);
                }
                Err(error) => {
                    let _ = ready.send(Err(error));
                }
            }
        };
        let thread = thread::Builder::new().name("gomlx-scheduler".into()).spawn(body);
        let thread = thread.map_err(|e| error!(Memory, "no thread for the scheduler: {e}"))?;
        let scheduler = Self { inbox, thread: Mutex::new(Some(thread)), pid: std::process::id() };
        outcome.recv().unwrap_or_else(|_| Err(error!(Internal, "a panic while loading: {}", defect::latest())))?;
        Ok(scheduler)
    }

    /// Hands a parcel over; it comes back when the worker unloaded itself. A request's channel gets exactly one final
    /// event, whatever happens.
    pub fn hand(&self, parcel: Parcel) -> Result<Option<Parcel>> {
        self.check_fork()?;
        let mut state = self.inbox.state.lock();
        if state.closed && state.unload {
            return Ok(Some(parcel));
        }
        if let Some(failure) = &state.failure {
            return Err(failure.clone());
        }
        if state.closed {
            fail!(State, "the model is being freed")
        }
        match parcel {
            Parcel::Request(_) if state.queued >= self.inbox.queue => {
                fail!(Busy, "{} requests wait already, the most this model queues", state.queued)
            }
            Parcel::Request(request) => {
                state.queued += 1;
                state.waiting.push(request);
            }
            Parcel::Errand(errand) => state.errands.push(errand),
        }
        drop(state);
        self.inbox.news.notify_one();
        Ok(None)
    }

    /// `Forked` in a child of the process that loaded the model: the worker exists only in the parent.
    pub fn check_fork(&self) -> Result<()> {
        if self.pid != std::process::id() {
            fail!(Forked, "the model was loaded by process {} before it forked; load it in the child", self.pid)
        }
        Ok(())
    }
}

impl Scheduler {
    /// Ends every request with `State` and returns when the worker is gone, with all it held. Whoever comes second
    /// waits as long; later requests get `State`, too.
    pub fn close(&self) {
        if self.pid != std::process::id() {
            return;
        }
        let mut thread = self.thread.lock();
        let Some(worker) = thread.take() else { return };
        let mut state = self.inbox.state.lock();
        state.closed = true;
        // Before the lock is free: a worker that leaves its step because of this finds the inbox closed, not a reason
        // to begin the same step again.
        self.inbox.closing.store(true, Relaxed);
        drop(state);
        self.inbox.news.notify_one();
        // A panic in the worker was reported to every caller by its farewell.
        let _ = worker.join();
    }
}

impl Drop for Scheduler {
    fn drop(&mut self) {
        if self.pid != std::process::id() {
            // In a forked child the thread does not exist and the locks may be held by nobody: leave all alone.
            std::mem::forget(self.thread.get_mut().take());
            std::mem::forget(self.inbox.clone());
            return;
        }
        self.close();
    }
}

/// Closes the inbox when the worker's thread ends, however it ends, and answers what still waits there.
struct Farewell<'a>(&'a Inbox);

impl Drop for Farewell<'_> {
    fn drop(&mut self) {
        let failure = if std::thread::panicking() {
            error!(Internal, "the scheduler panicked: {}; load the model again", defect::latest())
        } else {
            Error::new(Status::State, "the model was freed")
        };
        let mut state = self.0.state.lock();
        state.closed = true;
        for request in state.waiting.drain(..) {
            request.channel.send(Event::Failed(failure.clone()), &Default::default());
        }
        state.errands.clear();
        state.queued = 0;
        state.resting = None;
        state.failure = Some(failure);
    }
}
