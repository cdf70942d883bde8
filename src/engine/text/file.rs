//! `tokenizer.json` to a tokenizer of the `tokenizers` crate, checked.
//!
//! The crate's own reader holds a model in memory three times over while it finds out which kind it is, and its BPE
//! builder indexes out of bounds on damaged merges. So the BPE part, which nearly every language model has, is read
//! here and handed over whole.

use std::fmt;

use ahash::AHashMap;
use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, Error as _, SeqAccess, Visitor};
use serde_json::Value;
use tokenizers::models::bpe::BPE;
use tokenizers::{AddedToken, DecoderWrapper, NormalizerWrapper, PostProcessorWrapper, PreTokenizerWrapper, Tokenizer};

use super::config::AddedEntry;
use crate::engine::error::{Result, error, fail};

/// Words whose tokens a thread remembers.
const CACHED_WORDS: usize = 10_000;

/// Just enough to know the kind of model.
#[derive(Deserialize)]
struct Peek {
    model: PeekModel,
}

#[derive(Deserialize)]
#[serde(expecting = "model: an object")]
struct PeekModel {
    r#type: Option<String>,
}

/// The whole file with a BPE model. `truncation` and `padding` are not read: prompts are never cut or filled up
/// silently, whatever training left there.
#[derive(Deserialize)]
struct BpeFile {
    version: String,
    #[serde(default)]
    added_tokens: Vec<AddedEntry>,
    // Values first: the crate's readers of these parts panic where the JSON itself is broken.
    normalizer: Option<Value>,
    pre_tokenizer: Option<Value>,
    post_processor: Option<Value>,
    decoder: Option<Value>,
    model: BpeModel,
}

/// A part of the file as the crate's type; `key` names it in messages.
fn part<T: DeserializeOwned>(key: &str, value: Option<Value>) -> Result<Option<T>> {
    value.map(|value| serde_json::from_value(value).map_err(|e| error!(Format, "{key}: {e}"))).transpose()
}

/// `dropout` is not read: it is for training, and would make the same text encode differently each time.
#[derive(Deserialize)]
struct BpeModel {
    unk_token: Option<String>,
    continuing_subword_prefix: Option<String>,
    end_of_word_suffix: Option<String>,
    fuse_unk: Option<bool>,
    byte_fallback: Option<bool>,
    ignore_merges: Option<bool>,
    #[serde(deserialize_with = "vocabulary")]
    vocab: AHashMap<String, u32>,
    merges: Vec<Merge>,
}

/// Names the key where its value is no map of ids.
fn vocabulary<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<AHashMap<String, u32>, D::Error> {
    AHashMap::deserialize(deserializer).map_err(|fault| D::Error::custom(format_args!("vocab: {fault}")))
}

/// One merge: `["a", "b"]`, or `"a b"` in older files.
struct Merge(String, String);

impl<'de> Deserialize<'de> for Merge {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Merge;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a merge: two tokens, as a list or parted by a space")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> std::result::Result<Merge, E> {
                match text.split_once(' ') {
                    Some((a, b)) if !b.contains(' ') => Ok(Merge(a.to_owned(), b.to_owned())),
                    _ => Err(E::custom(format!("merge {text:?}: two tokens parted by a space are needed"))),
                }
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> std::result::Result<Merge, A::Error> {
                match (seq.next_element()?, seq.next_element()?, seq.next_element::<String>()?) {
                    (Some(a), Some(b), None) => Ok(Merge(a, b)),
                    _ => Err(A::Error::custom("a merge needs two tokens")),
                }
            }
        }
        deserializer.deserialize_any(Either)
    }
}

