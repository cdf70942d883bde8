//! Where the heavy test material lies, if it is there.

use std::path::{Path, PathBuf};

/// `name` in the folder of shared material: `$GOMLX_SHARED`, or `../shared` beside the repository. `None`, after
/// saying so, where it is missing: the test then passes without having looked.
pub fn shared(name: &str) -> Option<PathBuf> {
    let root = std::env::var_os("GOMLX_SHARED").map(PathBuf::from);
    let root = root.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"));
    let path = root.join(name);
    if !path.exists() {
        println!("skipped: {} is missing", path.display());
        return None;
    }
    Some(path)
}
