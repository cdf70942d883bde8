//! What a caller asks for, and what comes back.

use std::time::Duration;

use super::control::Control;
use super::sampling::Sampling;
use super::text::Message;

/// What the answer continues.
#[derive(Clone, Debug)]
pub enum Prompt {
    /// Text, encoded with the tokenizer's own beginning (BOS where the model has one).
    Text(String),
    /// Token ids, used as they are.
    Tokens(Vec<u32>),
    /// A conversation, rendered by the model's chat template.
    Chat(Chat),
}

/// A conversation and what its template may want to know.
#[derive(Clone, Debug, Default)]
pub struct Chat {
    /// The turns so far.
    pub messages: Vec<Message>,
    /// More template variables as one JSON object (`tools`, `enable_thinking`, …), or `None`.
    pub variables: Option<serde_json::Map<String, serde_json::Value>>,
    /// Leaves the last message open, so that the answer continues it, instead of opening the assistant's turn.
    pub continue_final: bool,
}

/// What happens when prompt and answer fill the context.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenFull {
    /// The answer ends with [`StopReason::ContextFull`].
    #[default]
    Stop,
    /// The beginning is kept, of the rest the older half is dropped, and the answer goes on as if what is left had been
    /// the prompt: it is computed again (its beginning comes from the prefix cache).
    Roll {
        /// Tokens of the beginning to keep, at most half the context; `None`: the prompt, as far as that goes.
        keep: Option<usize>,
    },
}

/// One request for text.
#[derive(Clone, Debug)]
pub struct Request {
    /// What the answer continues.
    pub prompt: Prompt,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Most tokens to generate; `None`: until the context is full, or without end where it rolls.
    pub max_tokens: Option<usize>,
    /// What happens when prompt and answer fill the context.
    pub when_full: WhenFull,
    /// Texts that end the answer; never part of it.
    pub stop: Vec<String>,
    /// Tokens that end the answer, beside the model's own.
    pub stop_tokens: Vec<u32>,
    /// Goes on past the model's own end tokens (for measurements).
    pub ignore_end: bool,
    /// Special tokens show in the text.
    pub special_in_text: bool,
    /// The prompt's text comes back as the first chunk.
    pub echo: bool,
    /// Fails with `Deadline` when the answer takes longer, waiting included.
    pub deadline: Option<Duration>,
    /// Admitted before requests of lower priority; equals are first come, first served.
    pub priority: i32,
    /// Progress (prompt tokens computed) and a way to stop.
    pub control: Option<Control>,
}

impl Request {
    /// Greedy continuation of `prompt` until the model ends or the context is full.
    pub fn new(prompt: Prompt) -> Self {
        Self {
            prompt,
            sampling: Sampling::default(),
            max_tokens: None,
            when_full: WhenFull::Stop,
            stop: Vec::new(),
            stop_tokens: Vec::new(),
            ignore_end: false,
            special_in_text: false,
            echo: false,
            deadline: None,
            priority: 0,
            control: None,
        }
    }
}

/// One generated token.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenInfo {
    /// Its id.
    pub id: u32,
    /// Its natural log-probability under the model, before temperature and filters; NaN where not asked for.
    pub logprob: f32,
    /// The most probable tokens at its place with their log-probabilities, best first, as many as asked for.
    pub top: Vec<(u32, f32)>,
}

/// A piece of the answer: whole UTF-8 and the tokens it came from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Chunk {
    /// Text; may be empty when tokens carry none (log-probabilities are then still reported).
    pub text: String,
    /// The tokens this text came from, in order.
    pub tokens: Vec<TokenInfo>,
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(i32)]
pub enum StopReason {
    /// It has not ended.
    #[default]
    None = 0,
    /// The model's own end token.
    EndToken = 1,
    /// A stop text or stop token of the request.
    Stop = 2,
    /// `max_tokens` were generated.
    MaxTokens = 3,
    /// The context is full.
    ContextFull = 4,
    /// Cancelled by the caller.
    Cancelled = 5,
    /// The deadline passed.
    Deadline = 6,
    /// It failed; the error says why.
    Error = 7,
}

/// One generation's figures. Seconds are wall-clock; zero until known.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Metrics {
    /// Tokens of the prompt.
    pub prompt_tokens: u64,
    /// Those of them taken from the prefix cache instead of being computed.
    pub cached_tokens: u64,
    /// Tokens dropped from the middle because the context was full.
    pub rolled_tokens: u64,
    /// Tokens generated and handed over.
    pub generated_tokens: u64,
    /// From the start of the request until its first token was scheduled.
    pub queue_seconds: f64,
    /// From then until the prompt's last token was computed.
    pub prefill_seconds: f64,
    /// From then until the last token.
    pub decode_seconds: f64,
    /// From the start of the request until the first token was known.
    pub first_token_seconds: f64,
    /// Prompt tokens computed a second of prefill.
    pub prefill_tokens_per_second: f64,
    /// Tokens after the first a second of decode.
    pub decode_tokens_per_second: f64,
    /// Why it ended.
    pub stop_reason: StopReason,
    /// Most bytes the library held while this generation ran, other models included.
    pub peak_memory: u64,
    /// Bytes the library held when the figures were taken.
    pub active_memory: u64,
}
