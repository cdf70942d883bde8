//! One running request: its tokens, its pages, its clock.

use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use super::channel::{Channel, Event};
use super::evaluation::{Asking, Reads};
use super::plan::Standing;
use super::prefix::Cursor;
use crate::engine::backend::PageId;
use crate::engine::control::Control;
use crate::engine::error::Error;
use crate::engine::memory;
use crate::engine::request::{Metrics, StopReason, TokenInfo};
use crate::engine::sampling::Sampler;

/// A request as the caller's thread prepared it.
pub struct Submission {
    /// The prompt, at least one token.
    pub prompt: Vec<u32>,
    /// What to do with it.
    pub goal: Goal,
    /// When it must be answered.
    pub deadline: Option<Instant>,
    /// Higher goes first.
    pub priority: i32,
    /// What it computed stays in the prefix cache, its last partial page included.
    pub keep_prefix: bool,
    /// The caller's control.
    pub control: Option<Control>,
    /// Where the answer goes.
    pub channel: Arc<Channel>,
    /// When the caller asked.
    pub asked: Instant,
    /// Counts it.
    pub _alive: memory::Alive,
}

/// What a request is for.
pub enum Goal {
    /// An answer, token by token.
    Generate(Box<Generating>),
    /// Figures about given texts.
    Evaluate(Box<Asking>),
}

/// How an answer is generated.
pub struct Generating {
    /// Chooses tokens.
    pub sampler: Sampler,
    /// Most tokens to generate, at least one; without `roll` prompt and answer fit the context.
    pub max_tokens: usize,
    /// `max_tokens` is what the context leaves, not what the caller said.
    pub until_full: bool,
    /// Goes on when the context is full.
    pub roll: Option<Roll>,
    /// The model's end tokens that apply.
    pub end_tokens: Vec<u32>,
    /// The request's stop tokens.
    pub stop_tokens: Vec<u32>,
}

/// How a full context makes room.
#[derive(Clone, Copy, Debug)]
pub struct Roll {
    /// Positions that are full.
    pub context: usize,
    /// Tokens of the beginning that stay, at most half of them.
    pub keep: usize,
}

/// Why a request must end before its next step.
pub enum Ended {
    /// Its caller went away or cancelled.
    Cancelled,
    /// Its deadline passed.
    Deadline,
}

impl Submission {
    /// Whether somebody or the clock ended it.
    pub fn ended(&self) -> Option<Ended> {
        if self.channel.is_abandoned() || self.control.as_ref().is_some_and(Control::is_cancelled) {
            return Some(Ended::Cancelled);
        }
        self.deadline.is_some_and(|deadline| Instant::now() >= deadline).then_some(Ended::Deadline)
    }
    /// Positions it may take in the cache: the last token is never computed.
    pub fn positions(&self) -> usize {
        match &self.goal {
            Goal::Generate(generating) => {
                let most = self.prompt.len().saturating_add(generating.max_tokens - 1);
                generating.roll.map_or(most, |roll| most.min(roll.context))
            }
            Goal::Evaluate(asking) => self.prompt.len() + asking.most_behind(),
        }
    }
}

/// An admitted request.
pub struct Sequence {
    /// What was asked for.
    pub request: Submission,
    /// Its name among all that the worker ever admitted.
    pub number: u64,
    /// Prompt and generated tokens.
    pub tokens: Vec<u32>,
    /// How many of them are computed as a prompt: the request's, or after a roll all that were kept.
    pub prompt: usize,
    /// Tokens whose keys and values are in the cache, as the last step that was read left it.
    pub computed: usize,
    /// The same once the steps in flight are done.
    pub submitted: usize,
    /// The last step it was part of.
    pub step: u64,
    /// What that step will say.
    pub awaits: Awaits,
    /// Page table of each layer group.
    pub pages: Vec<Vec<PageId>>,
    /// Pages promised to it in each group.
    pub committed: Vec<usize>,
    /// Its place in the prefix cache.
    pub cursor: Cursor,
    /// Its figures so far.
    pub metrics: Metrics,
    admitted: Instant,
    first_token: Option<Instant>,
}

/// What a step in flight will say of a sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Awaits {
    /// Nothing that decides how it goes on.
    Nothing,
    /// What decides how it goes on.
    Outcome,
    /// Its next token, that of this row of the step's summary; it goes on unless that token ends it.
    Token(usize),
}

/// What came of one row of logits.
#[derive(Debug)]
pub enum Row<'a> {
    /// The logits.
    All(&'a mut [f32]),
    /// The largest, and the log-probabilities of [named](Sequence::named) tokens.
    Brief {
        /// Its index and value.
        best: (u32, f32),
        /// One a named token.
        logprobs: &'a [f32],
    },
}

