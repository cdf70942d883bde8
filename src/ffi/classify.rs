//! Questions about texts without generation: `gomlx_classify`, `gomlx_score`, `gomlx_embed`.

use std::time::Duration;

use super::control::{self, gomlx_control};
use super::error::{gomlx_error, gomlx_status};
use super::guard;
use super::handle;
use super::input::{self, gomlx_string};
use super::model::gomlx_model;
use super::options::{self, choose, versioned};
use super::output::Buffer;
use super::request::{self, gomlx_message, gomlx_request};
use crate::engine::Chat;
use crate::engine::classify::{Classification, ClassifyRequest, ClassifyTemplate, Pooling};
use crate::engine::error::{Result, fail};

/// Switches of a classification: any of `enum gomlx_classify_flag`, or'ed.
pub type gomlx_classify_flags = u32;

/// The bits of `gomlx_classify_flags`.
#[repr(C)]
pub enum gomlx_classify_flag {
    /// Only the winner must be known exactly, which is quicker where labels have several tokens: each other label's
    /// log-probability may be an upper bound, and probabilities are relative to those.
    GOMLX_CLASSIFY_BEST_ONLY = 1,
}

/// Which of several labels fits each of many texts. `gomlx_classify_request_init` fills the defaults; then set either
/// `pattern` or `messages`, `texts` and `labels`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct gomlx_classify_request {
    /// `sizeof(gomlx_classify_request)`.
    pub struct_size: u32,
    /// Any of `enum gomlx_classify_flag`, or'ed.
    pub flags: gomlx_classify_flags,
    /// Plain text around `{text}`, which stands in it once: `Sentence: {text}\nDomain:`.
    pub pattern: gomlx_string,
    /// Or a conversation whose contents hold `{text}` once, rendered by the model's chat template.
    pub messages: *const gomlx_message,
    /// How many.
    pub message_count: usize,
    /// The texts.
    pub texts: *const gomlx_string,
    /// How many.
    pub text_count: usize,
    /// The answers to choose from, as they would follow the prompt: mind a leading space.
    pub labels: *const gomlx_string,
    /// How many.
    pub label_count: usize,
    /// Fails with `GOMLX_ERR_DEADLINE` when all of it takes longer; 0 (the default): no limit.
    pub deadline_ms: u64,
    /// Stops it and shows how many texts are done. May be NULL.
    pub control: *const gomlx_control,
}
versioned!(gomlx_classify_request);

/// One text's result. This struct never grows.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct gomlx_classification {
    /// The most probable label's index; the first of equals.
    pub label: u32,
    /// Tokens of its prompt.
    pub prompt_tokens: u32,
    /// Natural log-probability of that label's tokens after the prompt.
    pub logprob: f32,
    /// Its probability among the labels.
    pub probability: f32,
}

/// How a text's hidden states become one vector: one of `enum gomlx_pooling_value`.
pub type gomlx_pooling = i32;

/// The values of `gomlx_pooling`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum gomlx_pooling_value {
    /// The mean over all tokens.
    GOMLX_POOLING_MEAN = 0,
    /// The last token's.
    GOMLX_POOLING_LAST = 1,
}

const DEFAULTS: gomlx_classify_request = gomlx_classify_request {
    struct_size: size_of::<gomlx_classify_request>() as u32,
    flags: 0,
    pattern: gomlx_string::EMPTY,
    messages: std::ptr::null(),
    message_count: 0,
    texts: std::ptr::null(),
    text_count: 0,
    labels: std::ptr::null(),
    label_count: 0,
    deadline_ms: 0,
    control: std::ptr::null(),
};

impl gomlx_classify_request {
    fn to_engine(self, logits: bool) -> Result<ClassifyRequest> {
        let best_only = gomlx_classify_flag::GOMLX_CLASSIFY_BEST_ONLY as u32;
        if self.flags & !best_only != 0 {
            fail!(Argument, "flags: unknown bits {:#x}", self.flags & !best_only)
        }
        let template = match (self.pattern.len > 0, self.message_count > 0) {
            (true, false) => ClassifyTemplate::Text(self.pattern.text("pattern")?.to_owned()),
            (false, true) => {
                let messages = request::plain_messages(self.messages, self.message_count)?;
                ClassifyTemplate::Chat(Chat { messages, ..Chat::default() })
            }
            (false, false) => fail!(Argument, "neither pattern nor messages are given"),
            (true, true) => fail!(Argument, "both pattern and messages are given"),
        };
        Ok(ClassifyRequest {
            template,
            texts: input::texts("texts", self.texts, self.text_count)?,
            labels: input::texts("labels", self.labels, self.label_count)?,
            best_only: self.flags & best_only != 0,
            logits,
            deadline: (self.deadline_ms != 0).then(|| Duration::from_millis(self.deadline_ms)),
            control: control::nullable(self.control)?,
        })
    }
}

