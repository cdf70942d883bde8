//! A checkpoint of one or several safetensors files as one source of tensors.

use std::collections::HashMap;
use std::collections::hash_map;
use std::path::{Component, Path, PathBuf};

use safetensors::Dtype;
use serde_json::Value;

use super::header::{self, Entry};
use super::mapping::{self, WeightsMode};
use super::{Bytes, DType, Tensor, TensorSource};
use crate::engine::control::Control;
use crate::engine::error::{Error, Result, Status, error, fail};

const INDEX: &str = "model.safetensors.index.json";
const SINGLE: &str = "model.safetensors";
/// Longest index file read; the largest published ones stay below 20 MB.
const MAX_INDEX: u64 = 256 << 20;

/// The tensors of a model folder, their bytes held until the last view of them drops.
pub struct Checkpoint {
    files: Vec<Shard>,
    tensors: HashMap<String, Place>,
}

struct Shard {
    name: String,
    bytes: Bytes,
}

struct Place {
    shard: usize,
    entry: Entry,
}

impl Checkpoint {
    /// Opens the checkpoint at `path`: a folder with `model.safetensors`, or with `model.safetensors.index.json` and
    /// the shards it names, or with any `*.safetensors`; or one such file. Progress on `control` counts bytes.
    ///
    /// `Io` where the system refuses, `Format` where a file breaks its promises (message: file, then tensor or
    /// offset), `Memory` beyond the limit, `Cancelled` within one chunk.
    pub fn open(path: &Path, mode: WeightsMode, control: Option<&Control>) -> Result<Self> {
        let (files, index) = locate(path)?;
        let lengths = files.iter().map(|file| mapping::open_regular(file).map(|(_, length)| length));
        let total = lengths.sum::<Result<u64>>()?;
        let mut before = 0;
        let mut shards = Vec::with_capacity(files.len());
        for file in &files {
            let bytes = mapping::load(file, mode, &mut |done| {
                let Some(control) = control else { return Ok(()) };
                control.report(before + done, total);
                control.check()
            })?;
            before += bytes.as_slice().len() as u64;
            shards.push(Shard { name: file_name(file), bytes });
        }
        Self::index(shards, index)
    }

    /// The same for a look at names, dtypes and shapes: nothing is read ahead or counted against the memory limit.
    pub fn peek(path: &Path) -> Result<Self> {
        let (files, index) = locate(path)?;
        let shards = files.iter().map(|file| Ok(Shard { name: file_name(file), bytes: mapping::peek(file)? }));
        Self::index(shards.collect::<Result<_>>()?, index)
    }

    /// A checkpoint of files that are in memory already: `(file name, bytes)`.
    pub fn from_bytes(files: Vec<(String, Bytes)>) -> Result<Self> {
        Self::index(files.into_iter().map(|(name, bytes)| Shard { name, bytes }).collect(), None)
    }

    /// Bytes of all files.
    pub fn bytes_on_disk(&self) -> u64 {
        self.files.iter().map(|shard| shard.bytes.as_slice().len() as u64).sum()
    }

    fn index(shards: Vec<Shard>, index: Option<Index>) -> Result<Self> {
        let mut tensors = HashMap::new();
        for (number, shard) in shards.iter().enumerate() {
            for entry in header::parse(shard.bytes.as_slice()).map_err(|fault| fault.at(&shard.name))? {
                match tensors.entry(entry.name.clone()) {
                    hash_map::Entry::Vacant(slot) => {
                        slot.insert(Place { shard: number, entry });
                    }
                    hash_map::Entry::Occupied(slot) => {
                        let other: &Place = slot.get();
                        fail!(Format, "{}: {} is in {} too", shard.name, entry.name, shards[other.shard].name)
                    }
                }
            }
        }
        for (name, file) in index.into_iter().flatten() {
            match tensors.get(&name) {
                Some(place) if shards[place.shard].name == file => {}
                Some(place) => fail!(Format, "{INDEX}: {name} is in {}, not in {file}", shards[place.shard].name),
                None => fail!(Format, "{INDEX}: {name} is not in {file}"),
            }
        }
        Ok(Self { files: shards, tensors })
    }
}

