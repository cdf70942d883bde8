//! The header of one safetensors file: which tensor lies where.
//!
//! The `safetensors` crate parses and checks it. Its errors do not always say which tensor is at fault, so after a
//! refusal [`explain`] reads the header again only to name the culprit.

use safetensors::{Dtype, SafeTensorError, SafeTensors};
use serde_json::Value;

use crate::engine::error::{Error, Result, error};

/// One tensor's entry; `range` counts from the start of the file.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Name in the header.
    pub name: String,
    /// Element type as the file names it.
    pub dtype: Dtype,
    /// Extents, outermost first.
    pub shape: Vec<usize>,
    /// Bytes in the file.
    pub range: std::ops::Range<usize>,
}

/// Largest header that the format allows.
const MAX_HEADER: u64 = 100_000_000;

/// Every tensor of the file `bytes`. On success the ranges lie inside the file, do not overlap, leave no hole, and
/// each is as long as its shape and dtype say. Errors name the tensor or the offset; the caller adds the file.
pub fn parse(bytes: &[u8]) -> Result<Vec<Entry>> {
    let (header, metadata) = SafeTensors::read_metadata(bytes).map_err(|refusal| explain(bytes, &refusal))?;
    let start = 8 + header;
    let entries = metadata.tensors().into_iter().map(|(name, info)| {
        let (from, to) = info.data_offsets;
        Entry { name, dtype: info.dtype, shape: info.shape.clone(), range: start + from..start + to }
    });
    Ok(entries.collect())
}

/// Says what is wrong with a header that the crate refused, as precisely as can be found out.
fn explain(bytes: &[u8], refusal: &SafeTensorError) -> Error {
    let Some((length, rest)) = bytes.split_first_chunk::<8>() else {
        return error!(Format, "{} bytes, too few for a safetensors header", bytes.len());
    };
    let length = u64::from_le_bytes(*length);
    if length > MAX_HEADER {
        return error!(Format, "header length {length} at offset 0 is beyond the {MAX_HEADER} that the format allows");
    }
    let Some(header) = rest.get(..length as usize) else {
        return error!(Format, "header length {length} at offset 0 passes the end of the file at {}", bytes.len());
    };
    let data = (rest.len() - header.len()) as u64;
    match serde_json::from_slice::<Value>(header) {
        Ok(Value::Object(map)) => first_fault(&map, data).unwrap_or_else(|| error!(Format, "{refusal}")),
        Ok(_) => error!(Format, "the header is not a JSON object"),
        Err(fault) => {
            error!(Format, "the header of {length} bytes is not JSON: {fault}")
        }
    }
}

fn first_fault(map: &serde_json::Map<String, Value>, data: u64) -> Option<Error> {
    let mut spans = Vec::with_capacity(map.len());
    for (name, value) in map.iter().filter(|(name, _)| *name != "__metadata__") {
        match span(name, value) {
            Ok((from, to)) => spans.push((from, to, name)),
            Err(fault) => return Some(fault),
        }
    }
    spans.sort();
    let mut end = 0;
    for (from, to, name) in spans {
        if to > data {
            return Some(error!(Format, "{name}: data_offsets [{from}, {to}] pass the file's {data} bytes of data"));
        }
        if from < end {
            return Some(error!(Format, "{name}: data_offsets [{from}, {to}] overlap the tensor that ends at {end}"));
        }
        if from > end {
            return Some(error!(Format, "{name}: data_offsets [{from}, {to}] leave a hole after offset {end}"));
        }
        end = to;
    }
    (end < data).then(|| error!(Format, "the tensors end at offset {end} of {data} bytes of data"))
}

/// A tensor's data offsets, after checking its entry on its own.
fn span(name: &str, value: &Value) -> Result<(u64, u64)> {
    let dtype = match value.get("dtype") {
        Some(Value::String(text)) => text,
        _ => return Err(error!(Format, "{name}: no dtype in the header")),
    };
    let bits = match serde_json::from_value::<Dtype>(Value::String(dtype.clone())) {
        Ok(known) => known.bitsize() as u64,
        Err(_) => return Err(error!(Format, "{name}: unknown dtype \"{dtype}\"")),
    };
    let numbers = |key: &str| -> Result<Vec<u64>> {
        let list = value.get(key).and_then(Value::as_array);
        list.and_then(|list| list.iter().map(Value::as_u64).collect())
            .ok_or_else(|| error!(Format, "{name}: {key} is not a list of non-negative integers"))
    };
    let shape = numbers("shape")?;
    let offsets = numbers("data_offsets")?;
    let [from, to] = offsets[..] else {
        return Err(error!(Format, "{name}: data_offsets has {} entries, expected 2", offsets.len()));
    };
    if to < from {
        return Err(error!(Format, "{name}: data_offsets [{from}, {to}] run backwards"));
    }
    let size = shape.iter().try_fold(bits, |product, extent| product.checked_mul(*extent)).map(|bits| bits / 8);
    match size {
        Some(size) if size == to - from => Ok((from, to)),
        Some(size) => Err(error!(
            Format,
            "{name}: {dtype} {shape:?} takes {size} bytes, data_offsets [{from}, {to}] hold {}",
            to - from
        )),
        None => Err(error!(Format, "{name}: the size of {dtype} {shape:?} overflows")),
    }
}
