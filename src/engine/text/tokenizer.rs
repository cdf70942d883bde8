//! The tokenizer of a model folder.

use std::path::Path;
use std::sync::Arc;

use super::config::{CONFIG_FILE, SPECIAL_MAP_FILE, TokenizerConfig, read_optional};
use super::detokenizer::Detokenizer;
use super::file::{self, Tables};
use super::pieces::{Kind, Pieces};
use crate::engine::error::{Error, Result, error, fail};

const TOKENIZER_FILE: &str = "tokenizer.json";

/// Text to token ids and back, as the model was trained with. A clone is a counted pointer to the same tables; any
/// number of threads may use them at once.
#[derive(Clone)]
pub struct Tokenizer(Arc<Inner>);

struct Inner {
    tokenizer: Tables,
    config: TokenizerConfig,
    pieces: Pieces,
    cleans_up: bool,
    /// Ids put around a text by `add_bos_token` and `add_eos_token`, where the configuration states either;
    /// otherwise the post-processor of `tokenizer.json` decides.
    around: Option<(Option<u32>, Option<u32>)>,
}

impl Tokenizer {
    /// Reads `tokenizer.json`, and `tokenizer_config.json` and `special_tokens_map.json` where they exist.
    ///
    /// Errors: `Io` where `tokenizer.json` cannot be read, `Format` where a file is damaged, `Unsupported` for kinds
    /// of tokenizers that this library does not know; each names file and key.
    pub fn from_dir(dir: &Path) -> Result<Self> {
        let path = dir.join(TOKENIZER_FILE);
        let json = match read_optional(&path)? {
            Some(json) => json,
            None if dir.join("tokenizer.model").exists() => fail!(
                Unsupported,
                "{}: missing; tokenizer.model alone is not read (transformers' save_pretrained writes tokenizer.json)",
                path.display()
            ),
            None => fail!(Io, "{}: no such file", path.display()),
        };
        let config = TokenizerConfig::from_dir(dir).map_err(|e| e.at(dir.display()))?;
        Self::new(&json, config).map_err(|e| e.at(dir.display()))
    }

    /// The same from the bytes of `tokenizer.json`, `tokenizer_config.json` and `special_tokens_map.json`.
    pub fn from_bytes(json: &[u8], config: Option<&[u8]>, special_map: Option<&[u8]>) -> Result<Self> {
        Self::new(json, TokenizerConfig::from_bytes(config, special_map)?)
    }

    fn new(json: &[u8], config: TokenizerConfig) -> Result<Self> {
        let mut tokenizer = file::read(json).map_err(|e| e.at(TOKENIZER_FILE))?;
        add_configured_tokens(&mut tokenizer, &config)?;

        let pieces = Pieces::new(&tokenizer)?;
        let bpe = tokenizer.get_model().is_bpe();
        let id_of = |key: &str| config.special(key).and_then(|text| tokenizer.token_to_id(text));
        let around = (config.add_bos.is_some() || config.add_eos.is_some()).then(|| {
            let id = |add: Option<bool>, key| if add == Some(true) { id_of(key) } else { None };
            (id(config.add_bos, "bos_token"), id(config.add_eos, "eos_token"))
        });
        let cleans_up = config.clean_up && (!bpe || config.clean_up_bpe);
        Ok(Self(Arc::new(Inner { tokenizer, config, pieces, cleans_up, around })))
    }

    /// The token ids of `text`. Special tokens written out in the text become their ids, as in transformers.
    /// `add_special`: with what the model expects around a text (BOS); a text that a chat template rendered already
    /// has it. Errors: a tokenizer whose own tables are incomplete (`Format`), half a million white-space characters in
    /// a row (`Argument`).
    pub fn encode(&self, text: &str, add_special: bool) -> Result<Vec<u32>> {
        let inner = &*self.0;
        refuse_endless_space(text)?;
        let by_file = add_special && inner.around.is_none();
        let encoding = inner
            .tokenizer
            .encode_fast(text, by_file)
            .map_err(|e| error!(Format, "{TOKENIZER_FILE}: the text cannot be encoded: {e}"))?;
        match inner.around {
            Some((bos, eos)) if add_special && (bos.is_some() || eos.is_some()) => {
                Ok(bos.into_iter().chain(encoding.get_ids().iter().copied()).chain(eos).collect())
            }
            _ => Ok(encoding.get_ids().to_vec()),
        }
    }

