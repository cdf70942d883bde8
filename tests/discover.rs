//! A walk finds every model below a folder, and says why one that it found cannot be loaded.

use std::path::Path;

use gomlx::engine::Status;
use gomlx::engine::model::discover::{Found, discover};
use gomlx::engine::model::load::{LoadOptions, load};
use serde_json::json;

#[path = "common/checkpoint.rs"]
mod checkpoint;
use checkpoint::{Folder, Tiny, safetensors};

/// Puts a model, with something that stands for its tokenizer, into `folder/name`.
fn put(folder: &Folder, name: &str, tiny: &Tiny) {
    folder.write(&format!("{name}/config.json"), tiny.config.to_string());
    folder.write(&format!("{name}/model.safetensors"), safetensors(&tiny.tensors));
    folder.write(&format!("{name}/tokenizer.json"), "{}");
}

fn by_name<'a>(found: &'a [Found], root: &Path, name: &str) -> &'a Found {
    let path = root.join(name);
    found.iter().find(|found| found.path == path).unwrap_or_else(|| panic!("{name} was not found"))
}

#[test]
fn models_good_and_bad() {
    let folder = Folder::new();
    put(&folder, "a/good", &Tiny::llama());
    put(&folder, "a/b/four", &Tiny::quantised(4, 32));
    put(&folder, "alien", &Tiny::llama().with("model_type", json!("mamba")));
    put(&folder, "broken", &Tiny::llama().without("model.norm.weight"));
    put(&folder, "untokenized", &Tiny::llama());
    std::fs::remove_file(folder.file("untokenized/tokenizer.json")).unwrap();
    folder.write("adapter/adapters.safetensors", safetensors(&[]));
    folder.write("gguf/model.gguf", "GGUF");
    folder.write("text/readme.md", "nothing here");
    put(&folder, ".hidden/model", &Tiny::llama());

    let found = discover(folder.path()).unwrap();
    let paths: Vec<_> = found.iter().map(|found| found.path.strip_prefix(folder.path()).unwrap()).collect();
    let expected = ["a/b/four", "a/good", "adapter", "alien", "broken", "gguf/model.gguf", "untokenized"];
    assert_eq!(paths, expected.map(Path::new));

    let good = by_name(&found, folder.path(), "a/good").outcome.as_ref().unwrap();
    assert_eq!((good.name.as_str(), good.family, good.layers, &good.quantisation), ("good", "llama", 2, &None));
    assert_eq!(*good, load(&folder.file("a/good"), &LoadOptions::default()).unwrap().summary);
    let four = by_name(&found, folder.path(), "a/b/four").outcome.as_ref().unwrap();
    assert_eq!(four.quantisation.as_ref().map(|params| (params.bits, params.group)), Some((4, 32)));
    assert_eq!(four.parameters, good.parameters);

    for (name, status, part) in [
        ("alien", Status::Unsupported, "model_type: \"mamba\""),
        ("broken", Status::Format, "model.norm.weight: absent"),
        ("untokenized", Status::Io, "tokenizer.json: missing"),
        ("adapter", Status::Io, "config.json: No such file"),
        ("gguf/model.gguf", Status::Unsupported, "GGUF"),
    ] {
        let fault = by_name(&found, folder.path(), name).outcome.as_ref().unwrap_err();
        assert_eq!(fault.status(), status, "{name}: {fault}");
        assert!(fault.message().contains(part), "{name}: {fault}");
    }
}

#[test]
fn the_folder_itself_may_be_the_model() {
    let folder = Folder::new();
    put(&folder, "m", &Tiny::llama());
    let found = discover(&folder.file("m")).unwrap();
    assert_eq!(found.len(), 1);
    assert!(found[0].outcome.is_ok());
}

#[cfg(unix)]
#[test]
fn a_hugging_face_cache() {
    use std::os::unix::fs::symlink;
    let folder = Folder::new();
    let (root, tiny) = ("hub/models--acme--tiny-llama", Tiny::llama());
    folder.write(&format!("{root}/refs/main"), "0123abcd");
    folder.write(&format!("{root}/blobs/aa"), tiny.config.to_string());
    folder.write(&format!("{root}/blobs/bb"), safetensors(&tiny.tensors));
    folder.write(&format!("{root}/blobs/cc"), "{}");
    let snapshot = folder.file(&format!("{root}/snapshots/0123abcd"));
    std::fs::create_dir_all(&snapshot).unwrap();
    for (blob, name) in [("aa", "config.json"), ("bb", "model.safetensors"), ("cc", "tokenizer.json")] {
        symlink(format!("../../blobs/{blob}"), snapshot.join(name)).unwrap();
    }
    let found = discover(folder.path()).unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].path, snapshot);
    let summary = found[0].outcome.as_ref().unwrap();
    assert_eq!(summary.name, "acme/tiny-llama");
    assert_eq!(summary.bytes_on_disk, safetensors(&tiny.tensors).len() as u64);
    assert!(load(&snapshot, &LoadOptions::default()).is_ok());
}

#[cfg(unix)]
#[test]
fn links_in_a_circle_end_and_count_once() {
    use std::os::unix::fs::symlink;
    let folder = Folder::new();
    put(&folder, "real", &Tiny::llama());
    symlink(folder.path(), folder.file("real/up")).unwrap();
    symlink("real", folder.file("again")).unwrap();
    symlink("self", folder.file("self")).unwrap();
    let found = discover(folder.path()).unwrap();
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].path, folder.file("real"));
}

#[test]
fn a_start_that_is_none() {
    let fault = discover(Path::new("/no/such/folder")).unwrap_err();
    assert_eq!(fault.status(), Status::Io);
    assert!(fault.message().contains("/no/such/folder"));
    let folder = Folder::new();
    folder.write("file", "");
    assert_eq!(discover(&folder.file("file")).unwrap_err().status(), Status::Io);
    assert!(discover(folder.path()).unwrap().is_empty());
}

#[test]
fn many_folders_are_quick() {
    let folder = Folder::new();
    for number in 0..300 {
        folder.write(&format!("{}/{number}/notes.txt", number % 20), "");
    }
    put(&folder, "19/model", &Tiny::llama());
    let start = std::time::Instant::now();
    assert_eq!(discover(folder.path()).unwrap().len(), 1);
    println!("{:?}", start.elapsed());
    assert!(start.elapsed() < std::time::Duration::from_secs(5), "{:?}", start.elapsed());
}
