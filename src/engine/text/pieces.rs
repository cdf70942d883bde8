//! What each token contributes to a text, as bytes, and the rules by which contributions join.
//!
//! `tokenizer.json` describes decoding as a chain of list transformations. The chains that language models publish
//! come down to: byte-level BPE (GPT-2, Llama 3, Qwen, gpt-oss), SentencePiece with byte fallback (Llama 2, Gemma,
//! Mistral) and Metaspace. Each is worked out once per token here, so that streaming costs a table look-up.

use std::borrow::Cow;

use serde::Deserialize;

use super::file::Tables;
use super::vocabulary::MAX_ID;
use crate::engine::error::{Result, error, fail};

/// How the pieces of a text join.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct JoinRules {
    /// Pieces are bytes of UTF-8 (byte-level BPE); what is not UTF-8 becomes U+FFFD.
    pub byte_level: bool,
    /// `<0xNN>` tokens stand for single bytes: a run of them is UTF-8, or one U+FFFD each.
    pub byte_fallback: bool,
    /// A space stands between two pieces (files without a decoder).
    pub spaced: bool,
    /// Up to this many of this character are dropped at the beginning of a text.
    pub strip: Option<(char, usize)>,
    /// In the first piece of a text this character is dropped (Metaspace).
    pub first_drops: Option<char>,
}

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// No such id.
    Missing,
    /// Valid UTF-8 alone.
    Text,
    /// Some bytes that are UTF-8 only together with its neighbours'.
    Bytes,
    /// One byte of a byte-fallback run.
    Byte,
}

/// The table: contribution, kind and special flag of every token.
pub(super) struct Pieces {
    pub rules: JoinRules,
    bytes: Vec<u8>,
    /// `bytes[starts[id]..starts[id + 1]]` is the token's contribution.
    starts: Vec<u32>,
    kinds: Vec<Kind>,
    special: Vec<bool>,
}

impl Pieces {
    /// Works out the table. Errors: a decoder this library does not know (`Unsupported`), ids out of range (`Format`).
    pub fn new(tokenizer: &Tables) -> Result<Self> {
        let (rules, replaces) = rules(tokenizer)?;
        let added = tokenizer.get_added_vocabulary();
        let mut texts = Texts::default();
        tokenizer.get_model().each_token(|id, text| texts.put(id, text))?;
        for &id in added.get_added_tokens_decoder().keys() {
            if let Some(text) = added.simple_id_to_token(id) {
                texts.put(id, &text)?;
            }
        }
        let byte_of = byte_level_alphabet();
        let count = texts.spans.len();
        let mut this = Self {
            rules,
            bytes: Vec::with_capacity(texts.all.len()),
            starts: Vec::with_capacity(count + 1),
            kinds: Vec::with_capacity(count),
            special: Vec::with_capacity(count),
        };
        this.starts.push(0);
        for id in 0..count {
            let token = texts.get(id);
            let kind = token.map_or(Kind::Missing, |text| this.append(text, &replaces, &byte_of));
            this.kinds.push(kind);
            let end =
                u32::try_from(this.bytes.len()).map_err(|_| error!(Format, "tokenizer.json: over 4 GiB of tokens"))?;
            this.starts.push(end);
        }
        this.special.resize(count, false);
        for &id in added.get_added_tokens_decoder().keys() {
            let special = texts.get(id as usize).is_some_and(|text| added.is_special_token(text));
            this.special[id as usize] = special;
        }
        this.bytes.shrink_to_fit();
        Ok(this)
    }

    fn append(&mut self, token: &str, replaces: &[(String, String)], byte_of: &[Option<u8>]) -> Kind {
        let start = self.bytes.len();
        if self.rules.byte_level {
            // A token with a character outside the alphabet (an added token) stands for itself.
            let mapped = |c: char| byte_of.get(c as usize).copied().flatten();
            if token.chars().all(|c| mapped(c).is_some()) {
                self.bytes.extend(token.chars().filter_map(mapped));
            } else {
                self.bytes.extend_from_slice(token.as_bytes());
            }
        } else {
            let mut text = Cow::Borrowed(token);
            for (from, to) in replaces {
                // Looking for a single character, as nearly all have it, takes no preparation.
                let mut letters = from.chars();
                match (letters.next(), letters.next()) {
                    (Some(letter), None) if text.contains(letter) => text = text.replace(letter, to).into(),
                    (Some(_), Some(_)) => text = text.replace(from.as_str(), to).into(),
                    _ => {}
                }
            }
            if self.rules.byte_fallback
                && let Some(byte) = fallback_byte(&text)
            {
                self.bytes.push(byte);
                return Kind::Byte;
            }
            self.bytes.extend_from_slice(text.as_bytes());
        }
        if std::str::from_utf8(&self.bytes[start..]).is_ok() { Kind::Text } else { Kind::Bytes }
    }

    /// One past the highest id.
    pub fn len(&self) -> usize {
        self.kinds.len()
    }

