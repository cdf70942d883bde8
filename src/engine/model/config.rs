//! `config.json`, read once and asked through checks: every error names the file and the key.

use std::path::Path;

use serde_json::{Map, Value};

use crate::engine::error::{Result, Status, error, fail};
use crate::engine::weights::{DType, QuantBlock, mapping};

/// The file's name, as messages give it.
pub const FILE: &str = "config.json";
/// Longest config read; published ones stay below 1 MB.
const MAX_FILE: u64 = 16 << 20;
/// Largest width or vocabulary: ten times the largest published, small enough that two of them multiply safely.
pub const MAX_WIDTH: usize = 1 << 24;
/// Largest number of layers.
pub const MAX_LAYERS: usize = 4096;
/// Largest context.
pub const MAX_CONTEXT: usize = 1 << 27;

/// A parsed `config.json`.
#[derive(Clone, Debug)]
pub struct Config {
    root: Map<String, Value>,
}

/// An object of the config: the root, or one nested in it, with its place for messages.
#[derive(Clone, Debug)]
pub struct Section<'a> {
    map: &'a Map<String, Value>,
    /// Read where `map` lacks a key that the whole model shares (`dtype`, `tie_word_embeddings`, token ids).
    outer: Option<&'a Map<String, Value>>,
    /// `text_config.`, `rope_scaling.`, …: in front of keys in messages.
    place: String,
}

impl Config {
    /// Reads the `config.json` of a model folder.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(FILE);
        Self::parse(&mapping::read_text(&path, MAX_FILE)?)
    }

    /// Parses the file's text. `Format` where it is not a JSON object.
    pub fn parse(text: &str) -> Result<Self> {
        match serde_json::from_str(text) {
            Ok(Value::Object(root)) => Ok(Self { root }),
            Ok(_) => fail!(Format, "{FILE}: not a JSON object"),
            Err(fault) => fail!(Format, "{FILE}: not JSON: {fault}"),
        }
    }

    /// All of it.
    pub fn root(&self) -> Section<'_> {
        Section { map: &self.root, outer: None, place: String::new() }
    }

    /// The part that describes the language model: `text_config` where there is one, else all of it.
    pub fn text(&self) -> Result<Section<'_>> {
        match self.root.get("text_config") {
            None | Some(Value::Null) => Ok(self.root()),
            Some(Value::Object(map)) => Ok(Section { map, outer: Some(&self.root), place: "text_config.".into() }),
            Some(_) => fail!(Format, "{FILE}: text_config: not an object"),
        }
    }

    /// `model_type`. `Format` where it is missing.
    pub fn model_type(&self) -> Result<&str> {
        self.root().text("model_type")?.ok_or_else(|| error!(Format, "{FILE}: model_type: missing"))
    }

    /// `architectures[0]`, or empty.
    pub fn architecture(&self) -> String {
        let first = self.root.get("architectures").and_then(|list| list.get(0)).and_then(Value::as_str);
        first.unwrap_or_default().to_owned()
    }

    /// MLX's `quantization` block, or `None` for a model without one. `Unsupported` names another tool's method.
    pub fn quantisation(&self) -> Result<Option<QuantBlock>> {
        for key in ["quantization", "quantization_config"] {
            let block = match self.root.get(key) {
                None | Some(Value::Null) => continue,
                Some(Value::Object(block)) => block,
                Some(_) => fail!(Format, "{FILE}: {key}: not an object"),
            };
            if let Some(method) = block.get("quant_method") {
                fail!(Unsupported, "{FILE}: {key}.quant_method: {method}")
            }
            return QuantBlock::parse(block).map(Some).map_err(|fault| fault.at(format_args!("{FILE}: {key}")));
        }
        Ok(None)
    }
}

impl<'a> Section<'a> {
    /// The value at `key`; `null` counts as absent.
    pub fn get(&self, key: &str) -> Option<&'a Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }

    /// Whether `key` stands there, be it `null`: absent keys take class defaults, `null` means none.
    pub fn has(&self, key: &str) -> bool {
        self.map.contains_key(key)
    }

    /// Whether this is an object within the config, not the config itself.
    pub fn is_nested(&self) -> bool {
        self.outer.is_some()
    }

