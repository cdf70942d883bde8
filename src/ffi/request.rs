//! `gomlx_request`: what to continue, how to choose tokens, when to stop.

use std::time::Duration;

use super::control::{self, gomlx_control};
use super::error::{gomlx_error, gomlx_status};
use super::guard;
use super::input::{self, gomlx_string};
use super::options::{self, choose, versioned};
use crate::engine::error::{Result, error, fail};
use crate::engine::sampling::Sampling;
use crate::engine::text::Message;
use crate::engine::{Chat, Prompt, Request, WhenFull};

/// One turn of a conversation. This struct never grows: turns with more fields go through `messages_json`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct gomlx_message {
    /// Who speaks: `system`, `user`, `assistant`, or whatever else the model's template knows.
    pub role: gomlx_string,
    /// What is said.
    pub content: gomlx_string,
}

/// A number added to one token's logit before it is sampled. This struct never grows.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct gomlx_logit_bias {
    /// The token.
    pub token: u32,
    /// Added to its logit; minus infinity bans it.
    pub bias: f32,
}

/// Switches of a request: any of `enum gomlx_request_flag`, or'ed.
pub type gomlx_request_flags = u32;

/// The bits of `gomlx_request_flags`.
#[repr(C)]
pub enum gomlx_request_flag {
    /// `seed` is used; without it each request draws its own.
    GOMLX_REQUEST_SEED = 1,
    /// Goes on past the model's own end tokens: for measurements.
    GOMLX_REQUEST_IGNORE_END = 2,
    /// Special tokens show in the text.
    GOMLX_REQUEST_SPECIAL_IN_TEXT = 4,
    /// The prompt's text comes back as the first chunk.
    GOMLX_REQUEST_ECHO = 8,
    /// The last message is left open and the answer continues it, instead of opening the assistant's turn.
    GOMLX_REQUEST_CONTINUE_FINAL = 16,
}

/// What happens when prompt and answer fill the context: one of `enum gomlx_when_full_value`.
pub type gomlx_when_full = i32;

/// The values of `gomlx_when_full`.
#[repr(C)]
pub enum gomlx_when_full_value {
    /// The answer ends with `GOMLX_STOP_CONTEXT_FULL`.
    GOMLX_FULL_STOP = 0,
    /// The first `keep_tokens` tokens are kept, of the others the older half is dropped, and the answer goes on as if
    /// what is left had been the prompt. It is computed again for that, but for what the prefix cache has of it.
    GOMLX_FULL_ROLL = 1,
}

