//! `GOMLX_TRACE`: the file is JSON that trace viewers read, every step and operation is in it, spans nest.
//!
//! The variable is read once a process, so the test is its own child.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use gomlx::engine::generation::Step;
use gomlx::engine::{Model, ModelOptions, Prompt, Request};
use serde_json::Value;

const PROMPT: [u32; 9] = [1, 20, 30, 40, 50, 60, 70, 80, 90];
const TOKENS: usize = 5;

/// Generates `TOKENS` tokens in one prompt step and `TOKENS - 1` others.
fn generate() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/llama-tales-16m-4bit");
    let model = Model::load(&dir, &ModelOptions::default()).expect("the committed model loads");
    let mut request = Request::new(Prompt::Tokens(PROMPT.to_vec()));
    (request.max_tokens, request.ignore_end) = (Some(TOKENS), true);
    let mut generation = model.generate(request).expect("a good request");
    while !matches!(generation.next(Some(Duration::from_secs(60))).expect("an answer"), Step::Done(_)) {}
}

/// This test again, as a process whose trace goes to `file`.
fn child(test: &str, file: &Path) -> Output {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args(["--exact", test, "--nocapture"]).env("GOMLX_TRACE", file).env("GOMLX_LOG", "error");
    command.output().expect("a child")
}

fn is_child() -> bool {
    std::env::var_os("GOMLX_TRACE").is_some()
}

struct Span {
    name: String,
    args: Value,
    start: f64,
    end: f64,
}

impl Span {
    fn arg(&self, name: &str) -> usize {
        self.args[name].as_u64().unwrap_or_else(|| panic!("{} has no {name}", self.name)) as usize
    }

    /// Times are rounded to nanoseconds.
    fn holds(&self, other: &Span) -> bool {
        self.start <= other.start + 0.002 && other.end <= self.end + 0.002
    }
}

/// The spans of each thread, by its name.
fn spans(file: &Path) -> BTreeMap<String, Vec<Span>> {
    let events: Vec<Value> = serde_json::from_slice(&std::fs::read(file).expect("the trace")).expect("whole JSON");
    let mut names = BTreeMap::new();
    for event in events.iter().filter(|event| event["name"] == "thread_name") {
        names.insert(event["tid"].as_u64(), event["args"]["name"].as_str().expect("a name").to_owned());
    }
    let mut threads: BTreeMap<String, Vec<Span>> = BTreeMap::new();
    for event in events.iter().filter(|event| event["ph"] == "X") {
        let start = event["ts"].as_f64().expect("a time");
        let end = start + event["dur"].as_f64().expect("a duration");
        let name = event["name"].as_str().expect("a name").to_owned();
        let thread = names[&event["tid"].as_u64()].clone();
        threads.entry(thread).or_default().push(Span { name, args: event["args"].clone(), start, end });
    }
    threads
}

#[test]
fn every_step_and_operation_is_in_the_trace() {
    if is_child() {
        return generate();
    }
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("steps.trace.json");
    let _ = std::fs::remove_file(&file);
    let output = child("every_step_and_operation_is_in_the_trace", &file);
    assert!(output.status.success(), "{output:?}");
    let threads = spans(&file);
    for spans in threads.values() {
        for (at, one) in spans.iter().enumerate() {
            for other in &spans[at + 1..] {
                let apart = one.end <= other.start + 0.002 || other.end <= one.start + 0.002;
                assert!(apart || one.holds(other) || other.holds(one), "{} and {} overlap", one.name, other.name);
            }
        }
    }
    let (_, worker) = threads.iter().find(|(_, spans)| spans.iter().any(|span| span.name == "step")).expect("steps");
    let steps: Vec<&Span> = worker.iter().filter(|span| span.name == "step").collect();
    let rows: Vec<usize> = steps.iter().map(|step| step.arg("rows")).collect();
    assert_eq!(rows, [PROMPT.len(), 1, 1, 1, 1], "a prompt's step and one for each further token");
    for step in &steps {
        assert_eq!(step.arg("sequences"), 1);
        let inside = |name: &str| {
            let found = worker.iter().filter(|span| span.name == name && step.holds(span));
            found.map(|span| span.arg("layer")).collect::<Vec<_>>()
        };
        let layers = inside("attention");
        assert_eq!(layers, (0..layers.len()).collect::<Vec<_>>(), "attention once a layer, in order");
        assert!(layers.len() > 1);
        for name in ["product qkv", "product o", "product gate up", "activation", "product down"] {
            assert_eq!(inside(name), layers, "{name}");
        }
        // A norm counts for the layer whose output it takes; the first one, which takes the embedding, for the first.
        let norms = inside("norm");
        assert!(norms.iter().collect::<BTreeSet<_>>().into_iter().eq(&layers), "norms of {norms:?}");
        assert_eq!(norms.len() % layers.len(), 1, "as many in each layer, and the first");
        for name in ["embed", "logits", "sampling"] {
            assert_eq!(worker.iter().filter(|span| span.name == name && step.holds(span)).count(), 1, "{name}");
        }
    }
    let all: Vec<&Span> = threads.values().flatten().collect();
    for name in ["load", "load weights", "load tokenizer"] {
        assert_eq!(all.iter().filter(|span| span.name == name).count(), 1, "{name}");
    }
}

#[test]
fn a_file_that_cannot_be_written_is_only_logged() {
    if is_child() {
        return generate();
    }
    let file = Path::new("/nowhere/trace.json");
    let output = child("a_file_that_cannot_be_written_is_only_logged", file);
    assert!(output.status.success(), "{output:?}");
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(log.contains("GOMLX_TRACE: /nowhere/trace.json: "), "{log}");
}
