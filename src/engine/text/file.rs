//! `tokenizer.json` to a tokenizer of the `tokenizers` crate, checked.
//!
//! The crate's own reader holds a model in memory three times over while it finds out which kind it is, and its BPE
//! builder indexes out of bounds on damaged merges. So the BPE part, which nearly every language model has, is read
//! here, in one pass and without a string of its own for every token, and served by `bpe.rs`.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, Error as _, IgnoredAny, SeqAccess, Visitor};
use serde_json::Value;
use tokenizers::models::bpe::BPE;
use tokenizers::{
    AddedToken, DecoderWrapper, NormalizerWrapper, PostProcessorWrapper, PreTokenizerWrapper, TokenizerImpl,
};

use super::bpe::{Bpe, BpeRules};
use super::config::AddedEntry;
use super::model::Model;
use super::vocabulary::{Text, Vocabulary, vocabulary};
use crate::engine::error::{Result, error, fail};

/// The crate's tokenizer around our model.
pub(super) type Tables =
    TokenizerImpl<Model, NormalizerWrapper, PreTokenizerWrapper, PostProcessorWrapper, DecoderWrapper>;

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
struct BpeFile<'a> {
    version: String,
    #[serde(default)]
    added_tokens: Vec<AddedEntry>,
    // Values first: the crate's readers of these parts panic where the JSON itself is broken.
    normalizer: Option<Value>,
    pre_tokenizer: Option<Value>,
    post_processor: Option<Value>,
    decoder: Option<Value>,
    #[serde(borrow)]
    model: BpeModel<'a>,
}

/// A part of the file as the crate's type; `key` names it in messages.
fn part<T: DeserializeOwned>(key: &str, value: Option<Value>) -> Result<Option<T>> {
    value.map(|value| serde_json::from_value(value).map_err(|e| error!(Format, "{key}: {e}"))).transpose()
}

/// `dropout` is not read: it is for training, and would make the same text encode differently each time.
#[derive(Deserialize)]
struct BpeModel<'a> {
    r#type: Option<String>,
    unk_token: Option<String>,
    continuing_subword_prefix: Option<String>,
    end_of_word_suffix: Option<String>,
    fuse_unk: Option<bool>,
    byte_fallback: Option<bool>,
    ignore_merges: Option<bool>,
    #[serde(deserialize_with = "vocabulary")]
    vocab: Vocabulary,
    #[serde(borrow)]
    merges: Vec<Merge<'a>>,
}

