//! `gomlx_model`: load, describe, and the text tools that come with a model.

use std::ffi::c_char;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::control::{self, gomlx_control};
use super::error::{gomlx_error, gomlx_status, gomlx_status_value};
use super::guard;
use super::handle::{self, Kind, Opaque};
use super::input::{self, gomlx_string};
use super::options::{self, Out, choose, versioned};
use super::output::{self, Kept, Place};
use super::request::{self, gomlx_request};
use super::sharing;
use crate::engine::backend::KvType;
use crate::engine::error::{Error, Result, fail};
use crate::engine::{BackendChoice, Model, ModelInfo, ModelOptions, Precision, WeightsMode};

/// A loaded model: weights, tokenizer, chat template and the threads that compute. Any number of threads may use one
/// at once. It lives until the last of its handles (the loaded one and its clones) is freed.
pub struct gomlx_model {
    _private: [u8; 0],
}

/// What a model handle owns.
pub(super) struct OwnedModel {
    pub model: Model,
    card: Arc<Card>,
    /// Handles of this model that are not freed: the last one's freeing closes it, whoever else still is inside a call.
    handles: Arc<AtomicUsize>,
}

impl OwnedModel {
    fn new(model: Model) -> Self {
        let card = Arc::new(Card::new(model.info().clone()));
        Self { model, card, handles: Arc::new(AtomicUsize::new(1)) }
    }

    /// One more handle's; `None` when the last one was freed.
    pub fn another(&self) -> Option<Self> {
        let one_more = |count: usize| (count > 0).then_some(count + 1);
        self.handles.fetch_update(Relaxed, Relaxed, one_more).ok().map(|_| self.uncounted())
    }

    /// The same model, without a handle.
    pub fn uncounted(&self) -> Self {
        Self { model: self.model.clone(), card: self.card.clone(), handles: self.handles.clone() }
    }

    /// Whether both are of the same loaded model.
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.handles, &other.handles)
    }
}

impl Opaque for gomlx_model {
    type Value = OwnedModel;
    const KIND: Kind = Kind::Model;
}

/// What computes: one of `enum gomlx_backend_value`.
pub type gomlx_backend = i32;

/// The values of `gomlx_backend`.
#[repr(C)]
pub enum gomlx_backend_value {
    /// The fastest that this build has on this machine.
    GOMLX_BACKEND_AUTO = 0,
    /// The library's own kernels.
    GOMLX_BACKEND_CPU = 1,
    /// MLX (Metal, CUDA); `GOMLX_ERR_UNSUPPORTED` in builds without it.
    GOMLX_BACKEND_MLX = 2,
}

/// Element type of the KV cache: one of `enum gomlx_kv_type_value`.
pub type gomlx_kv_type = i32;

/// The values of `gomlx_kv_type`.
#[repr(C)]
pub enum gomlx_kv_type_value {
    /// f16, or f32 with `GOMLX_PRECISION_EXACT`.
    GOMLX_KV_AUTO = 0,
    /// Exact, four bytes an element.
    GOMLX_KV_F32 = 1,
    /// Two bytes, eleven bits of precision.
    GOMLX_KV_F16 = 2,
    /// Two bytes, eight bits of precision, the range of f32.
    GOMLX_KV_BF16 = 3,
}

/// How weights reach memory: one of `enum gomlx_weights_value`.
pub type gomlx_weights = i32;

/// The values of `gomlx_weights`.
#[repr(C)]
pub enum gomlx_weights_value {
    /// Mapped and used in place; processes that load the same files share them. The files must stay unchanged.
    GOMLX_WEIGHTS_MAPPED = 0,
    /// Read into memory of the library's own.
    GOMLX_WEIGHTS_READ = 1,
}

/// How the cpu backend multiplies: one of `enum gomlx_precision_value`.
pub type gomlx_precision = i32;

/// The values of `gomlx_precision`.
#[repr(C)]
pub enum gomlx_precision_value {
    /// Activations take 8 bits per group (or bf16) where the weights are narrow.
    GOMLX_PRECISION_FAST = 0,
    /// Activations stay f32: for checking against other implementations.
    GOMLX_PRECISION_EXACT = 1,
}

/// Whether a loaded model is shared within the process: one of `enum gomlx_sharing_value`.
pub type gomlx_sharing = i32;

