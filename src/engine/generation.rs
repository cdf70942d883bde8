//! One answer in progress, read on the caller's thread: tokens come in, whole text goes out.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::error::{Error, Result, error};
use super::request::{Chunk, Metrics, StopReason, TokenInfo};
use super::scheduler::{Channel, Event};
use super::text::{Detokenizer, StopMatcher};

/// What [`Generation::next`] found.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// More of the answer.
    Chunk(Chunk),
    /// Nothing within the time given.
    Pending,
    /// The answer is complete.
    Done(StopReason),
}

/// A pull iterator over one answer. Dropping it stops the computation.
pub struct Generation {
    channel: Arc<Channel>,
    detokenizer: Detokenizer,
    stops: StopMatcher,
    /// Text and tokens since the last chunk that was handed over.
    held: Vec<TokenInfo>,
    /// The prompt's own text, when the caller wants it back.
    echo: Option<String>,
    report_tokens: bool,
    /// How it ended, once it did.
    ended: Option<std::result::Result<StopReason, Error>>,
    generated: u64,
}

impl Generation {
    /// Reads `channel`. `report_tokens`: a token whose text is still incomplete makes a chunk of its own.
    pub(super) fn new(
        channel: Arc<Channel>,
        detokenizer: Detokenizer,
        stops: StopMatcher,
        echo: Option<String>,
        report_tokens: bool,
    ) -> Self {
        Self { channel, detokenizer, stops, held: Vec::new(), echo, report_tokens, ended: None, generated: 0 }
    }

    /// The next piece of the answer. Waits at most `timeout`, or until there is news. After the end it says the same
    /// again: `Done`, or the error.
    pub fn next(&mut self, timeout: Option<Duration>) -> Result<Step> {
        if let Some(text) = self.echo.take().filter(|text| !text.is_empty()) {
            return Ok(Step::Chunk(Chunk { text, tokens: Vec::new() }));
        }
        let until = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            match &self.ended {
                Some(Ok(reason)) => return Ok(Step::Done(*reason)),
                Some(Err(error)) => return Err(error.clone()),
                None => {}
            }
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            let Some(event) = self.channel.receive(left) else { return Ok(Step::Pending) };
            if let Some(chunk) = self.take(event)? {
                return Ok(Step::Chunk(chunk));
            }
        }
    }

    /// Turns one event into text; `None` where it completes none.
    fn take(&mut self, event: Event) -> Result<Option<Chunk>> {
        let mut fresh = String::new();
        let mut text = String::new();
        match event {
            Event::Token(token) => {
                self.detokenizer.push(token.id, &mut fresh);
                self.held.push(token);
                self.generated += 1;
                if self.stops.push(&fresh, &mut text).is_some() {
                    self.channel.abandon();
                    self.ended = Some(Ok(StopReason::Stop));
                }
            }
            Event::Done(reason) => {
                self.detokenizer.finish(&mut fresh);
                let stopped = self.stops.push(&fresh, &mut text).is_some();
                if !stopped {
                    self.stops.finish(&mut text);
                }
                self.ended = Some(match reason {
                    _ if stopped => Ok(StopReason::Stop),
                    StopReason::Cancelled => Err(error!(Cancelled, "cancelled by the caller")),
                    StopReason::Deadline => Err(error!(Deadline, "the deadline passed")),
                    reason => Ok(reason),
                });
            }
            Event::Evaluated(_) => self.ended = Some(Err(error!(Internal, "an evaluation answered a generation"))),
            Event::Failed(error) => self.ended = Some(Err(error)),
        }
        let worth_it = !text.is_empty() || self.report_tokens && !self.held.is_empty();
        if !worth_it {
            return Ok(None);
        }
        Ok(Some(Chunk { text, tokens: std::mem::take(&mut self.held) }))
    }

    /// The figures so far; complete once the answer is.
    pub fn metrics(&self) -> Metrics {
        let mut metrics = self.channel.metrics();
        match &self.ended {
            Some(Ok(reason)) => {
                metrics.stop_reason = *reason;
                metrics.generated_tokens = self.generated;
            }
            Some(Err(_)) if metrics.stop_reason == StopReason::None => metrics.stop_reason = StopReason::Error,
            _ => {}
        }
        metrics
    }

    /// Ends the computation at its next step; `next` then says `Cancelled`, after what was already computed.
    pub fn cancel(&self) {
        self.channel.abandon();
    }
}

impl Drop for Generation {
    fn drop(&mut self) {
        self.channel.abandon();
    }
}