/// One merge: `["a", "b"]`, or `"a b"` in older files.
pub(super) struct Merge<'a>(pub Cow<'a, str>, pub Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Merge<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Merge<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a merge: two tokens, as a list or parted by a space")
            }

            fn visit_borrowed_str<E: serde::de::Error>(self, text: &'de str) -> std::result::Result<Self::Value, E> {
                let (a, b) = halves(text)?;
                Ok(Merge(a.into(), b.into()))
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> std::result::Result<Self::Value, E> {
                let (a, b) = halves(text)?;
                Ok(Merge(a.to_owned().into(), b.to_owned().into()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> std::result::Result<Self::Value, A::Error> {
                match (seq.next_element()?, seq.next_element()?, seq.next_element::<IgnoredAny>()?) {
                    (Some(Text(a)), Some(Text(b)), None) => Ok(Merge(a, b)),
                    _ => Err(A::Error::custom("a merge needs two tokens")),
                }
            }
        }
        deserializer.deserialize_any(Either)
    }
}

fn halves<E: serde::de::Error>(text: &str) -> std::result::Result<(&str, &str), E> {
    match text.split_once(' ') {
        Some((a, b)) if !b.contains(' ') => Ok((a, b)),
        _ => Err(E::custom(format_args!("merge {text:?}: two tokens parted by a space are needed"))),
    }
}

/// Reads the bytes of `tokenizer.json`. Errors (`Format`) name key and place, but not the file.
pub(super) fn read(json: &[u8]) -> Result<Tables> {
    match serde_json::from_slice::<BpeFile>(json) {
        Ok(file) if file.model.r#type.as_deref() == Some("BPE") => bpe_tables(file),
        // The model may be of another kind; which, and what else is wrong, the file's other parts say.
        read => {
            let peek: Peek = serde_json::from_slice(json).map_err(|e| error!(Format, "{e}"))?;
            match read {
                Err(fault) if peek.model.r#type.as_deref() == Some("BPE") => fail!(Format, "{fault}"),
                _ => other_tables(json),
            }
        }
    }
}

/// Any model that the crate knows.
fn other_tables(json: &[u8]) -> Result<Tables> {
    let value: Value = serde_json::from_slice(json).map_err(|e| error!(Format, "{e}"))?;
    let read: tokenizers::Tokenizer = serde_json::from_value(value).map_err(|e| error!(Format, "{e}"))?;
    let mut tables = Tables::new(Model::Other(read.get_model().clone()));
    tables.with_normalizer(read.get_normalizer().cloned()).map_err(|e| error!(Format, "normalizer: {e}"))?;
    tables.with_pre_tokenizer(read.get_pre_tokenizer().cloned());
    tables.with_post_processor(read.get_post_processor().cloned());
    tables.with_decoder(read.get_decoder().cloned());
    tables.with_added_vocabulary(read.get_added_vocabulary().clone());
    Ok(tables)
}

fn bpe_tables(file: BpeFile) -> Result<Tables> {
    if file.version != "1.0" {
        fail!(Unsupported, "version {:?}", file.version);
    }
    let mut tables = Tables::new(model(file.model).map_err(|e| e.at("model"))?);
    let normalizer: Option<NormalizerWrapper> = part("normalizer", file.normalizer)?;
    tables.with_normalizer(normalizer).map_err(|e| error!(Format, "normalizer: {e}"))?;
    tables.with_pre_tokenizer(part::<PreTokenizerWrapper>("pre_tokenizer", file.pre_tokenizer)?);
    tables.with_post_processor(part::<PostProcessorWrapper>("post_processor", file.post_processor)?);
    tables.with_decoder(part::<DecoderWrapper>("decoder", file.decoder)?);
    add_tokens(&mut tables, file.added_tokens)?;
    Ok(tables)
}

/// Adds tokens in their order. A new one gets the next free id, as in the crate, so that an id that says otherwise
/// is worth a warning: the model's row for it could not be what the file's author meant.
fn add_tokens(tokenizer: &mut Tables, entries: Vec<AddedEntry>) -> Result<()> {
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

fn model(model: BpeModel) -> Result<Model> {
    let marked = |mark: &Option<String>| mark.as_ref().is_some_and(|mark| !mark.is_empty());
    if marked(&model.continuing_subword_prefix) || marked(&model.end_of_word_suffix) {
        return Ok(Model::Other(crates_bpe(model)?.into()));
    }
    let rules = BpeRules {
        unk_token: model.unk_token,
        fuse_unk: model.fuse_unk.unwrap_or(false),
        byte_fallback: model.byte_fallback.unwrap_or(false),
        ignore_merges: model.ignore_merges.unwrap_or(false),
    };
    Ok(Model::Bpe(Bpe::new(model.vocab, &model.merges, rules)?))
}

/// The crate's model, for words whose parts bear marks.
fn crates_bpe(model: BpeModel) -> Result<BPE> {
    // The builder joins a merge's halves in a buffer as long as the longest token.
    let longest = model.vocab.iter().map(|(token, _)| token.len()).max().unwrap_or(0);
    let prefix = model.continuing_subword_prefix.as_deref().unwrap_or("");
    for Merge(a, b) in &model.merges {
        if !b.starts_with(prefix) || a.len() + b.len() - prefix.len() > longest {
            fail!(Format, "merges: {a:?} and {b:?} make no token of the vocabulary");
        }
    }
    let vocabulary: ahash::AHashMap<String, u32> =
        model.vocab.iter().map(|(token, id)| (token.to_owned(), id)).collect();
    let merges = model.merges.into_iter().map(|Merge(a, b)| (a.into_owned(), b.into_owned())).collect();
    // Nothing is cached: it would be what people wrote, kept for as long as the thread lives.
    let mut builder = BPE::builder()
        .vocab_and_merges(vocabulary, merges)
        .cache_capacity(0)
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
