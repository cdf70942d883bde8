//! From a model folder to a decoder with its weights, every shape checked.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::config::{self, Config};
use super::families::{self, LayerNames, Prefix, Reading};
use super::spec::DecoderSpec;
use super::tensors::{DecoderTensors, LayerTensors, LinearTensors};
use crate::engine::control::Control;
use crate::engine::error::{Error, Result, fail};
use crate::engine::weights::{
    self, Checkpoint, DType, Matrix, QuantBlock, QuantParams, Storage, Tensor, TensorSource, WeightsMode,
};

/// How to load.
#[derive(Clone, Debug, Default)]
pub struct LoadOptions {
    /// Where the weights' bytes live.
    pub weights: WeightsMode,
    /// Cancels the loading and shows its progress, in bytes.
    pub control: Option<Control>,
}

/// A decoder and its weights, still as the files store them.
#[derive(Clone, Debug)]
pub struct LoadedModel {
    /// What the decoder computes.
    pub spec: DecoderSpec,
    /// Its weights.
    pub tensors: DecoderTensors,
    /// What a caller may want to know about it.
    pub summary: ModelSummary,
}

/// A model in a few figures.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelSummary {
    /// The folder.
    pub dir: PathBuf,
    /// The folder's name, or a Hugging Face cache's `publisher/model`.
    pub name: String,
    /// The family's `model_type`.
    pub family: &'static str,
    /// `architectures[0]` of the config, or empty.
    pub architecture: String,
    /// Weights of the decoder, counted as numbers, however they are stored; a tied head counts once.
    pub parameters: u64,
    /// Bytes of the weight files.
    pub bytes_on_disk: u64,
    /// Number of layers.
    pub layers: usize,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Rows of the embedding table.
    pub vocab: usize,
    /// Positions the model was made for.
    pub context: usize,
    /// How most matrices are quantised, or `None` where none is.
    pub quantisation: Option<QuantParams>,
    /// Element type of the dense weights, and of the quantised ones' scales.
    pub dtype: DType,
    /// Tokens that end a text, `generation_config.json`'s first.
    pub eos: Vec<u32>,
    /// The token that begins one.
    pub bos: Option<u32>,
}

/// Loads the model in `folder` (or the one `.safetensors` file of it that `folder` names).
///
/// `Io` where something is missing or may not be read; `Format` where a file contradicts itself, its format or
/// another file; `Unsupported` names the model type, feature, dtype or quantisation mode; `Memory` beyond the limit;
/// `Cancelled`. The message names the file and the key, tensor or offset.
pub fn load(folder: &Path, options: &LoadOptions) -> Result<LoadedModel> {
    let (folder, weights) = paths(folder)?;
    let control = options.control.as_ref();
    read(&folder, Contents::Read(control), || Checkpoint::open(&weights, options.weights, control))
}

/// The summary that [`load`] would give, or the error, from the config and the headers alone. What only the weights'
/// values show (a NaN among the scales) goes unseen.
pub fn inspect(folder: &Path) -> Result<ModelSummary> {
    let (folder, weights) = paths(folder)?;
    read(&folder, Contents::Skip, || Checkpoint::peek(&weights)).map(|model| model.summary)
}

/// The folder that holds the small files of the model at `path`.
pub fn folder(path: &Path) -> Result<PathBuf> {
    paths(path).map(|(folder, _)| folder)
}

/// The model folder and the path of the weights: the same, or one file in it.
fn paths(path: &Path) -> Result<(PathBuf, PathBuf)> {
    let metadata = std::fs::metadata(path).map_err(|fault| Error::io(path, &fault))?;
    if metadata.is_dir() {
        return Ok((path.to_owned(), path.to_owned()));
    }
    match path.parent() {
        Some(parent) if path.extension().is_some_and(|extension| extension == "safetensors") => {
            let folder = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
            Ok((folder.to_owned(), path.to_owned()))
        }
        _ => fail!(Io, "{}: not a folder", path.display()),
    }
}

fn read(folder: &Path, contents: Contents, open: impl FnOnce() -> Result<Checkpoint>) -> Result<LoadedModel> {
    let config = Config::read(folder)?;
    // Whatever the small files alone show is said before a large one is opened.
    families::read(&config)?;
    config.quantisation()?;
    let (eos, bos) = config::special_ids(folder, &config)?;
    let source = open()?;
    let (spec, tensors) = assemble(&config, &source, contents)?;
    let summary = ModelSummary {
        name: name_of(folder),
        dir: folder.to_owned(),
        family: spec.family,
        architecture: spec.architecture.clone(),
        parameters: spec.parameters(),
        bytes_on_disk: source.bytes_on_disk(),
        layers: spec.layers.len(),
        hidden: spec.hidden,
        vocab: spec.vocab,
        context: spec.context,
        quantisation: quantisation(&tensors),
        dtype: match &tensors.embed.storage {
            Storage::Dense(tensor) => tensor.dtype,
            Storage::Affine(affine) => affine.scales.dtype,
        },
        eos,
        bos,
    };
    Ok(LoadedModel { spec, tensors, summary })
}

