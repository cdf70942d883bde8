//! What the library says it holds, what it gives back. The counters are the process's, so these tests take turns.

use std::path::Path;
use std::time::Duration;

use gomlx::engine::memory;
use gomlx::engine::{Model, ModelOptions, Prompt, Request, Status, Step};
use parking_lot::Mutex;

static ALONE: Mutex<()> = Mutex::new(());

fn load(options: &ModelOptions) -> gomlx::engine::Result<Model> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/llama-tales-16m-4bit");
    Model::load(&dir, options)
}

fn tales(options: ModelOptions) -> Model {
    load(&ModelOptions { threads: Some(2), context_length: Some(512), ..options }).expect("it loads")
}

#[test]
fn a_freed_model_gives_back_what_it_took() {
    let _alone = ALONE.lock();
    let model = tales(ModelOptions::default());
    let mut generation = model.generate(Request { max_tokens: Some(40), ..Request::new(Prompt::Text("Once".into())) });
    while let Ok(Step::Chunk(_)) = generation.as_mut().expect("it starts").next(None) {}
    let held = memory::usage().active;
    let weights = model.info().bytes_on_disk;
    drop((model, generation));
    let left = memory::usage().active;
    assert!(held >= left + weights * 9 / 10, "{held} bytes held, {left} left, weights {weights}");
}

#[test]
fn clearing_the_cache_reaches_idle_models() {
    let _alone = ALONE.lock();
    let model = tales(ModelOptions::default());
    let prompt: Vec<u32> = (0..400).map(|i| (i * 37 % 8000) as u32).collect();
    let ask = || {
        let request = Request { max_tokens: Some(2), ..Request::new(Prompt::Tokens(prompt.clone())) };
        let mut generation = model.generate(request).expect("it starts");
        while let Ok(Step::Chunk(_)) = generation.next(None) {}
        generation.metrics().cached_tokens
    };
    assert_eq!(ask(), 0);
    assert_eq!(ask(), 399);
    let before = memory::usage();
    memory::clear_cache();
    let patience = std::time::Instant::now();
    while memory::usage().active + memory::usage().cached >= before.active + before.cached {
        assert!(patience.elapsed() < Duration::from_secs(20), "nothing was given back: {before:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(ask(), 0, "the prefix cache was cleared, too");
}

/// Resident memory of this process, in bytes, as the system counts it.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a figure");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
}

#[test]
fn the_counters_agree_with_the_system() {
    let _alone = ALONE.lock();
    let before = resident();
    let model = tales(ModelOptions { weights: gomlx::engine::WeightsMode::Read, ..ModelOptions::default() });
    let prompt: Vec<u32> = (0..400).map(|i| (i * 37 % 8000) as u32).collect();
    let request = Request { max_tokens: Some(20), ..Request::new(Prompt::Tokens(prompt)) };
    let mut generation = model.generate(request).expect("it starts");
    while let Ok(Step::Chunk(_)) = generation.next(None) {}
    let usage = memory::usage();
    let (ours, theirs) = (usage.active + usage.cached, resident().saturating_sub(before));
    println!("counted {ours} bytes, the system saw {theirs} more");
    // Uncounted: the tokenizer, thread stacks, small tables; and pages of buffers that nothing was written to yet.
    assert!(theirs < ours + (48 << 20), "the system sees {theirs}, counted are {ours}");
    assert!(ours < theirs + (16 << 20), "counted are {ours}, the system sees {theirs}");
}

/// Bytes of KV cache that a request of `positions` leaves a model holding at its most.
fn kv_bytes(name: &str, positions: usize, kv: u64) -> u64 {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("models").join(name);
    let options = ModelOptions {
        threads: Some(2),
        context_length: Some(2048),
        prefix_budget: Some(0),
        prefill_chunk: Some(64),
        kv_budget: Some(kv),
        ..ModelOptions::default()
    };
    let model = Model::load(&dir, &options).expect("it loads");
    let prompt: Vec<u32> = (0..positions as u32).map(|i| i * 37 % 4000).collect();
    let mut generation =
        model.generate(Request { max_tokens: Some(2), ..Request::new(Prompt::Tokens(prompt)) }).expect("it starts");
    while let Ok(Step::Chunk(_)) = generation.next(None) {}
    generation.metrics().peak_memory
}

#[test]
fn sliding_layers_keep_only_their_window() {
    let _alone = ALONE.lock();
    let read = |key: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/gemma3-domains-6m-4bit/config.json");
        let config: serde_json::Value =
            serde_json::from_slice(&std::fs::read(path).expect("it is there")).expect("JSON");
        config[key].as_u64().unwrap_or_else(|| panic!("no {key}"))
    };
    let (layers, pattern) = (read("num_hidden_layers"), read("sliding_window_pattern"));
    // Two bytes an element, keys and values, 64 positions a page.
    let page = 2 * 2 * 64 * read("num_key_value_heads") * read("head_dim");
    let (full, sliding) = (layers / pattern, layers - layers / pattern);
    let short = kv_bytes("gemma3-domains-6m-4bit", 64, 64 << 20);
    let long = kv_bytes("gemma3-domains-6m-4bit", 2000, 64 << 20);
    // 2 pages or 32 of the full layers; a window of 64 and a step of 64 touch at most 3 of the others.
    let most = page * (full * 30 + sliding * 2);
    let every = page * layers * 30;
    println!("{long} bytes for 2,000 positions, {short} for 64; {most} more allowed, {every} without windows");
    assert!(long - short <= most + (64 << 10), "{} bytes more for the longer prompt, {most} allowed", long - short);
    assert!(long - short >= page * full * 30, "the full layers keep everything");
}

#[test]
fn a_limit_refuses_with_the_figures_and_leaves_nothing_behind() {
    let _alone = ALONE.lock();
    let before = memory::usage().active;
    memory::set_limit(before + (1 << 20));
    let refused = load(&ModelOptions::default()).err().expect("8 MB of weights do not fit");
    memory::set_limit(u64::MAX);
    assert_eq!(refused.status(), Status::Memory);
    assert!(refused.message().contains("limit"), "{refused}");
    assert_eq!(memory::usage().active, before);
    load(&ModelOptions::default()).expect("without the limit it loads");
}
