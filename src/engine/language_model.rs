//! A loaded model: what every caller in the process shares.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use super::backend::{Description, KvType};
use super::error::{Result, error, fail};
use super::generation::Generation;
use super::model::load::{self, LoadOptions, LoadedModel, ModelSummary};
use super::options::{BackendChoice, ModelOptions, Precision};
use super::request::{Chat, Prompt, Request, WhenFull};
use super::residence::Residence;
use super::sampling::Sampler;
use super::scheduler::{Channel, Generating, Goal, Limits, Roll, Submission};
use super::text::{ChatTemplate, Detokenizer, RenderOptions, StopMatcher, Tokenizer};
use super::weights::DType;
use super::{logging, memory, runtime, trace};

/// What a model is, for people and for choosing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ModelInfo {
    /// The folder's name (or the repository's in a Hugging Face cache).
    pub name: String,
    /// Where it was loaded from.
    pub path: PathBuf,
    /// `architectures[0]` of its config.
    pub architecture: String,
    /// `model_type`.
    pub family: String,
    /// Weights, embeddings counted once, quantised ones as what they stand for.
    pub parameters: u64,
    /// Decoder layers.
    pub layers: usize,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Rows of the embedding table.
    pub vocabulary: usize,
    /// Positions it was made for.
    pub context: usize,
    /// Positions a sequence may take here; 0 where it is not loaded.
    pub context_length: usize,
    /// Bits of most quantised weights; 0 where none are.
    pub quantisation_bits: u32,
    /// Weights that share a scale; 0 where none are quantised.
    pub quantisation_group: u32,
    /// `affine`, or empty.
    pub quantisation_mode: String,
    /// Element type of the unquantised weights: `bf16`, `f16`, `f32`.
    pub dtype: String,
    /// Size of the weight files.
    pub bytes_on_disk: u64,
    /// Whether `render_chat` and chat prompts work.
    pub has_chat_template: bool,
    /// What computes it, once it is loaded.
    pub device: Option<Description>,
}

impl ModelInfo {
    /// What a checkpoint's summary says; what only loading decides stays empty.
    pub(super) fn of(summary: &ModelSummary, has_chat_template: bool) -> Self {
        let quantisation = summary.quantisation.as_ref();
        Self {
            name: summary.name.clone(),
            path: summary.dir.clone(),
            architecture: summary.architecture.clone(),
            family: summary.family.to_string(),
            parameters: summary.parameters,
            layers: summary.layers,
            hidden: summary.hidden,
            vocabulary: summary.vocab,
            context: summary.context,
            context_length: 0,
            quantisation_bits: quantisation.map_or(0, |q| q.bits),
            quantisation_group: quantisation.map_or(0, |q| q.group as u32),
            quantisation_mode: quantisation.map_or(String::new(), |q| q.mode.to_string()),
            dtype: summary.dtype.name().to_string(),
            bytes_on_disk: summary.bytes_on_disk,
            has_chat_template,
            device: None,
        }
    }
}

/// A model that generates. Clones share it; [`close`](Self::close) or the last one's drop ends its generations and joins
/// its threads.
#[derive(Clone)]
pub struct Model(Arc<Inner>);

struct Inner {
    residence: Residence,
    tokenizer: Tokenizer,
    template: ChatTemplate,
    info: ModelInfo,
    end_tokens: Vec<u32>,
    /// Questions of one call that wait or run at once.
    in_flight: usize,
}

/// The longest context taken without being asked for.
const DEFAULT_CONTEXT: usize = 8192;

impl Model {
    /// Loads the model in folder `path`. Blocks until it can generate; `options.control` reports progress and cancels.
    pub fn load(path: &Path, options: &ModelOptions) -> Result<Model> {
        logging::init();
        trace::init();
        let _span = trace::span("load", &[]);
        let began = Instant::now();
        let backend = choose(options)?;
        let control = options.control.clone().unwrap_or_default();
        let reading = LoadOptions { weights: options.weights, control: Some(control.clone()) };
        let (loaded, tokenizer) = read(path, &reading)?;
        let template = ChatTemplate::from_dir(&loaded.summary.dir, &tokenizer)?;
        control.check()?;
        let limits = limits(&loaded, options, backend)?;
        let mut info = ModelInfo::of(&loaded.summary, template.exists());
        info.context_length = limits.context;
        let end_tokens = loaded.summary.eos.clone();
        // As many as run, so that the next step finds them waiting; the other half of the queue is for others.
        let in_flight = limits.questions().saturating_add(limits.queue / 2);
        let (residence, device) = Residence::found(path, loaded, options, backend, limits, control)?;
        info.device = device;
        log::info!("loaded {} in {:.3} s: {:?}", info.path.display(), began.elapsed().as_secs_f64(), info.device);
        Ok(Model(Arc::new(Inner { residence, tokenizer, template, info, end_tokens, in_flight })))
    }

