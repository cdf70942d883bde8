//! Continuous batching: one thread owns the backend, callers submit requests and read their own queues.
//!
//! ```text
//! caller ── submit ──► inbox ──► worker: admit → plan → execute → sample ──► channel ──► caller
//! ```

mod channel;
mod evaluation;
mod pages;
mod plan;
mod prefix;
mod sequence;
mod worker;

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;

use parking_lot::{Condvar, Mutex};

pub use channel::{Channel, Event};
pub use evaluation::{Asking, Evaluation, Pooling, Question};
pub use sequence::{Generating, Goal, Submission};

use super::backend::{Backend, KvType};
use super::defect;
use super::error::{Error, Result, Status, error, fail};
use super::memory;
use super::model::decoder::Decoder;

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
}

/// The door to a model's worker thread. Dropping it ends every request with a status and joins the thread.
pub struct Scheduler {
    inbox: Arc<Inbox>,
    thread: Option<JoinHandle<()>>,
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
    /// Submitted and not yet admitted, those the worker has taken over included.
    queued: usize,
    closed: bool,
    /// Why the worker is gone, once it is.
    failure: Option<Error>,
}

impl memory::Owner for Inbox {
    fn wake(&self) {
        // Under the lock: the worker is then either before its last look or asleep, never between the two.
        let _state = self.state.lock();
        self.news.notify_one();
    }
}

impl Scheduler {
    /// Starts the thread. `make` builds backend and decoder there, because backends are bound to their thread.
    pub fn start<B, F>(limits: Limits, make: F) -> Result<Self>
    where
        B: Backend,
        F: FnOnce() -> Result<(B, Decoder<B>)> + Send + 'static,
    {
        let inbox = Arc::new(Inbox {
            state: Mutex::default(),
            news: Condvar::new(),
            queue: limits.queue,
            closing: AtomicBool::new(false),
        });
        let owner: Weak<Inbox> = Arc::downgrade(&inbox);
        memory::register(owner);
        let (ready, outcome) = std::sync::mpsc::channel();
        let theirs = inbox.clone();
        let body = move || {
            // Dropped last, and also when a step panics: whoever waits learns that the worker is gone.
            let _farewell = Farewell(&theirs);
            match make().and_then(|(backend, decoder)| worker::Worker::new(backend, decoder, limits)) {
                Ok(mut worker) => {
                    let _ = ready.send(Ok(()));
                    worker.serve(&theirs);
                }
                Err(error) => {
                    let _ = ready.send(Err(error));
                }
            }
        };
        let thread = std::thread::Builder::new().name("gomlx-scheduler".into()).spawn(body);
        let thread = thread.map_err(|e| error!(Memory, "no thread for the scheduler: {e}"))?;
        let scheduler = Self { inbox, thread: Some(thread), pid: std::process::id() };
        outcome.recv().unwrap_or_else(|_| Err(error!(Internal, "a panic while loading: {}", defect::latest())))?;
        Ok(scheduler)
    }

    /// Hands a request over. Its channel gets exactly one final event, whatever happens.
    pub fn submit(&self, request: Submission) -> Result<()> {
        self.check_fork()?;
        let mut state = self.inbox.state.lock();
        if let Some(failure) = &state.failure {
            return Err(failure.clone());
        }
        if state.closed {
            fail!(State, "the model is being freed")
        }
        if state.queued >= self.inbox.queue {
            fail!(Busy, "{} requests wait already, the most this model queues", state.queued)
        }
        state.queued += 1;
        state.waiting.push(request);
        drop(state);
        self.inbox.news.notify_one();
        Ok(())
    }

    /// `Forked` in a child of the process that loaded the model: the worker exists only in the parent.
    pub fn check_fork(&self) -> Result<()> {
        if self.pid != std::process::id() {
            fail!(Forked, "the model was loaded by process {} before it forked; load it in the child", self.pid)
        }
        Ok(())
    }
}

impl Drop for Scheduler {
    fn drop(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        if self.pid != std::process::id() {
            // In a forked child the thread does not exist and the lock may be held by nobody: leave both alone.
            std::mem::forget(thread);
            std::mem::forget(self.inbox.clone());
            return;
        }
        self.inbox.closing.store(true, Relaxed);
        self.inbox.state.lock().closed = true;
        self.inbox.news.notify_one();
        // A panic in the worker was reported to every caller by its farewell.
        let _ = thread.join();
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
        state.queued = 0;
        state.failure = Some(failure);
    }
}
