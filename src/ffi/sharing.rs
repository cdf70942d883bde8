//! Models that callers in one process share: who asks for the same folder with the same options gets a handle of the
//! model that is there, and whoever comes while it still loads waits for it.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::model::OwnedModel;
use crate::engine::ModelOptions;
use crate::engine::error::{Result, fail};
use crate::engine::sync::{Condvar, Mutex, MutexGuard};

/// What makes two loads the same.
#[derive(Clone, PartialEq)]
pub(super) struct Key {
    path: PathBuf,
    options: String,
    /// A child of fork() has none of its parent's models.
    pid: u32,
}

impl Key {
    pub fn new(path: &Path, options: &ModelOptions) -> Self {
        let alike = ModelOptions { control: None, ..options.clone() };
        // A path that does not exist is left to the load, which says so.
        let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        Self { path, options: format!("{alike:?}"), pid: std::process::id() }
    }
}

struct Entry {
    key: Key,
    /// Not counted among its handles; `None` while it loads.
    model: Option<OwnedModel>,
    /// The one that is counted and never freed.
    kept: Option<OwnedModel>,
}

static TABLE: Mutex<Vec<Entry>> = Mutex::new(Vec::new());
static CHANGED: Condvar = Condvar::new();

/// How often who waits for another's load looks whether it was cancelled.
const PATIENCE: Duration = Duration::from_millis(20);

/// The table, held only for moments. A fork() in one of them leaves a child's copy locked for ever.
fn table() -> Result<MutexGuard<'static, Vec<Entry>>> {
    let begun = Instant::now();
    loop {
        match TABLE.try_lock() {
            Some(table) => return Ok(table),
            None if begun.elapsed() > Duration::from_secs(10) => {
                fail!(State, "the process forked while a model was being shared")
            }
            None => std::thread::sleep(Duration::from_micros(200)),
        }
    }
}

/// One more owner of the model of `key`, which `load` makes where there is none. `keep` lets it stay for ever.
pub(super) fn get(
    key: Key,
    keep: bool,
    options: &ModelOptions,
    load: impl FnOnce() -> Result<OwnedModel>,
) -> Result<OwnedModel> {
    let mut entries = table()?;
    while let Some(place) = entries.iter().position(|entry| entry.key == key) {
        match &entries[place].model {
            Some(model) => match model.another() {
                Some(owner) => {
                    if keep && entries[place].kept.is_none() {
                        entries[place].kept = owner.another();
                    }
                    return Ok(owner);
                }
                // Its last handle was freed this moment.
                None => drop(entries.swap_remove(place)),
            },
            None => {
                if let Some(control) = &options.control {
                    control.check()?;
                }
                CHANGED.wait_for(&mut entries, PATIENCE);
            }
        }
    }
    entries.push(Entry { key: key.clone(), model: None, kept: None });
    drop(entries);
    let loading = Loading(&key);
    let owner = load()?;
    if let Some(entry) = table()?.iter_mut().find(|entry| entry.key == key) {
        entry.model = Some(owner.uncounted());
        entry.kept = if keep { owner.another() } else { None };
    }
    drop(loading);
    Ok(owner)
}

/// Wakes those who wait for a load when it is over, and lets the next of them try when it failed.
struct Loading<'a>(&'a Key);

impl Drop for Loading<'_> {
    fn drop(&mut self) {
        if let Ok(mut entries) = table() {
            entries.retain(|entry| entry.key != *self.0 || entry.model.is_some());
        }
        CHANGED.notify_all();
    }
}

/// Lets go of a model whose last handle was freed.
pub(super) fn forget(gone: &OwnedModel) {
    if let Ok(mut entries) = table() {
        entries.retain(|entry| entry.model.as_ref().is_none_or(|model| !model.is(gone)));
    }
}
