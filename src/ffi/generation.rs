//! `gomlx_generation`: one answer, pulled piece by piece, or pushed to a callback.

use std::ffi::c_void;
use std::time::Duration;

use parking_lot::Mutex;

use super::error::{gomlx_error, gomlx_status, gomlx_status_value};
use super::guard;
use super::handle::{self, Kind, Opaque};
use super::input::gomlx_string;
use super::model::gomlx_model;
use super::options::{Out, versioned};
use super::output::Place;
use super::request::{self, gomlx_request};
use crate::engine::error::{Result, fail};
use crate::engine::{Chunk, Generation, Metrics, Step, StopReason};

/// One answer in progress: a pull iterator. One thread at a time may be inside it (another gets `GOMLX_ERR_STATE`);
/// which thread that is may change from call to call. It ends with `GOMLX_ERR_STATE` when its model's last handle is
/// freed, and stays a valid handle until it is freed itself.
pub struct gomlx_generation {
    _private: [u8; 0],
}

/// What a generation handle owns.
pub(super) struct Answer {
    running: Mutex<Running>,
}

struct Running {
    generation: Generation,
    /// What the caller's latest chunk points to.
    chunk: ChunkBuffer,
    /// A call is inside. Still so when the next one comes: a panic left `generation` half-way.
    inside: bool,
}

impl Opaque for gomlx_generation {
    type Value = Answer;
    const KIND: Kind = Kind::Generation;
}

/// Why an answer ended: one of `enum gomlx_stop_reason_value`.
pub type gomlx_stop_reason = i32;

/// The values of `gomlx_stop_reason`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum gomlx_stop_reason_value {
    /// It has not ended.
    GOMLX_STOP_NONE = 0,
    /// The model's own end token.
    GOMLX_STOP_END_TOKEN = 1,
    /// A stop text or stop token of the request.
    GOMLX_STOP_STOP = 2,
    /// `max_tokens` were generated.
    GOMLX_STOP_MAX_TOKENS = 3,
    /// The context is full.
    GOMLX_STOP_CONTEXT_FULL = 4,
    /// Cancelled by the caller.
    GOMLX_STOP_CANCELLED = 5,
    /// The deadline passed.
    GOMLX_STOP_DEADLINE = 6,
    /// It failed; the error said why.
    GOMLX_STOP_ERROR = 7,
}

/// A piece of an answer. What it points to is valid until the next call on its generation, or until the callback
/// returns.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct gomlx_chunk {
    /// `sizeof(gomlx_chunk)`, set by the caller.
    pub struct_size: u32,
    /// Which request of a batch this belongs to; 0 for a single one.
    pub request_index: u32,
    /// Whole UTF-8, NUL-terminated; empty where tokens carry no text of their own.
    pub text: gomlx_string,
    /// The tokens that the text came from, `token_count` of them.
    pub tokens: *const u32,
    /// Their natural log-probabilities under the model; NULL unless the request asks for them.
    pub logprobs: *const f32,
    /// How many tokens.
    pub token_count: usize,
    /// The best tokens at each place, best first: `token_count` rows of `top_count`. NULL unless asked for.
    pub top_tokens: *const u32,
    /// Their natural log-probabilities, in the same order.
    pub top_logprobs: *const f32,
    /// Width of a row: what the request's `logprobs` asked for, at most the vocabulary.
    pub top_count: usize,
}
versioned!(gomlx_chunk);

/// One generation's figures. Seconds are wall-clock; 0 until known.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct gomlx_metrics {
    /// `sizeof(gomlx_metrics)`, set by the caller.
    pub struct_size: u32,
    /// Why it ended.
    pub stop_reason: gomlx_stop_reason,
    /// Tokens of the prompt.
    pub prompt_tokens: u64,
    /// Those of them taken from the prefix cache instead of being computed.
    pub cached_tokens: u64,
    /// Tokens generated.
    pub generated_tokens: u64,
    /// From the request until it was first scheduled.
    pub queue_seconds: f64,
    /// From then until the prompt's last token was computed.
    pub prefill_seconds: f64,
    /// From then until the last token.
    pub decode_seconds: f64,
    /// From the request until the first token was known.
    pub first_token_seconds: f64,
    /// Prompt tokens computed a second of prefill.
    pub prefill_tokens_per_second: f64,
    /// Tokens after the first a second of decode.
    pub decode_tokens_per_second: f64,
    /// Most bytes the library held while this generation ran, other models included.
    pub peak_memory: u64,
    /// Bytes the library held when the figures were taken.
    pub active_memory: u64,
    /// Tokens dropped from the middle because the context was full (`GOMLX_FULL_ROLL`).
    pub rolled_tokens: u64,
}
versioned!(gomlx_metrics);

