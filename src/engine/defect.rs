//! What a panic of one of our own threads said. The ABI's panic hook notes it (`src/ffi/guard.rs`), and whoever ends
//! requests because of it tells it on: a panic unwinds its own thread and says nothing to the others.

use parking_lot::Mutex;

static LATEST: Mutex<Option<String>> = Mutex::new(None);

/// Keeps `story`: place and message.
pub fn note(story: String) {
    *LATEST.lock() = Some(story);
}

/// The latest story; where nobody noted one, the panic went to the host's own hook.
pub fn latest() -> String {
    LATEST.lock().clone().unwrap_or_else(|| "see the panic hook's output".into())
}