/// One request for text. `gomlx_request_init` fills the defaults; then set exactly one of `prompt`, `tokens`,
/// `messages` and `messages_json`. Nothing it points to is needed after the call that it was given to.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct gomlx_request {
    /// `sizeof(gomlx_request)`.
    pub struct_size: u32,
    /// Switches.
    pub flags: gomlx_request_flags,
    /// Text to continue, encoded with the tokenizer's own beginning (BOS where the model has one).
    pub prompt: gomlx_string,
    /// Token ids to continue, used as they are.
    pub tokens: *const u32,
    /// How many.
    pub token_count: usize,
    /// A conversation, rendered by the model's chat template.
    pub messages: *const gomlx_message,
    /// How many.
    pub message_count: usize,
    /// The same as a JSON array of objects, for templates that read more than role and content.
    pub messages_json: gomlx_string,
    /// More template variables as one JSON object (`tools`, `enable_thinking`, …); empty for none.
    pub template_variables: gomlx_string,
    /// Most tokens to generate, at least 1; `UINT32_MAX` (the default): until the context is full, or without end where
    /// it rolls.
    pub max_tokens: u32,
    /// Admitted before requests of lower priority; equals are first come, first served. Default 0.
    pub priority: i32,
    /// 0 (the default) takes the most probable token every time; 1 samples as the model says.
    pub temperature: f32,
    /// Samples among the `top_k` most probable tokens; 0 (the default): among all.
    pub top_k: u32,
    /// Samples among the most probable tokens that together have this probability; 1 (the default): among all.
    pub top_p: f32,
    /// Leaves out tokens less probable than this part of the best one's probability; default 0.
    pub min_p: f32,
    /// Locally typical sampling: the most typical tokens that together have this probability; 1 (the default): all.
    pub typical_p: f32,
    /// Divides the logits of tokens seen before (multiplies negative ones); 1 (the default) changes nothing.
    pub repetition_penalty: f32,
    /// Subtracted from the logits of tokens generated before; default 0.
    pub presence_penalty: f32,
    /// Subtracted as many times as the token was generated before; default 0.
    pub frequency_penalty: f32,
    /// Latest tokens that the penalties look at; 0 (the default): all of them.
    pub penalty_window: u32,
    /// Reports, with each token, its log-probability and those of as many best ones; 0 (the default): none.
    pub logprobs: u32,
    /// Same seed, same text: used with `GOMLX_REQUEST_SEED`.
    pub seed: u64,
    /// Numbers added to the logits of single tokens.
    pub logit_bias: *const gomlx_logit_bias,
    /// How many.
    pub logit_bias_count: usize,
    /// Texts that end the answer; none of them, nor the beginning of one, is ever part of it.
    pub stop: *const gomlx_string,
    /// How many.
    pub stop_count: usize,
    /// Tokens that end the answer, beside the model's own.
    pub stop_tokens: *const u32,
    /// How many.
    pub stop_token_count: usize,
    /// Fails with `GOMLX_ERR_DEADLINE` when the answer takes longer, waiting included; 0 (the default): no limit.
    pub deadline_ms: u64,
    /// Stops the answer and shows how much of the prompt is computed. May be NULL.
    pub control: *const gomlx_control,
    /// What happens when prompt and answer fill the context. The prompt alone must fit it in any case.
    pub when_full: gomlx_when_full,
    /// With `GOMLX_FULL_ROLL`: tokens of the beginning to keep, at most half the context; 0 (the default): the prompt, as
    /// far as that goes.
    pub keep_tokens: u32,
}
versioned!(gomlx_request);

/// The defaults: [`Request::new`]'s and [`Sampling::default`]'s.
fn defaults() -> gomlx_request {
    let sampling = Sampling::default();
    gomlx_request {
        struct_size: size_of::<gomlx_request>() as u32,
        flags: 0,
        prompt: gomlx_string::EMPTY,
        tokens: std::ptr::null(),
        token_count: 0,
        messages: std::ptr::null(),
        message_count: 0,
        messages_json: gomlx_string::EMPTY,
        template_variables: gomlx_string::EMPTY,
        max_tokens: u32::MAX,
        priority: 0,
        temperature: sampling.temperature,
        top_k: sampling.top_k,
        top_p: sampling.top_p,
        min_p: sampling.min_p,
        typical_p: sampling.typical_p,
        repetition_penalty: sampling.repetition_penalty,
        presence_penalty: sampling.presence_penalty,
        frequency_penalty: sampling.frequency_penalty,
        penalty_window: sampling.penalty_window,
        logprobs: sampling.logprobs,
        seed: 0,
        logit_bias: std::ptr::null(),
        logit_bias_count: 0,
        stop: std::ptr::null(),
        stop_count: 0,
        stop_tokens: std::ptr::null(),
        stop_token_count: 0,
        deadline_ms: 0,
        control: std::ptr::null(),
        when_full: gomlx_when_full_value::GOMLX_FULL_STOP as i32,
        keep_tokens: 0,
    }
}

/// The caller's request, as far as its header knows it, over the defaults.
pub(super) fn read(request: *const gomlx_request) -> Result<gomlx_request> {
    let request = options::read(request, defaults())?;
    let known = (gomlx_request_flag::GOMLX_REQUEST_CONTINUE_FINAL as u32 * 2) - 1;
    if request.flags & !known != 0 {
        fail!(Argument, "flags: unknown bits {:#x}", request.flags & !known)
    }
    Ok(request)
}

impl gomlx_request {
    fn has(&self, flag: gomlx_request_flag) -> bool {
        self.flags & flag as u32 != 0
    }

