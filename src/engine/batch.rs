//! Several answers read by one thread: what arrives is handed over, whoever's it is.

use std::collections::VecDeque;
use std::time::Duration;

use super::error::{Error, Result, Status};
use super::generation::{Generation, Step};
use super::language_model::Model;
use super::request::{Metrics, Request};

/// Longest that one quiet answer keeps the thread from looking at the others. They move in the same steps, so this
/// is felt only where the one waited for has not been admitted yet.
const PATIENCE: Duration = Duration::from_millis(5);

/// Answers in progress, numbered as their requests were.
pub struct Batch {
    model: Model,
    /// Refused so far because the queue was full.
    waiting: VecDeque<(usize, Request)>,
    running: Vec<(usize, Generation)>,
    /// What happened and was not handed over yet.
    events: VecDeque<BatchEvent>,
}

/// What became of one request of a batch.
#[derive(Clone, Debug, PartialEq)]
pub struct BatchEvent {
    /// Its number.
    pub index: usize,
    /// A chunk, or `Done`, or why it failed; the latter two come once.
    pub step: Result<Step>,
    /// Its figures; complete with the last event.
    pub metrics: Metrics,
}

impl Model {
    /// Starts an answer for each request. More than the queue takes are held here until it has room.
    pub fn generate_batch(&self, requests: Vec<Request>) -> Batch {
        let waiting = requests.into_iter().enumerate().collect();
        Batch { model: self.clone(), waiting, running: Vec::new(), events: VecDeque::new() }
    }
}

/// Yields events until every request has had its last. A request that fails says so and leaves the others alone.
impl Iterator for Batch {
    type Item = BatchEvent;

    fn next(&mut self) -> Option<BatchEvent> {
        loop {
            self.submit();
            if let Some(event) = self.events.pop_front() {
                return Some(event);
            }
            if self.running.is_empty() && self.waiting.is_empty() {
                return None;
            }
            self.look();
        }
    }
}

impl Batch {
    /// Hands over what the queue takes.
    fn submit(&mut self) {
        while let Some((index, request)) = self.waiting.pop_front() {
            match self.model.generate(request.clone()) {
                Ok(generation) => self.running.push((index, generation)),
                Err(error) if error.status() == Status::Busy => {
                    self.waiting.push_front((index, request));
                    return;
                }
                Err(error) => self.fail(index, error),
            }
        }
    }

    fn fail(&mut self, index: usize, error: Error) {
        self.events.push_back(BatchEvent { index, step: Err(error), metrics: Metrics::default() });
    }

    /// Collects what every answer has; waits at the first where none has anything.
    fn look(&mut self) {
        let mut timeout = Duration::ZERO;
        while self.events.is_empty() && !self.running.is_empty() {
            let events = &mut self.events;
            let mut first = true;
            self.running.retain_mut(|(index, generation)| {
                let patience = if std::mem::take(&mut first) { timeout } else { Duration::ZERO };
                let step = generation.next(Some(patience));
                let last = !matches!(step, Ok(Step::Chunk(_) | Step::Pending));
                if !matches!(step, Ok(Step::Pending)) {
                    events.push_back(BatchEvent { index: *index, step, metrics: generation.metrics() });
                }
                !last
            });
            timeout = PATIENCE;
        }
        if self.running.is_empty() && self.events.is_empty() && !self.waiting.is_empty() {
            // Others fill the queue and nothing of ours runs: try again shortly.
            std::thread::sleep(PATIENCE);
        }
    }
}
