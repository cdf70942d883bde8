//! gomlx as one side of a comparison: measures what it is told on standard input, one JSON object a line, and answers
//! each with one JSON line. `bench/run.py` drives it (`make bench`, `make bench-peers`); `bench/peers.py` answers the
//! same lines for llama.cpp:
//!
//! | line | answer |
//! |---|---|
//! | `{"do": "open", "model": DIR, "threads": 2}` (also `sequences`, `context`) | what computes |
//! | `{"do": "prompt", "tokens": 512}` | `rate`: prompt tokens a second, first token's sampling included |
//! | `{"do": "decode", "sequences": 8, "context": 128, "steps": 32}` | `rate`: tokens a second of all sequences |
//! | `{"do": "callers", "callers": 8, "prompt": 16, "tokens": 64}` | `rate`: tokens a second from plain threads, prompts included |
//! | `{"do": "classify", "shared": 200, "tokens": 20, "texts": 96}` | `rate`: texts a second |
//! | `{"do": "domains", "texts": FILE, "template": …, "labels": […]}` | `rate`, `right` |
//! | `{"do": "domains-alone", …}` | the same, a call each; `different`: answers that are not those of one call |
//! | `{"do": "idle", "seconds": 2}` | `cores`: processor time used while nothing is asked, of one core |
//! | `{"do": "memory"}` (also `reset`: the peak starts again) | `active`, `peak`: bytes |
//! | `{"do": "ceilings", "threads": 2}` | what the machine can do at most |
//! | `{"do": "reading", "threads": 2}` | `rate`: bytes a second read from memory just now |
//!
//! Fresh-process measurements have arguments instead: `--first-token DIR`, `--resident DIR CONTEXT`.
//!
//! Everything goes through the facade that callers use, `gomlx::engine::Model`: scheduling, sampling (greedy) and
//! detokenising are part of every figure.

mod ceilings;
mod process;
mod work;

use std::io::{BufRead, Write};
use std::path::Path;
use std::time::Instant;

use gomlx::engine::{Model, ModelOptions};
use serde_json::{Value, json};

use work::Work;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let threads = std::env::var("THREADS").ok().and_then(|n| n.parse().ok());
    match words[..] {
        ["--first-token", dir] => println!("{}", first_token(dir, threads)),
        ["--resident", dir, context] => println!("{}", resident(dir, context.parse().expect("a number"), threads)),
        [] => serve(),
        _ => panic!("see the top of benches/engine/main.rs"),
    }
}

/// Answers lines until the input ends.
fn serve() {
    let mut work: Option<Work> = None;
    for line in std::io::stdin().lock().lines() {
        let request: Value = serde_json::from_str(&line.expect("a line")).expect("JSON");
        let number = |key: &str| request[key].as_u64().unwrap_or_else(|| panic!("{key} is missing")) as usize;
        let text = |key: &str| request[key].as_str().unwrap_or_else(|| panic!("{key} is missing"));
        let answer = match text("do") {
            "open" => {
                let mut options = ModelOptions { threads: Some(number("threads")), ..long_context() };
                options.max_sequences = request["sequences"].as_u64().map(|n| n as usize);
                if let Some(context) = request["context"].as_u64() {
                    options.context_length = Some(context as usize);
                }
                let model = load(text("model"), options);
                let device = model.info().device.clone().expect("a loaded model knows what computes it");
                work = Some(Work::new(model));
                json!({"device": device.device, "threads": device.threads})
            }
            "prompt" => opened(&mut work).prompt(number("tokens")),
            "decode" => opened(&mut work).decode(number("sequences"), number("context"), number("steps")),
            "callers" => opened(&mut work).callers(number("callers"), number("prompt"), number("tokens")),
            "classify" => opened(&mut work).classify(number("shared"), number("tokens"), number("texts")),
            task @ ("domains" | "domains-alone") => {
                let labels = request["labels"].as_array().expect("labels").iter();
                let labels: Vec<String> = labels.map(|label| label.as_str().expect("text").to_owned()).collect();
                let ask = if task == "domains" { Work::domains } else { Work::domains_alone };
                ask(opened(&mut work), text("texts"), text("template"), &labels)
            }
            "memory" => {
                let usage = gomlx::engine::memory::usage();
                if request["reset"] == true {
                    gomlx::engine::memory::reset_peak();
                }
                json!({"active": usage.active, "peak": usage.peak})
            }
            "idle" => {
                let used = process::cpu_seconds();
                let begin = Instant::now();
                std::thread::sleep(std::time::Duration::from_secs(number("seconds") as u64));
                json!({"cores": (process::cpu_seconds() - used) / begin.elapsed().as_secs_f64()})
            }
            "ceilings" => ceilings::measure(number("threads")),
            "reading" => ceilings::reading(number("threads")),
            other => panic!("{other}: see the top of benches/engine/main.rs"),
        };
        println!("{answer}");
        std::io::stdout().flush().expect("standard output");
    }
}

fn opened(work: &mut Option<Work>) -> &mut Work {
    work.as_mut().expect("open comes first")
}

/// Room for the longest shape that is measured.
fn long_context() -> ModelOptions {
    ModelOptions { context_length: Some(8192 + 1024), ..ModelOptions::default() }
}

/// Loads, with a context no longer than the model's own.
fn load(dir: &str, mut options: ModelOptions) -> Model {
    let most = process::max_positions(Path::new(dir));
    options.context_length = options.context_length.map(|context| context.min(most));
    Model::load(Path::new(dir), &options).unwrap_or_else(|error| panic!("{dir}: {error}"))
}

/// Seconds from nothing to the first token of a prompt of 16, made from a text.
fn first_token(dir: &str, threads: Option<usize>) -> Value {
    let begin = Instant::now();
    let model = load(dir, ModelOptions { threads, context_length: Some(4096), ..ModelOptions::default() });
    let loaded = begin.elapsed().as_secs_f64();
    Work::new(model).first_token(16);
    json!({"seconds": begin.elapsed().as_secs_f64(), "load": loaded})
}

/// Resident bytes once a context of `context` is full.
fn resident(dir: &str, context: usize, threads: Option<usize>) -> Value {
    let model = load(dir, ModelOptions { threads, context_length: Some(context), ..ModelOptions::default() });
    let file = model.info().bytes_on_disk;
    let mut work = Work::new(model);
    work.first_token(16);
    work.prompt(context - 1);
    let (resident, peak) = process::resident();
    json!({"resident": resident, "peak": peak, "file": file})
}
