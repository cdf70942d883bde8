//! The small files beside `tokenizer.json`: what `tokenizer_config.json` and `special_tokens_map.json` say.

use std::fmt;
use std::path::Path;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use serde_json::{Map, Value};

use crate::engine::error::{Error, Result, error, fail};

pub(super) const CONFIG_FILE: &str = "tokenizer_config.json";
pub(super) const SPECIAL_MAP_FILE: &str = "special_tokens_map.json";

/// An added token with its id: an entry of `added_tokens_decoder`, or of `added_tokens` in `tokenizer.json`.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct AddedEntry {
    pub id: u32,
    #[serde(flatten)]
    pub token: tokenizers::AddedToken,
}

/// What the small files say, checked and in the types this library uses.
#[derive(Clone, Debug, Default)]
pub(super) struct TokenizerConfig {
    /// `bos_token`, `eos_token`, … : every key that ends in `_token` and names a text.
    pub special: Vec<(String, String)>,
    /// `added_tokens_decoder`, by id.
    pub added: Vec<AddedEntry>,
    /// `add_bos_token`, where stated.
    pub add_bos: Option<bool>,
    /// `add_eos_token`, where stated.
    pub add_eos: Option<bool>,
    /// `clean_up_tokenization_spaces`.
    pub clean_up: bool,
    /// `clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output`.
    pub clean_up_bpe: bool,
    /// `chat_template`: `(name, source)`; one template without a name is called `default`.
    pub chat_templates: Vec<(String, String)>,
}

impl TokenizerConfig {
    /// Reads both files of `dir`; a missing one counts as empty.
    pub fn from_dir(dir: &Path) -> Result<Self> {
        let config = read_optional(&dir.join(CONFIG_FILE))?;
        let special = read_optional(&dir.join(SPECIAL_MAP_FILE))?;
        Self::from_bytes(config.as_deref(), special.as_deref())
    }

    /// The same from the files' bytes. Errors begin with the file's name.
    pub fn from_bytes(config: Option<&[u8]>, special_map: Option<&[u8]>) -> Result<Self> {
        let mut this = Self::default();
        if let Some(bytes) = config {
            let file: ConfigFile = serde_json::from_slice(bytes).map_err(|e| unreadable(&e).at(CONFIG_FILE))?;
            this.read_config(&file.map).map_err(|e| e.at(CONFIG_FILE))?;
            this.added = file.added;
            this.added.sort_by_key(|entry| entry.id);
        }
        if let Some(bytes) = special_map {
            let map = object(bytes).map_err(|e| e.at(SPECIAL_MAP_FILE))?;
            this.read_special(&map).map_err(|e| e.at(SPECIAL_MAP_FILE))?;
        }
        Ok(this)
    }

    /// The text of a special token by its key, such as `eos_token`.
    pub fn special(&self, key: &str) -> Option<&str> {
        self.special.iter().find(|(k, _)| k == key).map(|(_, text)| text.as_str())
    }

    fn read_config(&mut self, map: &Map<String, Value>) -> Result<()> {
        self.read_special(map)?;
        self.add_bos = boolean(map, "add_bos_token")?;
        self.add_eos = boolean(map, "add_eos_token")?;
        self.clean_up = boolean(map, "clean_up_tokenization_spaces")?.unwrap_or(false);
        self.clean_up_bpe =
            boolean(map, "clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output")?.unwrap_or(false);
        if let Some(value) = map.get("chat_template") {
            self.chat_templates = chat_templates(value)?;
        }
        Ok(())
    }

    /// Takes every `…_token` that is not known yet, so that the first file read wins.
    fn read_special(&mut self, map: &Map<String, Value>) -> Result<()> {
        for (key, value) in map {
            if !key.ends_with("_token") || self.special(key).is_some() {
                continue;
            }
            let text = match value {
                Value::String(text) => text.clone(),
                Value::Object(token) => match token.get("content") {
                    Some(Value::String(text)) => text.clone(),
                    _ => fail!(Format, "{key}: content: a string is needed"),
                },
                Value::Null | Value::Bool(_) => continue, // no such token; add_bos_token and its like
                _ => fail!(Format, "{key}: a string or an object is needed"),
            };
            self.special.push((key.clone(), text));
        }
        Ok(())
    }
}