    /// The engine's request. Copies everything that the caller points to.
    pub(super) fn to_engine(self) -> Result<Request> {
        Ok(Request {
            prompt: self.prompt()?,
            sampling: self.sampling()?,
            max_tokens: (self.max_tokens != u32::MAX).then_some(self.max_tokens as usize),
            when_full: self.when_full()?,
            stop: input::texts("stop", self.stop, self.stop_count)?,
            stop_tokens: input::array("stop_tokens", self.stop_tokens, self.stop_token_count)?.to_vec(),
            ignore_end: self.has(gomlx_request_flag::GOMLX_REQUEST_IGNORE_END),
            special_in_text: self.has(gomlx_request_flag::GOMLX_REQUEST_SPECIAL_IN_TEXT),
            echo: self.has(gomlx_request_flag::GOMLX_REQUEST_ECHO),
            deadline: (self.deadline_ms != 0).then(|| Duration::from_millis(self.deadline_ms)),
            priority: self.priority,
            control: control::nullable(self.control)?,
        })
    }

    fn when_full(&self) -> Result<WhenFull> {
        let keep = (self.keep_tokens != 0).then_some(self.keep_tokens as usize);
        choose!("when_full", self.when_full,
            gomlx_when_full_value::GOMLX_FULL_STOP => WhenFull::Stop,
            gomlx_when_full_value::GOMLX_FULL_ROLL => WhenFull::Roll { keep },
        )
    }

    /// What the request continues.
    pub(super) fn prompt(&self) -> Result<Prompt> {
        let given = [self.prompt.len, self.token_count, self.message_count, self.messages_json.len];
        match given.map(|len| len > 0) {
            [true, false, false, false] => Ok(Prompt::Text(self.prompt.text("prompt")?.to_owned())),
            [false, true, false, false] => {
                Ok(Prompt::Tokens(input::array("tokens", self.tokens, self.token_count)?.to_vec()))
            }
            [false, false, _, _] => Ok(Prompt::Chat(self.chat()?)),
            _ => fail!(Argument, "more than one of prompt, tokens, messages and messages_json is given"),
        }
    }

    /// The conversation of the request.
    pub(super) fn chat(&self) -> Result<Chat> {
        let messages = match (self.message_count > 0, self.messages_json.len > 0) {
            (true, false) => plain_messages(self.messages, self.message_count)?,
            (false, true) => Message::list_from_json(self.messages_json.text("messages_json")?)?,
            (true, true) => fail!(Argument, "both messages and messages_json are given"),
            (false, false) => fail!(Argument, "the prompt is empty: no text, no tokens, no messages"),
        };
        let variables = match self.template_variables.text("template_variables")? {
            "" => None,
            json => Some(serde_json::from_str(json).map_err(|e| error!(Argument, "template_variables: {e}"))?),
        };
        Ok(Chat { messages, variables, continue_final: self.has(gomlx_request_flag::GOMLX_REQUEST_CONTINUE_FINAL) })
    }

    fn sampling(&self) -> Result<Sampling> {
        let biases = input::array("logit_bias", self.logit_bias, self.logit_bias_count)?;
        Ok(Sampling {
            temperature: self.temperature,
            top_k: self.top_k,
            top_p: self.top_p,
            min_p: self.min_p,
            typical_p: self.typical_p,
            repetition_penalty: self.repetition_penalty,
            presence_penalty: self.presence_penalty,
            frequency_penalty: self.frequency_penalty,
            penalty_window: self.penalty_window,
            logit_bias: biases.iter().map(|entry| (entry.token, entry.bias)).collect(),
            seed: self.has(gomlx_request_flag::GOMLX_REQUEST_SEED).then_some(self.seed),
            logprobs: self.logprobs,
        })
    }
}

/// The turns of an array of `gomlx_message`.
pub(super) fn plain_messages(messages: *const gomlx_message, count: usize) -> Result<Vec<Message>> {
    let turns = input::array("messages", messages, count)?;
    let turn = |(at, turn): (usize, &gomlx_message)| {
        let role = turn.role.text("role").map_err(|e| e.at(format_args!("messages[{at}]")))?;
        let content = turn.content.text("content").map_err(|e| e.at(format_args!("messages[{at}]")))?;
        Ok(Message::new(role, content))
    };
    turns.iter().enumerate().map(turn).collect()
}

/// Fills `out_request`, declared `struct_size` bytes long by the caller (`sizeof *out_request`), with the defaults.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gomlx_request_init(
    out_request: *mut gomlx_request,
    struct_size: usize,
    error: *mut gomlx_error,
) -> gomlx_status {
    guard::status(error, || options::init(out_request, struct_size, defaults()))
}