/// Fills `out_request`, declared `struct_size` bytes long by the caller (`sizeof *out_request`), with the defaults.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gomlx_classify_request_init(
    out_request: *mut gomlx_classify_request,
    struct_size: usize,
    error: *mut gomlx_error,
) -> gomlx_status {
    guard::status(error, || options::init(out_request, struct_size, DEFAULTS))
}

/// Labels every text of `request`, in prefill only, each as it would be alone. `out_results` takes one entry a text;
/// `GOMLX_ERR_BUFFER` when `capacity` is less. The other outputs may be NULL: `out_logprobs` and `out_probabilities`
/// are `text_count` rows of `label_count` (each row of probabilities sums to one), `out_logits` is `text_count` rows of
/// the model's vocabulary: the logits of the token after each prompt. Nothing is written unless all texts succeed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gomlx_classify(
    model: *const gomlx_model,
    request: *const gomlx_classify_request,
    out_results: *mut gomlx_classification,
    capacity: usize,
    out_logprobs: *mut f32,
    out_probabilities: *mut f32,
    out_logits: *mut f32,
    error: *mut gomlx_error,
) -> gomlx_status {
    guard::status(error, || {
        let owned = handle::get_here(model)?;
        let request = options::read(request, DEFAULTS)?;
        let (texts, labels) = (request.text_count, request.label_count);
        let asked = request.to_engine(!out_logits.is_null())?;
        let vocabulary = owned.model.info().vocabulary;
        let results = Buffer::new("out_results", out_results, capacity, texts)?;
        let logprobs = Buffer::nullable("out_logprobs", out_logprobs, texts.saturating_mul(labels))?;
        let probabilities = Buffer::nullable("out_probabilities", out_probabilities, texts.saturating_mul(labels))?;
        let logits = Buffer::nullable("out_logits", out_logits, texts.saturating_mul(vocabulary))?;
        for (at, result) in owned.model.classify(&asked)?.iter().enumerate() {
            results.write(at, &[view(result)]);
            if let Some(buffer) = &logprobs {
                buffer.write(at * labels, &result.logprobs);
            }
            if let Some(buffer) = &probabilities {
                buffer.write(at * labels, &result.probabilities);
            }
            if let Some(buffer) = &logits {
                buffer.write(at * vocabulary, &result.logits);
            }
        }
        Ok(())
    })
}

fn view(result: &Classification) -> gomlx_classification {
    gomlx_classification {
        label: result.label as u32,
        prompt_tokens: u32::try_from(result.prompt_tokens).unwrap_or(u32::MAX),
        logprob: result.logprobs[result.label],
        probability: result.probabilities[result.label],
    }
}

/// Log-probability of each of `count` continuations after the prompt of `request` (of which only the prompt and the
/// control are looked at). Each is tokenized by itself. `out_logprobs` takes `count` sums over a continuation's tokens;
/// `out_token_counts`, which may be NULL, how many tokens that were.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gomlx_score(
    model: *const gomlx_model,
    request: *const gomlx_request,
    continuations: *const gomlx_string,
    count: usize,
    out_logprobs: *mut f32,
    out_token_counts: *mut u32,
    error: *mut gomlx_error,
) -> gomlx_status {
    guard::status(error, || {
        let owned = handle::get_here(model)?;
        let request = request::read(request)?;
        let continuations = input::texts("continuations", continuations, count)?;
        let logprobs = Buffer::new("out_logprobs", out_logprobs, count, count)?;
        let counts = Buffer::nullable("out_token_counts", out_token_counts, count)?;
        let control = control::nullable(request.control)?;
        let scores = owned.model.score(&request.prompt()?, &continuations, control)?;
        for (at, tokens) in scores.iter().enumerate() {
            logprobs.write(at, &[tokens.iter().sum()]);
            if let Some(counts) = &counts {
                counts.write(at, &[tokens.len() as u32]);
            }
        }
        Ok(())
    })
}

/// One vector of length one for each of `count` texts: the hidden states after the last norm, pooled. `out_vectors`
/// takes `count` rows of the model's `hidden` width; `GOMLX_ERR_BUFFER` when `capacity` (in floats) is less. `control`
/// may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gomlx_embed(
    model: *const gomlx_model,
    texts: *const gomlx_string,
    count: usize,
    pooling: gomlx_pooling,
    control: *const gomlx_control,
    out_vectors: *mut f32,
    capacity: usize,
    error: *mut gomlx_error,
) -> gomlx_status {
    guard::status(error, || {
        let owned = handle::get_here(model)?;
        let texts = input::texts("texts", texts, count)?;
        let hidden = owned.model.info().hidden;
        let vectors = Buffer::new("out_vectors", out_vectors, capacity, count.saturating_mul(hidden))?;
        let pooling = choose!("pooling", pooling,
            gomlx_pooling_value::GOMLX_POOLING_MEAN => Pooling::Mean,
            gomlx_pooling_value::GOMLX_POOLING_LAST => Pooling::Last,
        )?;
        for (at, vector) in owned.model.embed(&texts, pooling, control::nullable(control)?)?.iter().enumerate() {
            vectors.write(at * hidden, vector);
        }
        Ok(())
    })
}