/// The values of `gomlx_sharing`.
#[repr(C)]
pub enum gomlx_sharing_value {
    /// A model of this caller's own.
    GOMLX_SHARING_NONE = 0,
    /// All callers in the process that ask so for the same folder with the same options get handles of one model, also
    /// while it still loads. It lives until the last of them is freed.
    GOMLX_SHARING_PROCESS = 1,
    /// As above, and it stays until the process ends: for callers that come and go, such as scripts run once a request.
    GOMLX_SHARING_KEPT = 2,
}

/// A [`gomlx_sharing`] that was checked.
enum Sharing {
    None,
    Process { keep: bool },
}

/// How to load. `gomlx_model_options_init` fills the defaults, which are all zero and NULL but `struct_size`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct gomlx_model_options {
    /// `sizeof(gomlx_model_options)`.
    pub struct_size: u32,
    /// What computes.
    pub backend: gomlx_backend,
    /// Positions a sequence may take, prompt and answer together; 0: what the model was made for, at most 8,192.
    pub context_length: u32,
    /// Threads that compute; 0: the physical cores that this process may use.
    pub threads: u32,
    /// Element type of the KV cache.
    pub kv_type: gomlx_kv_type,
    /// Mapped or read in.
    pub weights: gomlx_weights,
    /// Fast or exact arithmetic.
    pub precision: gomlx_precision,
    /// Sequences computed together; 0: 32.
    pub max_sequences: u32,
    /// Requests that may wait before another is refused with `GOMLX_ERR_BUSY`; 0: 1,024.
    pub max_queue: u32,
    /// Most prompt tokens computed in one step; 0: 512. Never changes an answer, only who waits for whom.
    pub prefill_chunk: u32,
    /// Bytes that the KV cache may take; 0: at most a quarter of the machine's memory.
    pub kv_budget: u64,
    /// Bytes of the KV cache that finished requests leave for later ones with the same beginning; 0: one full context;
    /// less than a page, such as 1: nothing is kept.
    pub prefix_budget: u64,
    /// Stops the load and shows its progress in bytes. May be NULL.
    pub control: *const gomlx_control,
    /// Whether others in this process get the same model.
    pub sharing: gomlx_sharing,
    /// 0.
    pub reserved: u32,
}
versioned!(gomlx_model_options);

impl gomlx_model_options {
    const DEFAULTS: Self = Self {
        struct_size: size_of::<Self>() as u32,
        backend: gomlx_backend_value::GOMLX_BACKEND_AUTO as i32,
        context_length: 0,
        threads: 0,
        kv_type: gomlx_kv_type_value::GOMLX_KV_AUTO as i32,
        weights: gomlx_weights_value::GOMLX_WEIGHTS_MAPPED as i32,
        precision: gomlx_precision_value::GOMLX_PRECISION_FAST as i32,
        max_sequences: 0,
        max_queue: 0,
        prefill_chunk: 0,
        kv_budget: 0,
        prefix_budget: 0,
        control: std::ptr::null(),
        sharing: gomlx_sharing_value::GOMLX_SHARING_NONE as i32,
        reserved: 0,
    };

    fn sharing(&self) -> Result<Sharing> {
        choose!("sharing", self.sharing,
            gomlx_sharing_value::GOMLX_SHARING_NONE => Sharing::None,
            gomlx_sharing_value::GOMLX_SHARING_PROCESS => Sharing::Process { keep: false },
            gomlx_sharing_value::GOMLX_SHARING_KEPT => Sharing::Process { keep: true },
        )
    }

