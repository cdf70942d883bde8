//! Data goes down as commands and comes up as values: no layer uses one above it (`ARCHITECTURE.md`).

use std::path::{Path, PathBuf};

/// Each layer and the layers it may use, besides itself and the leaves.
const LAYERS: &[(&str, &[&str])] = &[
    ("ffi", &["engine"]),
    (
        "engine",
        &[
            "batch",
            "classify",
            "generation",
            "language_model",
            "logging",
            "prefix_file",
            "residence",
            "scheduler",
            "model",
            "backend",
            "runtime",
            "train",
        ],
    ),
    ("scheduler", &["model::decoder", "backend"]),
    ("model", &["backend", "weights"]),
    ("backend", &["model::spec", "weights"]),
    ("runtime", &["backend"]),
    ("text", &[]),
    ("weights", &[]),
    ("sampling", &[]),
];

/// Whoever needs them may use these.
const LEAVES: &[&str] =
    &["control", "defect", "error", "memory", "options", "request", "sampling", "sync", "text", "trace", "weights"];

/// A leaf may use these leaves only.
const LEAF_USES: &[(&str, &[&str])] = &[
    ("control", &["error"]),
    ("defect", &["error"]),
    ("error", &[]),
    ("memory", &["error"]),
    ("options", &["backend", "control", "weights"]),
    ("request", &["control", "error", "sampling", "text"]),
    ("sampling", &["error"]),
    ("sync", &[]),
    ("text", &["error"]),
    ("trace", &[]),
    ("weights", &["control", "error", "memory"]),
];

/// The layer a source file belongs to.
fn layer(file: &Path) -> String {
    let parts: Vec<String> = file.iter().map(|part| part.to_string_lossy().replace(".rs", "")).collect();
    match parts.as_slice() {
        [first, ..] if first == "ffi" => "ffi".into(),
        [_, module, _, ..] => module.clone(),
        [_, module] if LEAF_USES.iter().any(|(leaf, _)| leaf == module) || module == "runtime" => module.clone(),
        _ => "engine".into(),
    }
}

/// Paths below `crate::engine` that a source line names in a `use`, absolute ones and those by `super`.
fn uses(file: &Path, source: &str) -> Vec<String> {
    let depth = file.iter().count() - 1;
    let code = source.split("#[cfg(test)]\nmod tests").next().unwrap_or(source);
    let mut found = Vec::new();
    for statement in code.split(';') {
        let Some(at) = statement.find("use ") else { continue };
        let path: String = statement[at + 4..].split_whitespace().collect();
        let supers = path.matches("super::").count();
        let below = if let Some(rest) = path.strip_prefix("crate::engine::") {
            rest.to_string()
        } else if supers > 0 && supers >= depth && file.starts_with("engine") {
            path.replace("super::", "")
        } else {
            continue;
        };
        let list = below.strip_prefix('{').and_then(|list| list.strip_suffix('}'));
        match list {
            Some(list) => found.extend(top_level(list)),
            None => found.push(below),
        }
    }
    found
}

/// The entries of a `use` list, those of inner lists left with their path.
fn top_level(list: &str) -> Vec<String> {
    let mut depth = 0;
    let mut parts = vec![String::new()];
    for c in list.chars() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        match parts.last_mut() {
            Some(_) if c == ',' && depth == 0 => parts.push(String::new()),
            Some(part) => part.push(c),
            None => {}
        }
    }
    parts.retain(|part| !part.is_empty());
    parts
}

fn sources(dir: &Path, out: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).expect("readable") {
        let path = entry.expect("readable").path();
        if path.is_dir() {
            sources(&path, out);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            out.push(path);
        }
    }
}

#[test]
fn no_arrow_points_up() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    let (mut arrows, mut wrong) = (0, Vec::new());
    for path in &files {
        let file = path.strip_prefix(&root).expect("below src");
        // Only compiled for tests: it makes a decoder of its own.
        let for_tests = file == Path::new("engine/scheduler/toy.rs");
        if file.ends_with("lib.rs") || file == Path::new("engine/mod.rs") || for_tests {
            continue;
        }
        let layer = layer(file);
        let source = std::fs::read_to_string(path).expect("readable");
        for target in uses(file, &source) {
            let module = target.split("::").next().unwrap_or_default();
            if module == layer || module.chars().next().is_some_and(char::is_uppercase) || layer == "ffi" {
                continue;
            }
            arrows += 1;
            let allowed = match LEAF_USES.iter().find(|(leaf, _)| *leaf == layer) {
                Some((_, uses)) => uses.contains(&module),
                None => {
                    let own = LAYERS.iter().find(|(name, _)| *name == layer).map_or(&[][..], |(_, uses)| uses);
                    LEAVES.contains(&module) || own.iter().any(|allowed| target.starts_with(allowed))
                }
            };
            if !allowed {
                wrong.push(format!("{} ({layer}) uses {target}", file.display()));
            }
        }
    }
    assert!(arrows > 50, "only {arrows} arrows were read: the reader is broken");
    assert!(wrong.is_empty(), "upward arrows:\n{}", wrong.join("\n"));
}
