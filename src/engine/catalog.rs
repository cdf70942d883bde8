//! Which models a folder holds, loaded by nobody yet.

use std::path::{Path, PathBuf};

use super::error::Result;
use super::language_model::ModelInfo;
use super::model::discover::discover as walk;
use super::text::ChatTemplate;

/// One model that a walk came by.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its folder or file.
    pub path: PathBuf,
    /// What it is, or why it can't be loaded.
    pub outcome: Result<ModelInfo>,
}

/// Every model in `dir` and below, sorted by path, as [`super::model::discover`] finds them. Reads configs and headers, never weights.
pub fn discover(dir: &Path) -> Result<Vec<Entry>> {
    let found = walk(dir)?.into_iter();
    Ok(found
        .map(|found| Entry {
            outcome: found.outcome.map(|summary| ModelInfo::of(&summary, ChatTemplate::exists_in(&summary.dir))),
            path: found.path,
        })
        .collect())
}