impl From<Metrics> for gomlx_metrics {
    fn from(metrics: Metrics) -> Self {
        Self {
            struct_size: 0, // the caller's stays
            stop_reason: metrics.stop_reason as i32,
            prompt_tokens: metrics.prompt_tokens,
            cached_tokens: metrics.cached_tokens,
            generated_tokens: metrics.generated_tokens,
            queue_seconds: metrics.queue_seconds,
            prefill_seconds: metrics.prefill_seconds,
            decode_seconds: metrics.decode_seconds,
            first_token_seconds: metrics.first_token_seconds,
            prefill_tokens_per_second: metrics.prefill_tokens_per_second,
            decode_tokens_per_second: metrics.decode_tokens_per_second,
            peak_memory: metrics.peak_memory,
            active_memory: metrics.active_memory,
            rolled_tokens: metrics.rolled_tokens,
        }
    }
}

/// Receives each chunk of `gomlx_generate`, on the thread that called it. 0: go on; anything else: stop. It may call
/// any `gomlx_*` function, and must return: no C++ exception and no `longjmp` may leave it.
pub type gomlx_chunk_fn = Option<unsafe extern "C" fn(chunk: *const gomlx_chunk, user_data: *mut c_void) -> i32>;

/// A chunk's text and tokens as arrays that C can read; reused from chunk to chunk.
#[derive(Default)]
pub(super) struct ChunkBuffer {
    text: Vec<u8>,
    tokens: Vec<u32>,
    logprobs: Vec<f32>,
    top_tokens: Vec<u32>,
    top_logprobs: Vec<f32>,
}

impl ChunkBuffer {
    /// Takes `chunk` over; the view is valid until the next call.
    pub(super) fn hold(&mut self, chunk: &Chunk) -> gomlx_chunk {
        self.text.clear();
        self.text.extend_from_slice(chunk.text.as_bytes());
        self.text.push(0);
        self.tokens.clear();
        self.logprobs.clear();
        self.top_tokens.clear();
        self.top_logprobs.clear();
        let top_count = chunk.tokens.iter().map(|token| token.top.len()).max().unwrap_or(0);
        for token in &chunk.tokens {
            self.tokens.push(token.id);
            self.logprobs.push(token.logprob);
            // Every token has as many; a shorter row would shift all later ones, so it is filled up.
            let row = token.top.iter().copied().chain(std::iter::repeat((u32::MAX, f32::NAN))).take(top_count);
            for (id, logprob) in row {
                self.top_tokens.push(id);
                self.top_logprobs.push(logprob);
            }
        }
        let asked = top_count > 0;
        let (none_u32, none_f32) = (std::ptr::null(), std::ptr::null());
        gomlx_chunk {
            struct_size: size_of::<gomlx_chunk>() as u32,
            request_index: 0,
            text: gomlx_string { data: self.text.as_ptr().cast(), len: self.text.len() - 1 },
            tokens: self.tokens.as_ptr(),
            logprobs: if asked { self.logprobs.as_ptr() } else { none_f32 },
            token_count: self.tokens.len(),
            top_tokens: if asked { self.top_tokens.as_ptr() } else { none_u32 },
            top_logprobs: if asked { self.top_logprobs.as_ptr() } else { none_f32 },
            top_count,
        }
    }
}

impl Running {
    /// One step of the answer, refused after a panic left it half-way.
    fn next(&mut self, timeout: Option<Duration>) -> Result<Step> {
        if std::mem::replace(&mut self.inside, true) {
            fail!(State, "an earlier call ended in a defect; free the generation")
        }
        let step = self.generation.next(timeout);
        self.inside = false;
        step
    }
}

/// Starts the answer that `request` describes. It is computed from now on, whether or not anybody asks for chunks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gomlx_generation_start(
    model: *const gomlx_model,
    request: *const gomlx_request,
    out_generation: *mut *mut gomlx_generation,
    error: *mut gomlx_error,
) -> gomlx_status {
    guard::status(error, || {
        let owned = handle::get_here(model)?;
        let out = Place::new("out_generation", out_generation)?;
        let generation = owned.model.generate(request::read(request)?.to_engine()?)?;
        let running = Mutex::new(Running { generation, chunk: ChunkBuffer::default(), inside: false });
        out.write(handle::give(Answer { running }));
        Ok(())
    })
}