/// Reads the bytes of `tokenizer.json`. Errors (`Format`) name key and place, but not the file.
pub(super) fn read(json: &[u8]) -> Result<Tokenizer> {
    let peek: Peek = serde_json::from_slice(json).map_err(|e| error!(Format, "{e}"))?;
    if peek.model.r#type.as_deref() != Some("BPE") {
        let value: Value = serde_json::from_slice(json).map_err(|e| error!(Format, "{e}"))?;
        let mut tokenizer: Tokenizer = serde_json::from_value(value).map_err(|e| error!(Format, "{e}"))?;
        tokenizer.with_truncation(None).map_err(|e| error!(Format, "truncation: {e}"))?.with_padding(None);
        return Ok(tokenizer);
    }
    let file: BpeFile = serde_json::from_slice(json).map_err(|e| error!(Format, "{e}"))?;
    if file.version != "1.0" {
        fail!(Unsupported, "version {:?}", file.version);
    }
    let pre_tokenizer: Option<PreTokenizerWrapper> = part("pre_tokenizer", file.pre_tokenizer)?;
    let cached = if splits_words(pre_tokenizer.as_ref()) { CACHED_WORDS } else { 0 };
    let mut tokenizer = Tokenizer::new(bpe(file.model, cached).map_err(|e| e.at("model"))?);
    let normalizer: Option<NormalizerWrapper> = part("normalizer", file.normalizer)?;
    tokenizer.with_normalizer(normalizer).map_err(|e| error!(Format, "normalizer: {e}"))?;
    tokenizer.with_pre_tokenizer(pre_tokenizer);
    tokenizer.with_post_processor(part::<PostProcessorWrapper>("post_processor", file.post_processor)?);
    tokenizer.with_decoder(part::<DecoderWrapper>("decoder", file.decoder)?);
    add_tokens(&mut tokenizer, file.added_tokens)?;
    Ok(tokenizer)
}

/// Adds tokens in their order. A new one gets the next free id, as in the crate, so that an id that says otherwise
/// is worth a warning: the model's row for it could not be what the file's author meant.
fn add_tokens(tokenizer: &mut Tokenizer, entries: Vec<AddedEntry>) -> Result<()> {
    let stated: Vec<(u32, String)> = entries.iter().map(|entry| (entry.id, entry.token.content.clone())).collect();
    let tokens: Vec<AddedToken> = entries.into_iter().map(|entry| entry.token).collect();
    tokenizer.add_tokens(tokens).map_err(|e| error!(Format, "added_tokens: {e}"))?;
    for (id, content) in stated {
        if let Some(given) = tokenizer.token_to_id(&content).filter(|given| *given != id) {
            log::warn!("tokenizer.json: added_tokens: {content:?} is to have id {id}; it has {given}");
        }
    }
    Ok(())
}

fn bpe(model: BpeModel, cached: usize) -> Result<BPE> {
    // The builder joins a merge's halves in a buffer as long as the longest token.
    let longest = model.vocab.keys().map(String::len).max().unwrap_or(0);
    let prefix = model.continuing_subword_prefix.as_deref().unwrap_or("");
    for Merge(a, b) in &model.merges {
        if !b.starts_with(prefix) || a.len() + b.len() - prefix.len() > longest {
            fail!(Format, "merges: {a:?} and {b:?} make no token of the vocabulary");
        }
    }
    let mut builder = BPE::builder()
        .vocab_and_merges(model.vocab, model.merges.into_iter().map(|Merge(a, b)| (a, b)).collect())
        .cache_capacity(cached)
        .fuse_unk(model.fuse_unk.unwrap_or(false))
        .byte_fallback(model.byte_fallback.unwrap_or(false))
        .ignore_merges(model.ignore_merges.unwrap_or(false));
    if let Some(token) = model.unk_token {
        builder = builder.unk_token(token);
    }
    if let Some(prefix) = model.continuing_subword_prefix {
        builder = builder.continuing_subword_prefix(prefix);
    }
    if let Some(suffix) = model.end_of_word_suffix {
        builder = builder.end_of_word_suffix(suffix);
    }
    builder.build().map_err(|e| error!(Format, "merges: {e}"))
}

/// Whether texts reach the model word by word. Llama 2 and Gemma hand over whole texts (Gemma splits at spaces that
/// its normalizer has replaced): remembering those would keep what people wrote and help nobody.
fn splits_words(pre_tokenizer: Option<&PreTokenizerWrapper>) -> bool {
    match pre_tokenizer.map(serde_json::to_value) {
        Some(Ok(described)) => described.pointer("/pattern/String").is_none_or(|pattern| pattern != " "),
        _ => false,
    }
}