impl TensorSource for Checkpoint {
    fn get(&self, name: &str) -> Result<Option<Tensor>> {
        let Some(Place { shard, entry }) = self.tensors.get(name) else { return Ok(None) };
        let dtype = match entry.dtype {
            Dtype::F32 => DType::F32,
            Dtype::F16 => DType::F16,
            Dtype::BF16 => DType::BF16,
            Dtype::U32 => DType::U32,
            Dtype::U8 => DType::U8,
            other => fail!(Unsupported, "{}: dtype {other}", self.place(name)),
        };
        let shard = &self.files[*shard];
        let Some(bytes) = shard.bytes.slice(entry.range.clone()) else {
            fail!(Internal, "{}: {:?} outside the file", self.place(name), entry.range)
        };
        Ok(Some(Tensor { name: name.to_owned(), dtype, shape: entry.shape.clone(), bytes }))
    }

    fn contains(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    fn names(&self) -> Vec<&str> {
        self.tensors.keys().map(String::as_str).collect()
    }

    fn place(&self, name: &str) -> String {
        match (self.tensors.get(name), self.files.as_slice()) {
            (Some(place), files) => format!("{}: {name}", files[place.shard].name),
            (None, [only]) => format!("{}: {name}", only.name),
            (None, _) => name.to_owned(),
        }
    }
}

type Index = Vec<(String, String)>;

/// The files that make up the checkpoint, and what an index promises about them.
fn locate(path: &Path) -> Result<(Vec<PathBuf>, Option<Index>)> {
    if path.is_file() {
        return Ok((vec![path.to_owned()], None));
    }
    let single = path.join(SINGLE);
    if single.exists() {
        return Ok((vec![single], None));
    }
    let index = path.join(INDEX);
    if index.exists() {
        let index = read_index(&index).map_err(|fault| match fault.status() {
            Status::Io => fault,
            _ => fault.at(INDEX),
        })?;
        let mut names: Vec<&String> = index.iter().map(|(_, file)| file).collect();
        names.sort();
        names.dedup();
        let files = names.into_iter().map(|name| {
            let file = path.join(name);
            if !file.exists() {
                fail!(Io, "{}: named by {INDEX} but missing", file.display())
            }
            Ok(file)
        });
        return Ok((files.collect::<Result<_>>()?, Some(index)));
    }
    let entries = std::fs::read_dir(path).map_err(|fault| Error::io(path, &fault))?;
    let mut files = Vec::new();
    for entry in entries {
        let file = entry.map_err(|fault| Error::io(path, &fault))?.path();
        if file.extension().is_some_and(|extension| extension == "safetensors") {
            files.push(file);
        }
    }
    files.sort();
    if files.is_empty() {
        fail!(Io, "{}: no .safetensors file", path.display())
    }
    Ok((files, None))
}

/// `(tensor, file)` pairs of an index. A file must lie beside the index: a name that leads elsewhere is refused.
fn read_index(path: &Path) -> Result<Index> {
    let text = mapping::read_text(path, MAX_INDEX)?;
    let value: Value = serde_json::from_str(&text).map_err(|fault| error!(Format, "not JSON: {fault}"))?;
    let Some(Value::Object(map)) = value.get("weight_map") else { fail!(Format, "weight_map: missing or no object") };
    if map.is_empty() {
        fail!(Format, "weight_map: empty")
    }
    let pairs = map.iter().map(|(tensor, file)| match file.as_str() {
        Some(file) if is_plain(file) => Ok((tensor.clone(), file.to_owned())),
        Some(file) => fail!(Format, "weight_map: {tensor}: {file:?} is not a file name in this folder"),
        None => fail!(Format, "weight_map: {tensor}: {file} is not a file name"),
    });
    pairs.collect()
}

fn is_plain(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    matches!((parts.next(), parts.next()), (Some(Component::Normal(part)), None) if part == name)
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}