impl Sequence {
    /// Starts the clock of an admitted request.
    pub fn new(mut request: Submission, committed: Vec<usize>, number: u64) -> Self {
        let admitted = Instant::now();
        let metrics = Metrics {
            prompt_tokens: request.prompt.len() as u64,
            queue_seconds: (admitted - request.asked).as_secs_f64(),
            ..Metrics::default()
        };
        let tokens = std::mem::take(&mut request.prompt);
        let pages = vec![Vec::new(); committed.len()];
        Self {
            request,
            number,
            prompt: tokens.len(),
            tokens,
            computed: 0,
            submitted: 0,
            step: 0,
            awaits: Awaits::Nothing,
            pages,
            committed,
            cursor: Cursor::default(),
            metrics,
            admitted,
            first_token: None,
        }
    }

    /// What the planner must know.
    pub fn standing(&self) -> Standing {
        let decoding = matches!(self.request.goal, Goal::Generate(_)) && self.submitted >= self.prompt;
        let (coming, unknown) = match self.awaits {
            Awaits::Nothing => (0, false),
            Awaits::Outcome => (0, true),
            Awaits::Token(_) => (1, false),
        };
        let waits = unknown || self.waits();
        Standing { computed: self.submitted, known: self.tokens.len() + coming, decoding, waits }
    }

    /// What it awaits of a step that computes its tokens up to `end`, of which `row` of the summary is its only read
    /// one.
    pub fn expects(&self, end: usize, row: usize) -> Awaits {
        match &self.request.goal {
            // The one after the next must be wanted too.
            Goal::Generate(generating)
                if generating.roll.is_none()
                    && generating.sampler.wants_largest_only()
                    && end + 2 - self.prompt <= generating.max_tokens =>
            {
                Awaits::Token(row)
            }
            _ => Awaits::Outcome,
        }
    }

    /// Whether its reader must catch up first: an answer that rolls has no other bound on what lies unread.
    pub fn waits(&self) -> bool {
        self.roll().is_some_and(|roll| self.request.channel.unread() >= roll.context)
    }

    fn roll(&self) -> Option<Roll> {
        match &self.request.goal {
            Goal::Generate(generating) => generating.roll,
            Goal::Evaluate(_) => None,
        }
    }

    /// Whether the next token has no place and the request wants one made.
    pub fn must_roll(&self) -> bool {
        self.roll().is_some_and(|roll| self.tokens.len() >= roll.context)
    }

    /// Drops the older half of what is not to be kept. Nothing counts as computed then: keys and values hold the
    /// positions and the company that their tokens had.
    pub fn drop_middle(&mut self) {
        let Some(roll) = self.roll() else { return };
        let half = ((self.tokens.len() - roll.keep) / 2).max(1);
        self.tokens.drain(roll.keep..roll.keep + half);
        self.metrics.rolled_tokens += half as u64;
        self.prompt = self.tokens.len();
        (self.computed, self.submitted) = (0, 0);
        self.cursor = Cursor::default();
    }

    /// What a step that computes `tokens` must read for it.
    pub fn reads(&self, tokens: &Range<usize>) -> Reads {
        match &self.request.goal {
            Goal::Evaluate(asking) => asking.reads(tokens, self.prompt),
            Goal::Generate(_) if tokens.end >= self.tokens.len() => Reads::Logits(tokens.end - 1..tokens.end),
            Goal::Generate(_) => Reads::Nothing,
        }
    }

    /// The submitted tokens that are worth finding again: not what was only scored behind the prompt.
    pub fn reusable(&self) -> &[u32] {
        let known = match self.request.goal {
            Goal::Generate(_) => self.tokens.len(),
            Goal::Evaluate(_) => self.prompt,
        };
        &self.tokens[..self.submitted.min(known)]
    }

    /// The tokens whose log-probabilities suffice for each of its next `rows` rows of logits, beside the largest
    /// logit; `None` where it needs the logits themselves.
    pub fn named(&self, rows: usize) -> Option<Vec<Vec<u32>>> {
        match &self.request.goal {
            Goal::Generate(generating) if generating.sampler.wants_largest_only() => Some(vec![Vec::new(); rows]),
            Goal::Generate(_) => None,
            Goal::Evaluate(asking) => asking.named(rows),
        }
    }

