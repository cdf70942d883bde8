//! Which models lie below a folder, from their configs and headers alone.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::load::{ModelSummary, inspect};
use crate::engine::error::{Error, Result, fail};

/// One model that a walk came by.
#[derive(Clone, Debug)]
pub struct Found {
    /// Its folder, or its file where one file is all of it (GGUF).
    pub path: PathBuf,
    /// What it is, or why it cannot be loaded.
    pub outcome: Result<ModelSummary>,
}

/// How deep below the start a model may lie. A Hugging Face cache needs three
/// (`models--publisher--model/snapshots/revision`).
const MAX_DEPTH: usize = 6;

/// Every model in `dir` and the folders below it, sorted by path: each folder with a `config.json` or a
/// `.safetensors` file, and each `.gguf` file, with its summary or the reason why it cannot be loaded.
///
/// Links are followed, each folder is looked at once; folders whose names start with a dot and the blobs of a cache
/// are passed over. Reads configs and headers, never weights, so a damaged weight goes unseen here. `Io` where `dir`
/// itself is missing or may not be read; what lies below it never fails the walk.
pub fn discover(dir: &Path) -> Result<Vec<Found>> {
    let mut found = Vec::new();
    let mut seen = HashSet::new();
    let (mut open, mut links) = (vec![(dir.to_owned(), 0)], Vec::new());
    // Links come last, so that a folder is reported where it really lies, if that is below `dir`.
    while let Some((folder, depth)) = open.pop().or_else(|| links.pop()) {
        // A folder that vanished meanwhile is no model.
        if !folder.canonicalize().is_ok_and(|real| seen.insert(real)) && depth > 0 {
            continue;
        }
        let entries = match Listing::read(&folder) {
            Ok(entries) => entries,
            Err(fault) if depth == 0 => return Err(fault),
            Err(fault) => {
                found.push(Found { path: folder, outcome: Err(fault) });
                continue;
            }
        };
        found.extend(entries.gguf.into_iter().map(|path| {
            let outcome = Err(crate::engine::error::error!(Unsupported, "{}: GGUF is not supported", path.display()));
            Found { path, outcome }
        }));
        if entries.is_model {
            found.push(Found { outcome: look(&folder), path: folder });
        }
        if depth < MAX_DEPTH {
            open.extend(entries.folders.into_iter().map(|folder| (folder, depth + 1)));
            links.extend(entries.links.into_iter().map(|folder| (folder, depth + 1)));
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

/// What `load` would say, and whether a tokenizer stands beside the weights.
fn look(folder: &Path) -> Result<ModelSummary> {
    let summary = inspect(folder)?;
    if !folder.join("tokenizer.json").is_file() {
        fail!(Io, "{}: missing", folder.join("tokenizer.json").display())
    }
    Ok(summary)
}

#[derive(Default)]
struct Listing {
    folders: Vec<PathBuf>,
    /// Links to folders.
    links: Vec<PathBuf>,
    gguf: Vec<PathBuf>,
    is_model: bool,
}

impl Listing {
    fn read(folder: &Path) -> Result<Self> {
        let at_folder = |fault: std::io::Error| Error::io(folder, &fault);
        let mut listing = Self::default();
        for entry in fs::read_dir(folder).map_err(at_folder)? {
            let entry = entry.map_err(at_folder)?;
            let (path, name) = (entry.path(), entry.file_name());
            let name = name.to_string_lossy();
            // Only a link costs a look at the file itself.
            let kind = entry.file_type().map_err(at_folder)?;
            let is_dir = if kind.is_symlink() { path.is_dir() } else { kind.is_dir() };
            match path.extension().and_then(|extension| extension.to_str()) {
                _ if is_dir && (name.starts_with('.') || name == "blobs") => {}
                _ if is_dir && kind.is_symlink() => listing.links.push(path),
                _ if is_dir => listing.folders.push(path),
                Some("safetensors") => listing.is_model = true,
                Some("gguf") => listing.gguf.push(path),
                _ => listing.is_model |= name == super::config::FILE,
            }
        }
        Ok(listing)
    }
}