/// The decoder that `config` describes with its tensors from `source`, their names, dtypes and shapes checked; with
/// [`Contents::Skip`] norms and biases stay empty.
pub fn assemble(
    config: &Config,
    source: &dyn TensorSource,
    contents: Contents,
) -> Result<(DecoderSpec, DecoderTensors)> {
    let Reading { mut spec, names } = families::read(config)?;
    let block = config.quantisation()?;
    let tensors = Finder { source, block: block.as_ref(), contents }.decoder(&spec, names)?;
    spec.tied_head = tensors.head.is_none();
    Ok((spec, tensors))
}

/// Whether values are read, or only names, dtypes and shapes looked at.
#[derive(Clone, Copy, Debug)]
pub enum Contents<'a> {
    /// Norms and biases become numbers, scales are looked through for NaN; the control can stop it.
    Read(Option<&'a Control>),
    /// No byte of any tensor is touched.
    Skip,
}

/// Fetches tensors by role and checks them.
struct Finder<'a> {
    source: &'a dyn TensorSource,
    block: Option<&'a QuantBlock>,
    contents: Contents<'a>,
}

impl Finder<'_> {
    fn decoder(&self, spec: &DecoderSpec, names: &LayerNames) -> Result<DecoderTensors> {
        let prefix = Prefix::of(self.source);
        let (embed, head) = self.tables(spec, prefix)?;
        let norm = self.norm(&format!("{}norm", prefix.decoder), spec.hidden, spec)?;
        let layers = (0..spec.layers.len()).map(|layer| {
            if let Contents::Read(Some(control)) = self.contents {
                control.check()?;
            }
            self.layer(&format!("{}layers.{layer}.", prefix.decoder), spec, names)
        });
        Ok(DecoderTensors { embed, head, norm, layers: layers.collect::<Result<_>>()? })
    }

    /// The embedding table, and the head where it is another matrix.
    ///
    /// A config may call them tied while the files hold both. transformers 5 then ties them only if they are equal,
    /// and so does this; mlx-lm's Gemma 3 uses the head that is there, its Llama and Qwen never do.
    fn tables(&self, spec: &DecoderSpec, prefix: Prefix) -> Result<(Matrix, Option<Matrix>)> {
        let embed_name = format!("{}embed_tokens", prefix.decoder);
        let embed = self.optional(&embed_name, spec.vocab, spec.hidden)?;
        if !spec.tied_head {
            let embed = embed.ok_or_else(|| self.absent(&format!("{embed_name}.weight")))?;
            return Ok((embed, Some(self.matrix(prefix.head, spec.vocab, spec.hidden)?)));
        }
        let head = self.optional(prefix.head, spec.vocab, spec.hidden)?;
        match (embed, head) {
            (Some(embed), Some(head)) if !same(&embed, &head, self.contents) => Ok((embed, Some(head))),
            (Some(embed), _) => Ok((embed, None)),
            (None, Some(only)) => Ok((only, None)),
            (None, None) => Err(self.absent(&format!("{embed_name}.weight"))),
        }
    }

    fn layer(&self, prefix: &str, spec: &DecoderSpec, names: &LayerNames) -> Result<LayerTensors> {
        let DecoderSpec { hidden, intermediate, head_dim, .. } = *spec;
        let (query, kv) = (spec.heads * head_dim, spec.kv_width());
        let linear = |name: &str, rows, cols, bias: bool| {
            let base = format!("{prefix}{name}");
            let weight = self.matrix(&base, rows, cols)?;
            let bias_name = format!("{base}.bias");
            if !bias && self.source.contains(&bias_name) {
                // As transformers: the config decides what the decoder has.
                log::warn!("{}: ignored, since config.json speaks of no such bias", self.source.place(&bias_name));
            }
            let bias = bias.then(|| self.vector(&bias_name, rows)).transpose()?;
            Ok::<_, Error>(LinearTensors { weight, bias })
        };
        let norm = |name: &str, width| self.norm(&format!("{prefix}{name}"), width, spec);
        let norm_if = |wanted: bool, name: &str, width| wanted.then(|| norm(name, width)).transpose();
        Ok(LayerTensors {
            attention_norm: norm(names.attention_norm, hidden)?,
            q: linear(names.q, query, hidden, spec.qkv_bias)?,
            k: linear(names.k, kv, hidden, spec.qkv_bias)?,
            v: linear(names.v, kv, hidden, spec.qkv_bias)?,
            q_norm: norm_if(spec.qk_norm, names.q_norm, head_dim)?,
            k_norm: norm_if(spec.qk_norm, names.k_norm, head_dim)?,
            o: linear(names.o, hidden, query, spec.output_bias)?,
            post_attention_norm: norm_if(spec.sandwich_norms, names.post_attention_norm, hidden)?,
            mlp_norm: norm(names.mlp_norm, hidden)?,
            gate: linear(names.gate, intermediate, hidden, spec.mlp_bias)?,
            up: linear(names.up, intermediate, hidden, spec.mlp_bias)?,
            down: linear(names.down, hidden, intermediate, spec.mlp_bias)?,
            post_mlp_norm: norm_if(spec.sandwich_norms, names.post_mlp_norm, hidden)?,
        })
    }

    fn matrix(&self, base: &str, rows: usize, cols: usize) -> Result<Matrix> {
        self.optional(base, rows, cols)?.ok_or_else(|| self.absent(&format!("{base}.weight")))
    }

    fn optional(&self, base: &str, rows: usize, cols: usize) -> Result<Option<Matrix>> {
        let found = weights::matrix(self.source, base, rows, cols, self.block)?;
        if let (Some(Matrix { storage: Storage::Affine(affine), .. }), Contents::Read(_)) = (&found, self.contents) {
            weights::expect_finite(self.source, &affine.scales)?;
            weights::expect_finite(self.source, &affine.biases)?;
        }
        Ok(found)
    }

    fn norm(&self, base: &str, width: usize, spec: &DecoderSpec) -> Result<Vec<f32>> {
        let mut weight = self.vector(&format!("{base}.weight"), width)?;
        weight.iter_mut().for_each(|weight| *weight += spec.norm.offset);
        Ok(weight)
    }

    fn vector(&self, name: &str, width: usize) -> Result<Vec<f32>> {
        let Some(tensor) = self.source.get(name)? else { return Err(self.absent(name)) };
        if !tensor.dtype.is_float() {
            fail!(Format, "{}: dtype {:?}, expected F32, F16 or BF16", self.source.place(name), tensor.dtype)
        }
        weights::expect_shape(self.source, &tensor, &[width])?;
        match self.contents {
            Contents::Read(_) => {
                weights::expect_finite(self.source, &tensor)?;
                tensor.to_f32()
            }
            Contents::Skip => Ok(Vec::new()),
        }
    }

    fn absent(&self, name: &str) -> Error {
        crate::engine::error::error!(Format, "{}: absent from the checkpoint", self.source.place(name))
    }
}