    /// The text of `ids`. Bytes that are not UTF-8 become U+FFFD, ids that no token has are left out, and with
    /// `skip_special` special tokens are too.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> String {
        let mut text = String::with_capacity(ids.len() * 4);
        let mut detokenizer = Detokenizer::new(self, skip_special);
        for &id in ids {
            detokenizer.push(id, &mut text);
        }
        detokenizer.finish(&mut text);
        text
    }

    /// One past the highest id. A model's own vocabulary is often larger (rows of padding).
    pub fn vocab_size(&self) -> usize {
        self.0.pieces.len()
    }

    /// The bytes that a token adds to a text (SentencePiece's `▁` is a space); `None` where no token has this id.
    /// Of many tokens they are no UTF-8 alone.
    pub fn token_bytes(&self, id: u32) -> Option<&[u8]> {
        (self.0.pieces.kind(id) != Kind::Missing).then(|| self.0.pieces.bytes(id))
    }

    /// Whether the token steers the model and is no text (BOS, end of turn, …).
    pub fn is_special(&self, id: u32) -> bool {
        self.0.pieces.is_special(id)
    }

    /// The id of a token by its text in the vocabulary, special tokens included.
    pub fn token_to_id(&self, token: &str) -> Option<u32> {
        self.0.tokenizer.token_to_id(token)
    }

    /// A token as the vocabulary writes it.
    pub fn id_to_token(&self, id: u32) -> Option<String> {
        self.0.tokenizer.id_to_token(id)
    }

    /// The text of a special token by its key in the configuration: `bos_token`, `eos_token`, `pad_token`, …
    pub fn special_token(&self, key: &str) -> Option<&str> {
        self.0.config.special(key)
    }

    /// Every special token that the configuration names, by key.
    pub fn special_tokens(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.config.special.iter().map(|(key, text)| (key.as_str(), text.as_str()))
    }

    /// Id of the token that begins a text.
    pub fn bos_id(&self) -> Option<u32> {
        self.special_id("bos_token")
    }

    /// Id of the token that ends a text. Models may end at others too; `generation_config.json` lists them.
    pub fn eos_id(&self) -> Option<u32> {
        self.special_id("eos_token")
    }

    /// Id of the token that fills up batches.
    pub fn pad_id(&self) -> Option<u32> {
        self.special_id("pad_token")
    }

    fn special_id(&self, key: &str) -> Option<u32> {
        self.special_token(key).and_then(|text| self.token_to_id(text))
    }

    pub(super) fn chat_templates(&self) -> &[(String, String)] {
        &self.0.config.chat_templates
    }

    pub(super) fn pieces(&self) -> &Pieces {
        &self.0.pieces
    }

    pub(super) fn cleans_up(&self) -> bool {
        self.0.cleans_up
    }
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tokenizer({} tokens)", self.vocab_size())
    }
}

/// The regular expression that splits words off keeps a stack entry for each white-space character of a run, and past
/// a million of them gives up without a word: the rest of the text would be split wrongly.
fn refuse_endless_space(text: &str) -> Result<()> {
    const MOST: usize = 500_000;
    let mut run = 0;
    if text.len() > MOST {
        for c in text.chars() {
            run = if c.is_whitespace() { run + 1 } else { 0 };
            if run > MOST {
                fail!(Argument, "the text has more than {MOST} white-space characters in a row");
            }
        }
    }
    Ok(())
}

/// Adds what `tokenizer_config.json` says about added tokens to what `tokenizer.json` says: its flags win, and tokens
/// that only it knows are new. A new token whose id would not be the one stated is left out, because the model's
/// row for it could not be named.
fn add_configured_tokens(tokenizer: &mut Tables, config: &TokenizerConfig) -> Result<()> {
    let mut next = tokenizer.get_vocab_size(true) as u32;
    let mut tokens = Vec::new();
    for entry in &config.added {
        let known = tokenizer.get_added_vocabulary().get_added_tokens_decoder().get(&entry.id);
        if known == Some(&entry.token) {
            continue;
        }
        match tokenizer.token_to_id(&entry.token.content) {
            Some(id) if id == entry.id => {}
            None if entry.id == next => next += 1,
            other => {
                let stands = other.map_or("not in tokenizer.json".into(), |id| format!("{id} in tokenizer.json"));
                log::warn!(
                    "{CONFIG_FILE}: added_tokens_decoder: {:?} has id {} here and is {stands}; left as it is there",
                    entry.token.content,
                    entry.id
                );
                continue;
            }
        }
        tokens.push(entry.token.clone());
    }
    // A named special token (eos_token and its like) is special even where its entry forgets to say so.
    for (_, text) in &config.special {
        if let Some(token) = tokens.iter_mut().find(|token| token.content == *text) {
            token.special = true;
            continue;
        }
        let Some(id) = tokenizer.token_to_id(text) else { continue };
        match tokenizer.get_added_vocabulary().get_added_tokens_decoder().get(&id) {
            Some(token) if token.special => {}
            Some(token) => tokens.push(token.clone().special(true)),
            None => tokens.push(tokenizers::AddedToken::from(text.clone(), true)),
        }
    }
    if !tokens.is_empty() {
        tokenizer.add_tokens(tokens).map_err(|e| {
            Error::new(crate::engine::Status::Format, format!("{CONFIG_FILE} or {SPECIAL_MAP_FILE}: added tokens: {e}"))
        })?;
    }
    Ok(())
}