    fn to_engine(self) -> Result<ModelOptions> {
        let given = |value: u32| (value != 0).then_some(value as usize);
        Ok(ModelOptions {
            backend: choose!("backend", self.backend,
                gomlx_backend_value::GOMLX_BACKEND_AUTO => BackendChoice::Auto,
                gomlx_backend_value::GOMLX_BACKEND_CPU => BackendChoice::Cpu,
                gomlx_backend_value::GOMLX_BACKEND_MLX => BackendChoice::Mlx,
            )?,
            context_length: given(self.context_length),
            threads: given(self.threads),
            kv_type: choose!("kv_type", self.kv_type,
                gomlx_kv_type_value::GOMLX_KV_AUTO => None,
                gomlx_kv_type_value::GOMLX_KV_F32 => Some(KvType::F32),
                gomlx_kv_type_value::GOMLX_KV_F16 => Some(KvType::F16),
                gomlx_kv_type_value::GOMLX_KV_BF16 => Some(KvType::BF16),
            )?,
            weights: choose!("weights", self.weights,
                gomlx_weights_value::GOMLX_WEIGHTS_MAPPED => WeightsMode::Mapped,
                gomlx_weights_value::GOMLX_WEIGHTS_READ => WeightsMode::Read,
            )?,
            precision: choose!("precision", self.precision,
                gomlx_precision_value::GOMLX_PRECISION_FAST => Precision::Fast,
                gomlx_precision_value::GOMLX_PRECISION_EXACT => Precision::Exact,
            )?,
            max_sequences: given(self.max_sequences),
            max_queue: given(self.max_queue),
            kv_budget: (self.kv_budget != 0).then_some(self.kv_budget),
            prefix_budget: (self.prefix_budget != 0).then_some(self.prefix_budget),
            prefill_chunk: given(self.prefill_chunk),
            control: control::nullable(self.control)?,
        })
    }
}

/// What a model is. Its texts are valid until the model handle (or the catalog) that was asked is freed.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct gomlx_model_info {
    /// `sizeof(gomlx_model_info)`, set by the caller.
    pub struct_size: u32,
    /// Decoder layers.
    pub layers: u32,
    /// Width of the residual stream.
    pub hidden: u32,
    /// Rows of the embedding table.
    pub vocabulary: u32,
    /// Positions it was made for.
    pub context: u32,
    /// Positions a sequence may take in this loaded model; 0 where it is not loaded.
    pub context_length: u32,
    /// Bits of most quantised weights; 0 where none are quantised.
    pub quantisation_bits: u32,
    /// Weights that share a scale; 0 where none are quantised.
    pub quantisation_group: u32,
    /// 1 where it has a chat template, else 0.
    pub has_chat_template: i32,
    /// Threads that compute it; 0 where it is not loaded.
    pub threads: u32,
    /// In a catalog: `GOMLX_OK`, or why it can't be loaded (the rest is then empty but for `name`, `path` and
    /// `reason`). Of a loaded model: `GOMLX_OK`.
    pub status: gomlx_status,
    /// 0.
    pub reserved: u32,
    /// Weights, quantised ones counted as what they stand for.
    pub parameters: u64,
    /// Size of the weight files.
    pub bytes_on_disk: u64,
    /// The folder's name, or the repository's in a Hugging Face cache.
    pub name: gomlx_string,
    /// The folder.
    pub path: gomlx_string,
    /// `architectures[0]` of its config.
    pub architecture: gomlx_string,
    /// Its `model_type`.
    pub family: gomlx_string,
    /// `affine`, or empty where nothing is quantised.
    pub quantisation_mode: gomlx_string,
    /// Element type of the weights that are not quantised: `bf16`, `f16`, `f32`.
    pub dtype: gomlx_string,
    /// `cpu` or `mlx`; empty where it is not loaded.
    pub backend: gomlx_string,
    /// The device that computes it; empty where it is not loaded.
    pub device: gomlx_string,
    /// One line that belongs to `status`; empty where it is `GOMLX_OK`.
    pub reason: gomlx_string,
}
versioned!(gomlx_model_info);

/// A [`ModelInfo`] whose texts C can read.
pub(super) struct Card {
    info: ModelInfo,
    name: Kept,
    path: Kept,
    architecture: Kept,
    family: Kept,
    quantisation_mode: Kept,
    dtype: Kept,
    backend: Kept,
    device: Kept,
    status: gomlx_status,
    reason: Kept,
}

impl Card {
    pub(super) fn new(info: ModelInfo) -> Self {
        let device = info.device.as_ref();
        Self {
            name: Kept::new(&*info.name),
            path: Kept::new(info.path.to_string_lossy()),
            architecture: Kept::new(&*info.architecture),
            family: Kept::new(&*info.family),
            quantisation_mode: Kept::new(&*info.quantisation_mode),
            dtype: Kept::new(&*info.dtype),
            backend: Kept::new(device.map_or("", |device| device.name)),
            device: Kept::new(device.map_or("", |device| &*device.device)),
            status: gomlx_status_value::GOMLX_OK as i32,
            reason: Kept::new(""),
            info,
        }
    }