/// Whether two matrices are stored in the same way and, where values are read, with the same bytes.
fn same(a: &Matrix, b: &Matrix, contents: Contents) -> bool {
    let equal = |a: &Tensor, b: &Tensor| {
        a.dtype == b.dtype && (matches!(contents, Contents::Skip) || a.bytes.as_slice() == b.bytes.as_slice())
    };
    match (&a.storage, &b.storage) {
        (Storage::Dense(a), Storage::Dense(b)) => equal(a, b),
        (Storage::Affine(a), Storage::Affine(b)) => {
            let alike = a.bits == b.bits && a.group == b.group;
            alike && equal(&a.scales, &b.scales) && equal(&a.biases, &b.biases) && equal(&a.weight, &b.weight)
        }
        _ => false,
    }
}

/// How the most numbers of the model are quantised.
fn quantisation(tensors: &DecoderTensors) -> Option<QuantParams> {
    let linears = tensors.layers.iter().flat_map(|l| [&l.q, &l.k, &l.v, &l.o, &l.gate, &l.up, &l.down]);
    let matrices = linears.map(|linear| &linear.weight).chain([&tensors.embed]).chain(&tensors.head);
    let mut numbers = HashMap::new();
    for matrix in matrices {
        if let Storage::Affine(affine) = &matrix.storage {
            *numbers.entry((affine.bits, affine.group)).or_insert(0) += matrix.rows * matrix.cols;
        }
    }
    let most = numbers.into_iter().max_by_key(|(params, numbers)| (*numbers, *params));
    most.map(|((bits, group), _)| QuantParams { bits, group, mode: "affine".to_owned() })
}

/// The folder's name; in a Hugging Face cache (`models--publisher--model/snapshots/revision`), `publisher/model`.
fn name_of(folder: &Path) -> String {
    let full = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    let part = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let grandparent = full.parent().filter(|parent| part(parent) == "snapshots").and_then(Path::parent);
    match grandparent.map(part).as_deref().and_then(|name| name.strip_prefix("models--")) {
        Some(name) => name.replace("--", "/"),
        None => part(&full),
    }
}