    /// What it is.
    pub fn info(&self) -> &ModelInfo {
        &self.0.info
    }

    /// Ends everything that runs or waits on this model, for all its clones, with `State`, and returns when nothing
    /// computes any more and its memory is given back. Requests that come later get `State`, too.
    pub fn close(&self) {
        self.0.residence.close();
    }

    /// Text to token ids; `add_special` adds what the tokenizer puts around a text (BOS).
    pub fn tokenize(&self, text: &str, add_special: bool) -> Result<Vec<u32>> {
        self.0.tokenizer.encode(text, add_special)
    }

    /// Token ids to text; `skip_special` leaves special tokens out.
    pub fn detokenize(&self, ids: &[u32], skip_special: bool) -> Result<String> {
        let vocab = self.0.info.vocabulary;
        if let Some(id) = ids.iter().find(|id| **id as usize >= vocab) {
            fail!(Argument, "token {id} is outside the model's vocabulary of {vocab}")
        }
        Ok(self.0.tokenizer.decode(ids, skip_special))
    }

    /// The prompt that the model's chat template makes of a conversation.
    pub fn render_chat(&self, chat: &Chat) -> Result<String> {
        let options = RenderOptions {
            add_generation_prompt: !chat.continue_final,
            continue_final_message: chat.continue_final,
            variables: chat.variables.as_ref(),
            ..RenderOptions::default()
        };
        self.0.template.render(&chat.messages, &options)
    }

    /// Starts an answer. Everything wrong with the request itself is said here.
    pub fn generate(&self, request: Request) -> Result<Generation> {
        let asked = Instant::now();
        let inner = &self.0;
        inner.residence.check_fork()?;
        let prompt = self.prompt_tokens(&request.prompt)?;
        let context = inner.info.context_length;
        let room = context.saturating_sub(prompt.len());
        if room == 0 {
            fail!(ContextFull, "the prompt's {} tokens leave no room in the context of {context}", prompt.len())
        }
        if request.max_tokens == Some(0) {
            fail!(Argument, "max_tokens is 0")
        }
        let most = request.max_tokens.unwrap_or(usize::MAX);
        let roll = match request.when_full {
            WhenFull::Stop => None,
            WhenFull::Roll { keep: Some(keep) } if keep > context / 2 => {
                fail!(Argument, "keep_tokens {keep} is more than half of the context of {context}")
            }
            WhenFull::Roll { keep } => Some(Roll { context, keep: keep.unwrap_or(prompt.len().min(context / 2)) }),
        };
        let stops = StopMatcher::new(&request.stop)?;
        let vocab = inner.info.vocabulary;
        if let Some(id) = request.stop_tokens.iter().find(|id| **id as usize >= vocab) {
            fail!(Argument, "stop_tokens: {id} is outside the vocabulary of {vocab}")
        }
        request.sampling.validate(vocab)?;
        let deadline = match request.deadline {
            Some(within) => asked.checked_add(within),
            None => None,
        };
        let channel = Channel::new();
        let skip_special = !request.special_in_text;
        let detokenizer = Detokenizer::after_prompt(&inner.tokenizer, &prompt, skip_special);
        let echo = request.echo.then(|| inner.tokenizer.decode(&prompt, skip_special));
        let report_tokens = request.sampling.logprobs > 0;
        let generating = Generating {
            sampler: Sampler::new(&request.sampling, &prompt, vocab)?,
            max_tokens: if roll.is_some() { most } else { most.min(room) },
            until_full: most > room && roll.is_none(),
            roll,
            end_tokens: if request.ignore_end { Vec::new() } else { inner.end_tokens.clone() },
            stop_tokens: request.stop_tokens,
        };
        let submission = Submission {
            prompt,
            goal: Goal::Generate(Box::new(generating)),
            deadline,
            priority: request.priority,
            keep_prefix: true,
            control: request.control,
            channel: channel.clone(),
            asked,
            _alive: memory::Alive::request(),
        };
        inner.residence.submit(submission)?;
        Ok(Generation::new(channel, detokenizer, stops, echo, report_tokens))
    }

    /// Hands a request of any kind to the scheduler.
    pub(super) fn submit(&self, submission: Submission) -> Result<()> {
        self.0.residence.submit(submission)
    }

    /// Questions of one call that may wait or run at once.
    pub(super) fn in_flight(&self) -> usize {
        self.0.in_flight
    }

    /// Where its worker lives.
    pub(super) fn residence(&self) -> &Residence {
        &self.0.residence
    }