    /// The card of what can't be loaded.
    pub(super) fn failed(path: &Path, why: &Error) -> Self {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let info = ModelInfo { name, path: path.to_owned(), ..ModelInfo::default() };
        Self { status: why.status() as gomlx_status, reason: Kept::new(why.message()), ..Self::new(info) }
    }

    /// What C sees of it, while this lives.
    pub(super) fn view(&self) -> gomlx_model_info {
        let small = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
        let info = &self.info;
        gomlx_model_info {
            struct_size: 0, // the caller's stays
            layers: small(info.layers),
            hidden: small(info.hidden),
            vocabulary: small(info.vocabulary),
            context: small(info.context),
            context_length: small(info.context_length),
            quantisation_bits: info.quantisation_bits,
            quantisation_group: info.quantisation_group,
            has_chat_template: info.has_chat_template.into(),
            threads: info.device.as_ref().map_or(0, |device| small(device.threads)),
            status: self.status,
            reserved: 0,
            parameters: info.parameters,
            bytes_on_disk: info.bytes_on_disk,
            name: self.name.view(),
            path: self.path.view(),
            architecture: self.architecture.view(),
            family: self.family.view(),
            quantisation_mode: self.quantisation_mode.view(),
            dtype: self.dtype.view(),
            backend: self.backend.view(),
            device: self.device.view(),
            reason: self.reason.view(),
        }
    }
}

/// Fills `out_options`, declared `struct_size` bytes long by the caller (`sizeof *out_options`), with the defaults.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gomlx_model_options_init(
    out_options: *mut gomlx_model_options,
    struct_size: usize,
    error: *mut gomlx_error,
) -> gomlx_status {
    guard::status(error, || options::init(out_options, struct_size, gomlx_model_options::DEFAULTS))
}

/// Loads the model in folder `path` and returns when it can generate. `options` may be NULL: all defaults. Failures
/// name the file, key or tensor at fault.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gomlx_model_load(
    path: *const c_char,
    path_len: usize,
    options: *const gomlx_model_options,
    out_model: *mut *mut gomlx_model,
    error: *mut gomlx_error,
) -> gomlx_status {
    guard::status(error, || {
        let out = Place::new("out_model", out_model)?;
        let path = input::text("path", path, path_len)?;
        if path.is_empty() {
            fail!(Argument, "path is empty")
        }
        let given = match options.is_null() {
            true => gomlx_model_options::DEFAULTS,
            false => options::read(options, gomlx_model_options::DEFAULTS)?,
        };
        let sharing = given.sharing()?;
        let (path, options) = (Path::new(path), given.to_engine()?);
        let load = || Ok(OwnedModel::new(Model::load(path, &options)?));
        let owned = match sharing {
            Sharing::None => load()?,
            Sharing::Process { keep } => sharing::get(sharing::Key::new(path, &options), keep, &options, load)?,
        };
        out.write(handle::give(owned));
        Ok(())
    })
}

/// One more owner of the same model, freed by itself. NULL after a failure that `gomlx_last_error` describes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gomlx_model_clone(model: *const gomlx_model) -> *mut gomlx_model {
    guard::value(std::ptr::null_mut(), || {
        let owned = handle::get_here(model)?;
        match owned.another() {
            Some(another) => Ok(handle::give(another)),
            None => fail!(State, "the model was freed"),
        }
    })
}

/// Describes a loaded model.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gomlx_model_describe(
    model: *const gomlx_model,
    out_info: *mut gomlx_model_info,
    error: *mut gomlx_error,
) -> gomlx_status {
    guard::status(error, || {
        let owned = handle::get_here(model)?;
        let out = Out::new(out_info)?;
        out.write(owned.card.view());
        Ok(())
    })
}

/// Text to token ids. `add_special` other than 0 adds what the tokenizer puts around a text, such as a BOS token.
/// `out_count` gets the number of tokens, also with `GOMLX_ERR_BUFFER` when they are more than `capacity`;
/// `out_tokens` may be NULL when `capacity` is 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gomlx_model_tokenize(
    model: *const gomlx_model,
    text: *const c_char,
    text_len: usize,
    add_special: i32,
    out_tokens: *mut u32,
    capacity: usize,
    out_count: *mut usize,
    error: *mut gomlx_error,
) -> gomlx_status {
    guard::status(error, || {
        let owned = handle::get_here(model)?;
        let count = Place::new("out_count", out_count)?;
        let text = input::text("text", text, text_len)?;
        output::fill("out_tokens", &owned.model.tokenize(text, add_special != 0)?, out_tokens, capacity, &count)
    })
}