    /// The same, looked up in the enclosing object where this one lacks it.
    fn shared(&self, key: &str) -> Option<&'a Value> {
        self.get(key).or_else(|| self.outer?.get(key).filter(|value| !value.is_null()))
    }

    /// The object at `key`.
    pub fn object(&self, key: &str) -> Result<Option<Section<'a>>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Object(map)) => Ok(Some(Section { map, outer: None, place: format!("{}{key}.", self.place) })),
            Some(other) => Err(self.wrong(key, other, "an object")),
        }
    }

    /// A number of things, 1 to `most`.
    pub fn count(&self, key: &str, most: usize) -> Result<Option<usize>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        // Some writers store whole numbers as 4096.0.
        let whole = |float: f64| (float.fract() == 0.0 && (0.0..=1e15).contains(&float)).then_some(float as u64);
        match value.as_u64().or_else(|| value.as_f64().and_then(whole)) {
            Some(number) if number >= 1 && number <= most as u64 => Ok(Some(number as usize)),
            _ => Err(self.wrong(key, value, &format!("an integer from 1 to {most}"))),
        }
    }

    /// A number of things that has to be there.
    pub fn need(&self, key: &str, most: usize) -> Result<usize> {
        self.count(key, most)?.ok_or_else(|| self.missing(key))
    }

    /// A number of things or a position, 0 to [`MAX_WIDTH`].
    pub fn index(&self, key: &str) -> Result<Option<usize>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match value.as_u64() {
            Some(number) if number <= MAX_WIDTH as u64 => Ok(Some(number as usize)),
            _ => Err(self.wrong(key, value, &format!("an integer from 0 to {MAX_WIDTH}"))),
        }
    }

    /// A finite number.
    pub fn float(&self, key: &str) -> Result<Option<f64>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match value.as_f64().filter(|number| number.is_finite()) {
            Some(number) => Ok(Some(number)),
            None => Err(self.wrong(key, value, "a number")),
        }
    }

    /// A number above zero that single precision holds, since that is what it will be computed in.
    pub fn positive(&self, key: &str) -> Result<Option<f64>> {
        let Some(number) = self.float(key)? else { return Ok(None) };
        if number > 0.0 && (number as f32).is_normal() {
            return Ok(Some(number));
        }
        Err(self.wrong(key, self.get(key).unwrap_or(&Value::Null), "a number above zero and below 1e38"))
    }

    /// True or false.
    pub fn flag(&self, key: &str) -> Result<Option<bool>> {
        self.get(key).map(|value| value.as_bool().ok_or_else(|| self.wrong(key, value, "true or false"))).transpose()
    }

    /// A string.
    pub fn text(&self, key: &str) -> Result<Option<&'a str>> {
        self.get(key).map(|value| value.as_str().ok_or_else(|| self.wrong(key, value, "a string"))).transpose()
    }

    /// A list of strings.
    pub fn texts(&self, key: &str) -> Result<Option<Vec<&'a str>>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let list = value.as_array().and_then(|list| list.iter().map(Value::as_str).collect());
        list.map(Some).ok_or_else(|| self.wrong(key, value, "a list of strings"))
    }

    /// Whether the head is the embedding table: this section's word, else the enclosing one's, else `default`.
    pub fn tied(&self, default: bool) -> Result<bool> {
        let key = "tie_word_embeddings";
        match self.shared(key) {
            None => Ok(default),
            Some(value) => value.as_bool().ok_or_else(|| self.wrong(key, value, "true or false")),
        }
    }

    /// The element type that the weights were saved in (`dtype`, before that `torch_dtype`), where it is said. The
    /// outer config's word comes first: it decides how transformers loads the whole.
    pub fn dtype(&self) -> Option<DType> {
        let said =
            |map: &'a Map<String, Value>| ["dtype", "torch_dtype"].iter().find_map(|key| map.get(*key)?.as_str());
        let name = self.outer.and_then(said).or_else(|| said(self.map))?;
        match name.trim_start_matches("torch.") {
            "float32" => Some(DType::F32),
            "float16" => Some(DType::F16),
            "bfloat16" => Some(DType::BF16),
            _ => None,
        }
    }

    /// `Format` for a key that has to be there.
    pub fn missing(&self, key: &str) -> crate::engine::error::Error {
        error!(Format, "{}: missing", self.path(key))
    }

    /// `Format` for a value of the wrong kind or size.
    pub fn wrong(&self, key: &str, value: &Value, expected: &str) -> crate::engine::error::Error {
        error!(Format, "{}: {}, expected {expected}", self.path(key), shorten(value))
    }

    /// `Unsupported` for a value that is fine, but not something this library can run.
    pub fn unsupported(&self, key: &str) -> crate::engine::error::Error {
        let value = self.shared(key).unwrap_or(&Value::Null);
        error!(Unsupported, "{}: {} is not supported", self.path(key), shorten(value))
    }

    /// The file and the key's place in it.
    pub fn path(&self, key: &str) -> String {
        format!("{FILE}: {}{key}", self.place)
    }
}

/// A value for a message: one short line.
fn shorten(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}

/// The ids at `key` of a config or generation config: one id, a list of ids, or none.
pub fn token_ids(file: &str, map: &Map<String, Value>, key: &str) -> Result<Vec<u32>> {
    let id = |value: &Value| match value.as_u64().and_then(|id| u32::try_from(id).ok()) {
        Some(id) => Ok(id),
        None => fail!(Format, "{file}: {key}: {}, expected a token id", shorten(value)),
    };
    match map.get(key) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(list)) => list.iter().map(id).collect(),
        Some(value) => Ok(vec![id(value)?]),
    }
}

/// The end and beginning tokens of a model folder: `generation_config.json` first, then what `config.json` (text
/// part, then outer part) adds. `(eos, bos)`.
pub fn special_ids(folder: &Path, config: &Config) -> Result<(Vec<u32>, Option<u32>)> {
    const GENERATION: &str = "generation_config.json";
    let generation = match mapping::read_text(&folder.join(GENERATION), MAX_FILE) {
        Ok(text) => match serde_json::from_str(&text) {
            Ok(Value::Object(map)) => map,
            Ok(_) => fail!(Format, "{GENERATION}: not a JSON object"),
            Err(fault) => fail!(Format, "{GENERATION}: not JSON: {fault}"),
        },
        Err(fault) if fault.status() == Status::Io && !folder.join(GENERATION).exists() => Map::new(),
        Err(fault) => return Err(fault),
    };
    let text = config.text()?;
    let (mut eos, mut bos) = (Vec::new(), Vec::new());
    for (file, map) in [(GENERATION, &generation), (FILE, text.map), (FILE, &config.root)] {
        eos.extend(token_ids(file, map, "eos_token_id")?);
        bos.extend(token_ids(file, map, "bos_token_id")?);
    }
    let mut seen = std::collections::HashSet::new();
    eos.retain(|id| seen.insert(*id));
    Ok((eos, bos.first().copied()))
}
