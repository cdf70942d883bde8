//! Logits and greedy text against transformers and mlx-lm, in float32. See `tests/golden/README.md`.

#[path = "common/run.rs"]
mod run;
#[path = "common/shared.rs"]
mod shared;

use std::path::{Path, PathBuf};

use run::{EXACT, FAST, How, Runner, argmax, relative_error};
use safetensors::SafeTensors;

fn golden_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// A golden file's tensors.
struct Golden(Vec<u8>);

impl Golden {
    fn read(path: &Path) -> Self {
        Self(std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display())))
    }
    fn ints(&self, name: &str) -> Vec<u32> {
        let file = SafeTensors::deserialize(&self.0).expect("a golden is well-formed");
        let tensor = file.tensor(name).unwrap_or_else(|e| panic!("{name}: {e}"));
        let size = if tensor.dtype() == safetensors::Dtype::I64 { 8 } else { 4 };
        let word = |b: &[u8]| u32::from_le_bytes([b[0], b[1], b[2], b[3]]);
        tensor.data().chunks_exact(size).map(word).collect()
    }
    fn floats(&self, name: &str) -> Vec<f32> {
        let file = SafeTensors::deserialize(&self.0).expect("a golden is well-formed");
        let tensor = file.tensor(name).unwrap_or_else(|e| panic!("{name}: {e}"));
        tensor.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
    }
    fn names(&self) -> Vec<String> {
        let file = SafeTensors::deserialize(&self.0).expect("a golden is well-formed");
        file.names().into_iter().map(str::to_string).collect()
    }
}

fn folders(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    let mut folders: Vec<PathBuf> = entries.map(|e| e.expect("readable").path()).collect();
    folders.retain(|path| path.join("golden.safetensors").exists());
    folders.sort();
    folders
}

/// Runs a folder's prompt and compares the positions that its golden has: all, or the last ones.
fn compare(dir: &Path, how: How) -> f64 {
    let golden = Golden::read(&dir.join("golden.safetensors"));
    let runner = Runner::load(dir, how).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    let ours = runner.logits(&golden.ints("ids")).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    let theirs = golden.floats("logits");
    let rows = theirs.len() / runner.vocab;
    relative_error(&ours[ours.len() - rows..].concat(), &theirs)
}

#[test]
fn every_family_matches_transformers() {
    let folders = folders(&golden_dir().join("tiny"));
    assert!(folders.len() >= 15, "only {} tiny checkpoints", folders.len());
    for dir in folders {
        let name = dir.file_name().expect("named").to_string_lossy().into_owned();
        let error = compare(&dir, EXACT);
        println!("{name}: relative error {error:.1e}");
        assert!(error <= 1e-3, "{name}: relative error {error:.2e}");
        // The same, cut into chunks that cross pages and windows.
        let chunked = compare(&dir, How { chunk: 7, ..EXACT });
        assert!(chunked <= 1e-3, "{name} in chunks of 7: relative error {chunked:.2e}");
        let golden = Golden::read(&dir.join("golden.safetensors"));
        if golden.names().iter().any(|n| n == "greedy") {
            let theirs = golden.ints("greedy");
            let runner = Runner::load(&dir, EXACT).expect("it loaded before");
            let ours = runner.greedy(&golden.ints("ids"), theirs.len(), &[]).expect("it ran before");
            assert_eq!(ours, theirs, "{name}: greedy tokens");
        }
    }
}

#[test]
fn every_affine_layout_matches_mlx() {
    let folders = folders(&golden_dir().join("quant"));
    assert!(folders.len() >= 18, "only {} quantised checkpoints", folders.len());
    for dir in folders {
        let name = dir.file_name().expect("named").to_string_lossy().into_owned();
        let (exact, fast) = (compare(&dir, EXACT), compare(&dir, FAST));
        println!("{name}: relative error {exact:.1e} exact, {fast:.1e} fast");
        assert!(exact <= 1e-3, "{name}, exact: relative error {exact:.2e}");
        assert!(fast <= 2e-2, "{name}, fast: relative error {fast:.2e}");
    }
}

/// The two trained checkpoints, bf16, against transformers in float32.
#[test]
fn trained_checkpoints_match_transformers() {
    let Some(shared) = shared::shared("models") else { return };
    for name in ["llama-tales-16m", "gemma3-domains-6m"] {
        let golden = Golden::read(&golden_dir().join(name).with_extension("safetensors"));
        let runner = Runner::load(&shared.join(name), EXACT).unwrap_or_else(|e| panic!("{name}: {e}"));
        for prompt in 0.. {
            if !golden.names().contains(&format!("{prompt}.ids")) {
                assert!(prompt >= 2, "{name}: no prompts");
                break;
            }
            let ids = golden.ints(&format!("{prompt}.ids"));
            let ours = runner.logits(&ids).unwrap_or_else(|e| panic!("{name}: {e}"));
            let last = ours.last().expect("a prompt has tokens");
            let error = relative_error(last, &golden.floats(&format!("{prompt}.last_logits")));
            println!("{name}, prompt {prompt}: relative error {error:.1e}");
            assert!(error <= 2e-3, "{name}, prompt {prompt}: relative error {error:.2e}");
            let argmaxes: Vec<u32> = ours.iter().map(|row| argmax(row)).collect();
            assert_eq!(argmaxes, golden.ints(&format!("{prompt}.argmax")), "{name}, prompt {prompt}: arg-max");
            let greedy = golden.ints(&format!("{prompt}.greedy"));
            let ours = runner.greedy(&ids, greedy.len(), &[]).unwrap_or_else(|e| panic!("{name}: {e}"));
            assert_eq!(ours, greedy, "{name}, prompt {prompt}: greedy tokens");
        }
    }
}