    /// Books the computed `tokens` with the rows that [`reads`](Self::reads) named for them. `true` when the answer
    /// is complete.
    pub fn advance(&mut self, tokens: Range<usize>, hidden: &[&[f32]], logits: &mut [Row<'_>]) -> bool {
        self.computed = tokens.end;
        let prompt = self.prompt;
        if let Some(control) = &self.request.control
            && self.metrics.rolled_tokens == 0
        {
            control.report(prompt.min(self.computed) as u64, prompt as u64);
        }
        match &mut self.request.goal {
            Goal::Generate(_) => logits.first_mut().is_some_and(|row| self.sample(row)),
            Goal::Evaluate(asking) => {
                hidden.iter().for_each(|row| asking.take_hidden(row));
                for row in logits {
                    match row {
                        Row::Brief { logprobs, .. } => asking.take_logprobs(logprobs),
                        Row::All(row) if tokens.end <= prompt => asking.take_prompt_logits(row),
                        Row::All(row) => asking.take_logits(row),
                    }
                }
                if tokens.end < self.tokens.len() {
                    return false;
                }
                self.first_token.get_or_insert_with(Instant::now);
                self.tokens.truncate(prompt);
                if let Some(next) = asking.next_stage() {
                    self.tokens.extend_from_slice(next);
                    self.computed = prompt;
                    return false;
                }
                let answer = asking.answer();
                self.clock(Instant::now());
                self.request.channel.send(Event::Evaluated(Box::new(answer)), &self.metrics);
                true
            }
        }
    }

    /// Chooses the next token from its logits and tells the caller. `true` when the answer is complete.
    fn sample(&mut self, logits: &mut Row<'_>) -> bool {
        let Goal::Generate(generating) = &mut self.request.goal else { return true };
        let sampled = match logits {
            Row::All(logits) => generating.sampler.sample(logits),
            Row::Brief { best, .. } => generating.sampler.take(*best),
        };
        let token = match sampled {
            Ok(sampled) => TokenInfo { id: sampled.token, logprob: sampled.logprob, top: sampled.top },
            Err(error) => {
                self.fail(error);
                return true;
            }
        };
        let now = Instant::now();
        self.first_token.get_or_insert(now);
        let end = if generating.end_tokens.contains(&token.id) {
            Some(StopReason::EndToken)
        } else if generating.stop_tokens.contains(&token.id) {
            Some(StopReason::Stop)
        } else {
            None
        };
        if let Some(reason) = end {
            self.finish(reason);
            return true;
        }
        self.metrics.generated_tokens += 1;
        let full = self.metrics.generated_tokens as usize >= generating.max_tokens;
        let reason = if generating.until_full { StopReason::ContextFull } else { StopReason::MaxTokens };
        self.tokens.push(token.id);
        self.clock(now);
        self.request.channel.send(Event::Token(token), &self.metrics);
        if full {
            self.finish(reason);
        }
        full
    }

    /// Ends it with a reason.
    pub fn finish(&mut self, reason: StopReason) {
        self.metrics.stop_reason = reason;
        self.clock(Instant::now());
        self.request.channel.send(Event::Done(reason), &self.metrics);
    }

    /// Ends it with an error.
    pub fn fail(&mut self, error: Error) {
        self.metrics.stop_reason = StopReason::Error;
        self.clock(Instant::now());
        self.request.channel.send(Event::Failed(error), &self.metrics);
    }

    /// Brings the time figures up to `now`.
    fn clock(&mut self, now: Instant) {
        let metrics = &mut self.metrics;
        let usage = memory::usage();
        metrics.active_memory = usage.active;
        metrics.peak_memory = metrics.peak_memory.max(usage.active);
        let Some(first) = self.first_token else { return };
        metrics.first_token_seconds = (first - self.request.asked).as_secs_f64();
        metrics.prefill_seconds = (first - self.admitted).as_secs_f64();
        metrics.decode_seconds = (now - first).as_secs_f64();
        let per_second = |tokens: u64, seconds: f64| if seconds > 0.0 { tokens as f64 / seconds } else { 0.0 };
        metrics.prefill_tokens_per_second =
            per_second(metrics.prompt_tokens - metrics.cached_tokens, metrics.prefill_seconds);
        metrics.decode_tokens_per_second =
            per_second(metrics.generated_tokens.saturating_sub(1), metrics.decode_seconds);
    }
}

/// Ends a request that never ran.
pub fn refuse(request: &Submission, ended: Ended) {
    let queue_seconds = request.asked.elapsed().as_secs_f64();
    let reason = match ended {
        Ended::Cancelled => StopReason::Cancelled,
        Ended::Deadline => StopReason::Deadline,
    };
    let prompt_tokens = request.prompt.len() as u64;
    let metrics = Metrics { prompt_tokens, queue_seconds, stop_reason: reason, ..Metrics::default() };
    request.channel.send(Event::Done(reason), &metrics);
}