/// Token ids to text. `skip_special` other than 0 leaves special tokens out. `out_len` gets the text's bytes, its NUL
/// not counted, also with `GOMLX_ERR_BUFFER` when `capacity` is less than one more than that; `out_text` may be NULL
/// when `capacity` is 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gomlx_model_detokenize(
    model: *const gomlx_model,
    tokens: *const u32,
    token_count: usize,
    skip_special: i32,
    out_text: *mut c_char,
    capacity: usize,
    out_len: *mut usize,
    error: *mut gomlx_error,
) -> gomlx_status {
    guard::status(error, || {
        let owned = handle::get_here(model)?;
        let len = Place::new("out_len", out_len)?;
        let tokens = input::array("tokens", tokens, token_count)?;
        output::fill_text("out_text", &owned.model.detokenize(tokens, skip_special != 0)?, out_text, capacity, &len)
    })
}

/// The prompt that the model's chat template makes of the `messages` (or `messages_json`) of `request`; the rest of
/// the request is not looked at. The text is returned as by `gomlx_model_detokenize`. `GOMLX_ERR_UNSUPPORTED` for a
/// model without a template.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gomlx_model_render_chat(
    model: *const gomlx_model,
    request: *const gomlx_request,
    out_text: *mut c_char,
    capacity: usize,
    out_len: *mut usize,
    error: *mut gomlx_error,
) -> gomlx_status {
    guard::status(error, || {
        let owned = handle::get_here(model)?;
        let len = Place::new("out_len", out_len)?;
        let chat = request::read(request)?.chat()?;
        output::fill_text("out_text", &owned.model.render_chat(&chat)?, out_text, capacity, &len)
    })
}

/// Writes what the model's prefix cache holds to file `path`, so that `gomlx_model_restore_prefixes` need not compute it
/// after a restart. The file is replaced at once when all is written, and left alone when that fails (`GOMLX_ERR_IO`:
/// a full disk). `out_tokens`, which may be NULL, gets the tokens saved. Answers go on meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gomlx_model_save_prefixes(
    model: *const gomlx_model,
    path: *const c_char,
    path_len: usize,
    out_tokens: *mut usize,
    error: *mut gomlx_error,
) -> gomlx_status {
    guard::status(error, || {
        let owned = handle::get_here(model)?;
        let out = Place::new("out_tokens", out_tokens).ok();
        let saved = owned.model.save_prefixes(Path::new(input::text("path", path, path_len)?))?;
        out.iter().for_each(|out| out.write(saved));
        Ok(())
    })
}

/// Takes what `gomlx_model_save_prefixes` wrote into the prefix cache, as far as its budget goes beside what it holds.
/// `GOMLX_ERR_FORMAT` for a file that is damaged, cut short, or of another checkpoint, precision, KV type, processor or
/// version; nothing of it is taken then. `out_tokens`, which may be NULL, gets the tokens taken.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gomlx_model_restore_prefixes(
    model: *const gomlx_model,
    path: *const c_char,
    path_len: usize,
    out_tokens: *mut usize,
    error: *mut gomlx_error,
) -> gomlx_status {
    guard::status(error, || {
        let owned = handle::get_here(model)?;
        let out = Place::new("out_tokens", out_tokens).ok();
        let taken = owned.model.restore_prefixes(Path::new(input::text("path", path, path_len)?))?;
        out.iter().for_each(|out| out.write(taken));
        Ok(())
    })
}

/// Takes a handle back. The last one's freeing ends the model: calls of other threads that are inside it, and
/// generations that are not complete, end with `GOMLX_ERR_STATE` after what was already computed, and this call returns
/// when nothing computes any more and the model's memory is given back. From inside a callback, too. Generations are
/// freed by themselves, before or after. NULL is ignored.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gomlx_model_free(model: *mut gomlx_model) {
    guard::value((), || {
        if let Some(owned) = handle::take(model)
            && owned.handles.fetch_sub(1, Relaxed) == 1
        {
            sharing::forget(&owned);
            owned.model.close();
        }
        Ok(())
    });
}