/// The next piece of the answer. Waits at most `timeout_ms` milliseconds (0: not at all; below 0: until there is one).
/// `GOMLX_OK`: a chunk was written. `GOMLX_DONE`: the answer is complete. `GOMLX_PENDING`: nothing yet. Or an error:
/// `GOMLX_ERR_CANCELLED`, `GOMLX_ERR_DEADLINE`, …. After the end every call says the same again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gomlx_generation_next(
    generation: *mut gomlx_generation,
    timeout_ms: i32,
    out_chunk: *mut gomlx_chunk,
    error: *mut gomlx_error,
) -> gomlx_status {
    guard::code(error, || {
        let answer = handle::get_here(generation)?;
        let out = Out::new(out_chunk)?;
        let Some(mut running) = answer.running.try_lock() else { fail!(State, "{INSIDE}") };
        let step = running.next(u64::try_from(timeout_ms).ok().map(Duration::from_millis))?;
        if answer.is_freed() {
            fail!(State, "the generation was freed by another thread during this call")
        }
        Ok(match step {
            Step::Chunk(chunk) => {
                out.write(running.chunk.hold(&chunk));
                gomlx_status_value::GOMLX_OK as i32
            }
            Step::Pending => gomlx_status_value::GOMLX_PENDING as i32,
            Step::Done(_) => gomlx_status_value::GOMLX_DONE as i32,
        })
    })
}

const INSIDE: &str = "another thread is inside this generation";

/// The figures so far, complete once the answer is. One thread at a time, as for `gomlx_generation_next`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gomlx_generation_metrics(
    generation: *mut gomlx_generation,
    out_metrics: *mut gomlx_metrics,
    error: *mut gomlx_error,
) -> gomlx_status {
    guard::status(error, || {
        let answer = handle::get_here(generation)?;
        let out = Out::new(out_metrics)?;
        let Some(running) = answer.running.try_lock() else { fail!(State, "{INSIDE}") };
        out.write(running.generation.metrics().into());
        Ok(())
    })
}

/// Stops an answer, if it is not complete, and takes it back. NULL is ignored.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gomlx_generation_free(generation: *mut gomlx_generation) {
    guard::value((), || {
        handle::free(generation);
        Ok(())
    });
}

/// Computes a whole answer, handing each chunk to `on_chunk` on the calling thread. When the callback stops it, the
/// call still returns `GOMLX_OK` and the metrics' stop reason is `GOMLX_STOP_CANCELLED`. `user_data` is passed on as
/// it is. `out_metrics` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gomlx_generate(
    model: *const gomlx_model,
    request: *const gomlx_request,
    on_chunk: gomlx_chunk_fn,
    user_data: *mut c_void,
    out_metrics: *mut gomlx_metrics,
    error: *mut gomlx_error,
) -> gomlx_status {
    guard::status(error, || {
        let owned = handle::get_here(model)?;
        let out = Out::nullable(out_metrics)?;
        let Some(on_chunk) = on_chunk else { fail!(Argument, "on_chunk is NULL") };
        let mut generation = owned.model.generate(request::read(request)?.to_engine()?)?;
        let mut buffer = ChunkBuffer::default();
        let mut stopped = false;
        loop {
            match generation.next(None)? {
                Step::Done(_) => break,
                Step::Pending => continue,
                Step::Chunk(chunk) => {
                    let view = buffer.hold(&chunk);
                    // SAFETY: the caller's function, given what its type says; `view` and what it points to live on.
                    stopped = unsafe { on_chunk(&view, user_data) } != 0;
                }
            }
            if stopped {
                generation.cancel();
                break;
            }
        }
        let mut metrics = generation.metrics();
        if stopped {
            metrics.stop_reason = StopReason::Cancelled;
        }
        if let Some(out) = out {
            out.write(metrics.into());
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stop_reasons_are_the_engines() {
        use gomlx_stop_reason_value::*;
        let pairs = [
            (GOMLX_STOP_NONE, StopReason::None),
            (GOMLX_STOP_END_TOKEN, StopReason::EndToken),
            (GOMLX_STOP_STOP, StopReason::Stop),
            (GOMLX_STOP_MAX_TOKENS, StopReason::MaxTokens),
            (GOMLX_STOP_CONTEXT_FULL, StopReason::ContextFull),
            (GOMLX_STOP_CANCELLED, StopReason::Cancelled),
            (GOMLX_STOP_DEADLINE, StopReason::Deadline),
            (GOMLX_STOP_ERROR, StopReason::Error),
        ];
        for (ours, theirs) in pairs {
            assert_eq!(ours as i32, theirs as i32, "{theirs:?}");
        }
    }
}