/// `tokenizer_config.json`. The thousands of added tokens that some list are taken one by one: as JSON values all together
/// they would take ten times what they say.
struct ConfigFile {
    /// Everything but `added_tokens_decoder`.
    map: Map<String, Value>,
    added: Vec<AddedEntry>,
}

impl<'de> Deserialize<'de> for ConfigFile {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Keys;
        impl<'de> Visitor<'de> for Keys {
            type Value = ConfigFile;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut keys: A) -> std::result::Result<ConfigFile, A::Error> {
                let mut file = ConfigFile { map: Map::new(), added: Vec::new() };
                while let Some(key) = keys.next_key::<String>()? {
                    if key == "added_tokens_decoder" {
                        file.added = keys.next_value::<Option<AddedDecoder>>()?.map_or_else(Vec::new, |added| added.0);
                    } else {
                        file.map.insert(key, keys.next_value()?);
                    }
                }
                Ok(file)
            }
        }
        deserializer.deserialize_map(Keys)
    }
}

/// `added_tokens_decoder`: ids, as texts, and their tokens.
struct AddedDecoder(Vec<AddedEntry>);

impl<'de> Deserialize<'de> for AddedDecoder {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = AddedDecoder;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object for added_tokens_decoder")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> std::result::Result<AddedDecoder, A::Error> {
                let mut added = Vec::new();
                while let Some((id, entry)) = entries.next_entry::<String, Value>()? {
                    let entry = added_entry(&id, &entry);
                    added.push(entry.map_err(|e| A::Error::custom(e.at("added_tokens_decoder")))?);
                }
                Ok(AddedDecoder(added))
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

/// Text that is no JSON, or JSON that says something else.
fn unreadable(fault: &serde_json::Error) -> Error {
    match fault.classify() {
        serde_json::error::Category::Data => error!(Format, "{fault}"),
        _ => error!(Format, "not JSON: {fault}"),
    }
}

/// `chat_template` as a string, or as a list of `{name, template}`.
pub(super) fn chat_templates(value: &Value) -> Result<Vec<(String, String)>> {
    match value {
        Value::Null => Ok(Vec::new()),
        Value::String(source) => Ok(vec![("default".into(), source.clone())]),
        Value::Array(list) => list
            .iter()
            .map(|entry| match (entry.get("name"), entry.get("template")) {
                (Some(Value::String(name)), Some(Value::String(source))) => Ok((name.clone(), source.clone())),
                _ => Err(error!(Format, "chat_template: a list entry needs the strings name and template")),
            })
            .collect(),
        _ => fail!(Format, "chat_template: a string or a list is needed"),
    }
}

/// The file's bytes, or `None` where there is no such file.
pub(super) fn read_optional(path: &Path) -> Result<Option<Vec<u8>>> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::io(path, &e)),
    }
}

/// The bytes as one JSON object.
pub(super) fn object(bytes: &[u8]) -> Result<Map<String, Value>> {
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(_) => fail!(Format, "a JSON object is needed"),
        Err(e) => fail!(Format, "not JSON: {e}"),
    }
}

fn boolean(map: &Map<String, Value>, key: &str) -> Result<Option<bool>> {
    match map.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Bool(value)) => Ok(Some(*value)),
        Some(_) => fail!(Format, "{key}: true or false is needed"),
    }
}

fn added_entry(id: &str, entry: &Value) -> Result<AddedEntry> {
    let number = id.parse().map_err(|_| error!(Format, "{id:?} is no token id"))?;
    let Some(Value::String(content)) = entry.get("content") else { fail!(Format, "{id}: content: a string is needed") };
    let flag = |key| entry.get(key).and_then(Value::as_bool);
    let special = flag("special").unwrap_or(false);
    let token = tokenizers::AddedToken {
        content: content.clone(),
        single_word: flag("single_word").unwrap_or(false),
        lstrip: flag("lstrip").unwrap_or(false),
        rstrip: flag("rstrip").unwrap_or(false),
        normalized: flag("normalized").unwrap_or(!special),
        special,
    };
    Ok(AddedEntry { id: number, token })
}