    /// What the token is; `Missing` for any id outside the table.
    pub fn kind(&self, id: u32) -> Kind {
        self.kinds.get(id as usize).copied().unwrap_or(Kind::Missing)
    }

    /// The token's contribution; empty for a missing one.
    pub fn bytes(&self, id: u32) -> &[u8] {
        let at = id as usize;
        match (self.starts.get(at), self.starts.get(at + 1)) {
            (Some(&start), Some(&end)) => &self.bytes[start as usize..end as usize],
            _ => &[],
        }
    }

    /// Whether the token is left out of texts.
    pub fn is_special(&self, id: u32) -> bool {
        self.special.get(id as usize).copied().unwrap_or(false)
    }
}

/// The vocabulary's texts by id.
#[derive(Default)]
struct Texts {
    all: String,
    /// Where in `all` an id's text lies; later ones replace earlier ones.
    spans: Vec<Option<(usize, usize)>>,
}

impl Texts {
    fn put(&mut self, id: u32, text: &str) -> Result<()> {
        if id > MAX_ID {
            fail!(Format, "tokenizer.json: token {text:?} has id {id}; at most {MAX_ID} is accepted");
        }
        let at = id as usize;
        if self.spans.len() <= at {
            self.spans.resize(at + 1, None);
        }
        let start = self.all.len();
        self.all.push_str(text);
        self.spans[at] = Some((start, self.all.len()));
        Ok(())
    }

    fn get(&self, id: usize) -> Option<&str> {
        self.spans[id].map(|(start, end)| &self.all[start..end])
    }
}

/// The byte that a `<0xNN>` token stands for; the same test as the `tokenizers` crate's.
fn fallback_byte(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
    if digits.len() == 2 { u8::from_str_radix(digits, 16).ok() } else { None }
}

/// GPT-2's byte-to-character table, inverted and indexed by code point: printable Latin-1 stands for itself, the
/// other 68 bytes for U+0100 and up (`bytes_to_unicode` in openai/gpt-2 `encoder.py`).
fn byte_level_alphabet() -> Vec<Option<u8>> {
    let mut table = vec![None; 512];
    let mut next = 256;
    for byte in 0..=255u8 {
        let printable = matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
        let code = if printable { byte as usize } else { next };
        if !printable {
            next += 1;
        }
        table[code] = Some(byte);
    }
    table
}

/// The `decoder` of `tokenizer.json`, as far as published language models use it.
#[derive(Deserialize)]
#[serde(tag = "type")]
enum Decoder {
    ByteLevel {},
    Replace { pattern: ReplacePattern, content: String },
    ByteFallback {},
    Fuse {},
    Strip { content: char, start: usize, stop: usize },
    Metaspace { replacement: char, prepend_scheme: String },
    Sequence { decoders: Vec<Decoder> },
}

#[derive(Deserialize)]
enum ReplacePattern {
    String(String),
    Regex(serde::de::IgnoredAny),
}

type Replaces = Vec<(String, String)>;

fn rules(tokenizer: &Tables) -> Result<(JoinRules, Replaces)> {
    let Some(decoder) = tokenizer.get_decoder() else {
        return Ok((JoinRules { spaced: true, ..Default::default() }, Vec::new()));
    };
    let described = serde_json::to_value(decoder).map_err(|e| error!(Format, "tokenizer.json: decoder: {e}"))?;
    let parsed = Decoder::deserialize(&described).map_err(|e| {
        error!(Unsupported, "tokenizer.json: decoder: {e} (known: byte-level, SentencePiece, Metaspace)")
    })?;
    let mut steps = Vec::new();
    flatten(parsed, &mut steps);

    let mut rules = JoinRules::default();
    let mut replaces = Vec::new();
    let mut fused = false;
    // Steps are accepted in the one order whose meaning is a table per token plus rules for joining.
    for (at, step) in steps.into_iter().enumerate() {
        let bare = !fused && !rules.byte_fallback && rules.first_drops.is_none() && !rules.byte_level;
        match step {
            Decoder::ByteLevel {} if at == 0 => rules.byte_level = true,
            Decoder::Replace { pattern: ReplacePattern::String(from), content } if bare && !from.is_empty() => {
                replaces.push((from, content));
            }
            Decoder::ByteFallback {} if bare => rules.byte_fallback = true,
            Decoder::Metaspace { replacement, prepend_scheme } if at == 0 => {
                replaces.push((replacement.to_string(), " ".into()));
                if prepend_scheme != "never" {
                    rules.first_drops = Some(replacement);
                }
            }
            Decoder::Fuse {} => fused = true,
            Decoder::Strip { content, start, stop: 0 } if fused && rules.strip.is_none() => {
                rules.strip = Some((content, start));
            }
            _ => fail!(Unsupported, "tokenizer.json: decoder: its step {} has no known meaning at that place", at + 1),
        }
    }
    Ok((rules, replaces))
}

fn flatten(decoder: Decoder, into: &mut Vec<Decoder>) {
    match decoder {
        Decoder::Sequence { decoders } => decoders.into_iter().for_each(|inner| flatten(inner, into)),
        other => into.push(other),
    }
}
