//! The way back: one queue a request, filled by the scheduler's thread and emptied by the caller's.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use super::evaluation::Evaluation;
use crate::engine::error::Error;
use crate::engine::request::{Metrics, StopReason, TokenInfo};
use crate::engine::sync::{AtomicBool, Condvar, Mutex};

/// What the scheduler tells a caller.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The next token.
    Token(TokenInfo),
    /// What was asked about a prompt; the last event of its request.
    Evaluated(Box<Evaluation>),
    /// The answer is complete.
    Done(StopReason),
    /// It ended early.
    Failed(Error),
}

/// Both ends share it. Never blocks the scheduler: a slow caller's tokens wait here, at most a context of them
/// (see [`Sequence::waits`](super::sequence::Sequence::waits)).
#[derive(Debug, Default)]
pub struct Channel {
    state: Mutex<State>,
    news: Condvar,
    abandoned: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    events: VecDeque<Event>,
    metrics: Metrics,
}

impl Channel {
    /// An empty queue.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }
    /// Scheduler's side: adds an event with the figures as they stand.
    pub fn send(&self, event: Event, metrics: &Metrics) {
        let mut state = self.state.lock();
        state.events.push_back(event);
        state.metrics = *metrics;
        drop(state);
        self.news.notify_one();
    }
    /// Caller's side: the next event, or `None` when none came within `timeout` (`None`: waits for good).
    pub fn receive(&self, timeout: Option<Duration>) -> Option<Event> {
        let until = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let mut state = self.state.lock();
        loop {
            if let Some(event) = state.events.pop_front() {
                return Some(event);
            }
            match until {
                None => self.news.wait(&mut state),
                Some(until) => {
                    if self.news.wait_until(&mut state, until) {
                        return state.events.pop_front();
                    }
                }
            }
        }
    }
    /// Events that the caller has not read yet.
    pub fn unread(&self) -> usize {
        self.state.lock().events.len()
    }
    /// The figures with the last event sent.
    pub fn metrics(&self) -> Metrics {
        self.state.lock().metrics
    }
    /// Caller's side: nobody will read on; the scheduler ends the request at its next step.
    pub fn abandon(&self) {
        self.abandoned.store(true, Relaxed);
    }
    /// Whether the caller has gone.
    pub fn is_abandoned(&self) -> bool {
        self.abandoned.load(Relaxed)
    }
}
