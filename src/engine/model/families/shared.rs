//! What the families' configs have in common.

use super::super::config::{MAX_CONTEXT, MAX_LAYERS, MAX_WIDTH, Section};
use super::super::spec::{Activation, DecoderSpec, LayerSpec, NormSpec};
use crate::engine::error::{Result, error, fail};

/// What a family's config class puts in place of keys that are absent.
pub struct Defaults {
    /// `model_type`.
    pub family: &'static str,
    /// `vocab_size`, `hidden_size`, `intermediate_size`, `num_hidden_layers`, `num_attention_heads`, in that order,
    /// for a family whose published configs leave them out; elsewhere their absence is an error.
    pub sizes: Option<[usize; 5]>,
    /// `num_key_value_heads`; `None`: as many as query heads. A `null` always means that.
    pub kv_heads: Option<usize>,
    /// `head_dim`; `None`: `hidden_size / num_attention_heads`.
    pub head_dim: Option<usize>,
    /// `max_position_embeddings`.
    pub context: usize,
    /// `tie_word_embeddings`.
    pub tied: bool,
    /// The key of the activation's name.
    pub activation_key: &'static str,
    /// Its default.
    pub activation: Activation,
}

/// A pre-norm decoder with full attention and plain residuals: llama's shape, from which the others differ.
/// `ropes` is left for the family to fill; every layer has the first of them and no window.
pub fn decoder(config: &Section, defaults: &Defaults) -> Result<DecoderSpec> {
    let size = |key: &str, most: usize, at: usize| match (config.count(key, most)?, defaults.sizes) {
        (Some(size), _) => Ok(size),
        (None, Some(sizes)) => Ok(sizes[at]),
        (None, None) => Err(config.missing(key)),
    };
    let vocab = size("vocab_size", MAX_WIDTH, 0)?;
    let hidden = size("hidden_size", MAX_WIDTH, 1)?;
    let intermediate = size("intermediate_size", MAX_WIDTH, 2)?;
    let layers = size("num_hidden_layers", MAX_LAYERS, 3)?;
    let heads = size("num_attention_heads", MAX_WIDTH, 4)?;
    let kv_heads = match config.count("num_key_value_heads", MAX_WIDTH)? {
        Some(count) => count,
        None if config.has("num_key_value_heads") => heads,
        None => defaults.kv_heads.unwrap_or(heads),
    };
    let default_head_dim = if config.has("head_dim") { None } else { defaults.head_dim };
    let head_dim = match config.count("head_dim", MAX_WIDTH)?.or(default_head_dim) {
        Some(width) => width,
        None if hidden % heads == 0 => hidden / heads,
        None => {
            let place = config.path("num_attention_heads");
            fail!(Format, "{place}: {heads} does not divide hidden_size {hidden}, and there is no head_dim")
        }
    };
    Ok(DecoderSpec {
        family: defaults.family,
        architecture: String::new(),
        hidden,
        intermediate,
        heads,
        kv_heads,
        head_dim,
        vocab,
        context: config.count("max_position_embeddings", MAX_CONTEXT)?.unwrap_or(defaults.context),
        layers: vec![LayerSpec { window: None, rope: 0 }; layers],
        ropes: Vec::new(),
        norm: NormSpec { eps: config.positive("rms_norm_eps")?.unwrap_or(1e-6) as f32, offset: 0.0 },
        qk_norm: false,
        sandwich_norms: false,
        activation: activation(config, defaults)?,
        embed_scale: 1.0,
        attention_scale: 1.0 / (head_dim as f32).sqrt(),
        attention_softcap: None,
        logit_softcap: None,
        qkv_bias: false,
        output_bias: false,
        mlp_bias: false,
        tied_head: config.tied(defaults.tied)?,
    })
}

fn activation(config: &Section, defaults: &Defaults) -> Result<Activation> {
    let key = defaults.activation_key;
    Ok(match config.text(key)? {
        None => defaults.activation,
        Some("silu" | "swish") => Activation::Silu,
        // transformers' names for the tanh form; they differ in where a constant is rounded.
        Some("gelu_pytorch_tanh" | "gelu_new" | "gelu_fast" | "gelu_accurate") => Activation::GeluTanh,
        Some("gelu") => Activation::Gelu,
        Some(_) => return Err(config.unsupported(key)),
    })
}

/// Refuses sizes that contradict each other or whose products would overflow anywhere later: the largest are all
/// elements of the weights and of a KV cache at full context, in bytes at 8 bytes an element.
pub fn check(spec: &DecoderSpec) -> Result<()> {
    let DecoderSpec { hidden, intermediate, heads, kv_heads, head_dim, vocab, context, .. } = *spec;
    if heads % kv_heads != 0 {
        fail!(Format, "config.json: num_key_value_heads: {kv_heads} does not divide num_attention_heads {heads}")
    }
    if head_dim % 2 != 0 {
        fail!(Format, "config.json: head_dim: {head_dim} is odd, but RoPE turns pairs")
    }
    let product = |factors: &[usize]| factors.iter().try_fold(1usize, |all, factor| all.checked_mul(*factor));
    let query = product(&[heads, head_dim]).filter(|width| *width <= MAX_WIDTH);
    let query = query.ok_or_else(|| {
        error!(Format, "config.json: num_attention_heads: {heads} heads of {head_dim} are wider than {MAX_WIDTH}")
    })?;
    let layers = spec.layers.len();
    let widths = [query, spec.kv_width(), spec.kv_width(), query, intermediate, intermediate, intermediate];
    let layer = widths.iter().try_fold(0usize, |sum, width| sum.checked_add(product(&[*width, hidden])?));
    let table = product(&[vocab, hidden, 2]);
    let weights = layer.and_then(|layer| product(&[layer, layers])?.checked_add(table?));
    let cache = product(&[context, layers, spec.kv_width(), 2]);
    let fits =
        |elements: Option<usize>| elements.and_then(|e| e.checked_mul(8)).is_some_and(|b| b <= isize::MAX as usize);
    if !fits(weights) {
        fail!(
            Format,
            "config.json: hidden_size {hidden}, intermediate_size {intermediate} and num_hidden_layers {layers} overflow"
        )
    }
    if !fits(cache) {
        fail!(Format, "config.json: max_position_embeddings: {context} positions of {layers} layers overflow")
    }
    Ok(())
}