    /// The prompt as token ids, at least one, each in the vocabulary.
    pub(super) fn prompt_tokens(&self, prompt: &Prompt) -> Result<Vec<u32>> {
        let tokens = match prompt {
            Prompt::Text(text) => self.tokenize(text, true)?,
            Prompt::Tokens(tokens) => tokens.clone(),
            Prompt::Chat(chat) => self.tokenize(&self.render_chat(chat)?, false)?,
        };
        let vocab = self.0.info.vocabulary;
        if tokens.is_empty() {
            fail!(Argument, "the prompt is empty and the tokenizer adds nothing to it")
        }
        if let Some(id) = tokens.iter().find(|id| **id as usize >= vocab) {
            fail!(Argument, "prompt: token {id} is outside the model's vocabulary of {vocab}")
        }
        Ok(tokens)
    }
}

/// The weights and, read by a thread of its own meanwhile, the tokenizer. Where both are damaged, the weights' error
/// is told.
fn read(path: &Path, options: &LoadOptions) -> Result<(LoadedModel, Tokenizer)> {
    let folder = load::folder(path)?;
    let read_tokenizer = || {
        let _span = trace::span("load tokenizer", &[]);
        Tokenizer::from_dir(&folder)
    };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("gomlx-tokenizer".into()).spawn_scoped(scope, read_tokenizer);
        let loaded = {
            let _span = trace::span("load weights", &[]);
            load::load(path, options)
        };
        let tokenizer = match thread {
            Ok(thread) => thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            // The system gives no thread: one after the other, then.
            Err(_) if loaded.is_ok() => read_tokenizer(),
            Err(fault) => Err(error!(Memory, "no thread: {fault}")),
        };
        Ok((loaded?, tokenizer?))
    })
}

/// The backend to use: the options' choice, or `GOMLX_BACKEND`'s where they leave it open, or the fastest.
fn choose(options: &ModelOptions) -> Result<BackendChoice> {
    let mut choice = options.backend;
    if choice == BackendChoice::Auto {
        choice = match std::env::var("GOMLX_BACKEND").as_deref() {
            Err(_) | Ok("" | "auto") => BackendChoice::Auto,
            Ok("cpu") => BackendChoice::Cpu,
            Ok("mlx") => BackendChoice::Mlx,
            Ok(other) => fail!(Argument, "GOMLX_BACKEND is {other:?}, not auto, cpu or mlx"),
        };
    }
    match (choice, runtime::mlx()) {
        (BackendChoice::Auto, Some(Ok(place))) if place.gpu => Ok(BackendChoice::Mlx),
        (BackendChoice::Auto, Some(Err(reason))) => {
            log::warn!("the cpu backend computes: {reason}");
            Ok(BackendChoice::Cpu)
        }
        (BackendChoice::Auto, _) => Ok(BackendChoice::Cpu),
        (BackendChoice::Mlx, None) => fail!(Unsupported, "this build has no mlx backend"),
        (BackendChoice::Mlx, Some(Err(reason))) => Err(reason),
        (choice, _) => Ok(choice),
    }
}

/// What the scheduler keeps to, from the options and the model.
fn limits(loaded: &LoadedModel, options: &ModelOptions, backend: BackendChoice) -> Result<Limits> {
    let context = options.context_length.unwrap_or(loaded.spec.context.min(DEFAULT_CONTEXT));
    if context == 0 || context > loaded.spec.context {
        fail!(Argument, "context_length {context} is not within 1 and the model's {}", loaded.spec.context)
    }
    let at_least_one = |name: &str, value: Option<usize>, default: usize| match value {
        Some(0) => fail!(Argument, "{name} is 0"),
        value => Ok(value.unwrap_or(default)),
    };
    let exact = options.precision == Precision::Exact;
    let gpu = backend == BackendChoice::Mlx && runtime::mlx().is_some_and(|mlx| mlx.is_ok_and(|mlx| mlx.gpu));
    Ok(Limits {
        context,
        sequences: at_least_one("max_sequences", options.max_sequences, 32)?,
        queue: at_least_one("max_queue", options.max_queue, 1024)?,
        // A GPU is only busy with thousands of rows.
        chunk: at_least_one("prefill_chunk", options.prefill_chunk, if gpu { 8192 } else { 512 })?.min(16384),
        kv_type: options.kv_type.unwrap_or(match (exact, gpu) {
            (true, _) => KvType::F32,
            (false, true) if loaded.summary.dtype != DType::F16 => KvType::BF16,
            (false, _) => KvType::F16,
        }),
        prefix_budget: options.prefix_budget,
        weights: loaded.summary.bytes_on_disk,
        kv_budget: options.kv_budget.unwrap_or_else(|| {
            let limit = memory::usage().limit;
            (runtime::main_memory() / 4).min(limit)
        }),
    })
}
