//! What the prefix cache saves: turns of a chat, long shared beginnings, restarts.

use std::path::{Path, PathBuf};
use std::time::Duration;

use gomlx::engine::backend::KvType;
use gomlx::engine::{Metrics, Model, ModelOptions, Precision, Prompt, Request, Status, Step};

#[path = "common/checkpoint.rs"]
mod checkpoint;

use checkpoint::Folder;

const MODELS: [&str; 2] = ["llama-tales-16m-4bit", "gemma3-domains-6m-4bit"];

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models").join(name)
}

fn load(name: &str, options: ModelOptions) -> Model {
    Model::load(&folder(name), &ModelOptions { threads: Some(2), ..options }).expect("it loads")
}

/// Tokens with log-probabilities, and the figures.
fn ask(model: &Model, prompt: &[u32], max_tokens: usize) -> (Vec<(u32, f32)>, Metrics) {
    let mut request = Request { max_tokens: Some(max_tokens), ..Request::new(Prompt::Tokens(prompt.to_vec())) };
    request.ignore_end = true;
    request.sampling.logprobs = 1;
    let mut generation = model.generate(request).expect("it starts");
    let mut tokens = Vec::new();
    while let Step::Chunk(chunk) = generation.next(None).expect("nobody ends it") {
        tokens.extend(chunk.tokens.iter().map(|token| (token.id, token.logprob)));
    }
    (tokens, generation.metrics())
}

/// `count` tokens that look like text to nobody but differ by `seed`.
fn words(seed: u32, count: u32) -> Vec<u32> {
    (0..count).map(|i| (i * 37 + seed * 101 + 300) % 4000).collect()
}

#[test]
fn a_chat_of_ten_turns_computes_each_token_once() {
    for name in MODELS {
        let model = load(name, ModelOptions::default());
        let mut chat = Vec::new();
        for turn in 0..10 {
            let said = words(turn, 40 + turn * 13);
            chat.extend(&said);
            let (answer, metrics) = ask(&model, &chat, 25);
            // An answer's last token was never computed: nobody asked what follows it. It is, with the next turn.
            let unseen = u64::from(turn > 0);
            let computed = metrics.prompt_tokens - metrics.cached_tokens;
            assert_eq!(computed, said.len() as u64 + unseen, "{name}, turn {turn}");
            chat.extend(answer.iter().map(|(id, _)| *id));
        }
    }
}

#[test]
fn two_thousand_shared_tokens_are_answered_twenty_times_sooner() {
    let model = load(MODELS[0], ModelOptions::default());
    let mut prompt = words(1, 2000);
    let first = ask(&model, &prompt, 1).1;
    assert_eq!(first.cached_tokens, 0);
    let again = (0..5).map(|round| {
        prompt.truncate(2000);
        prompt.extend(words(round + 7, 4));
        let metrics = ask(&model, &prompt, 1).1;
        assert!(metrics.cached_tokens >= 1999, "{} of 2000 tokens were found", metrics.cached_tokens);
        metrics.first_token_seconds
    });
    // The quickest: what else runs on the machine only adds.
    let again = again.fold(f64::INFINITY, f64::min);
    println!("first token after {:.1} ms, then {:.2} ms", first.first_token_seconds * 1e3, again * 1e3);
    assert!(first.first_token_seconds >= 20.0 * again, "{} s, then {again} s", first.first_token_seconds);
}

#[test]
fn restored_prefixes_are_as_good_as_computed_ones() {
    let files = Folder::new();
    for name in MODELS {
        let path = files.file(name);
        let (saved, expected, branch);
        let prompt = words(2, 300);
        let mut other = prompt[..170].to_vec();
        other.extend(words(9, 40));
        {
            let model = load(name, ModelOptions::default());
            expected = ask(&model, &prompt, 30).0;
            branch = ask(&model, &other, 30).0;
            saved = model.save_prefixes(&path).expect("there is room");
            // 329 tokens in whole pages and a rest; the branch shares two pages.
            assert_eq!(saved, 329 + 239 - 128);
            assert_eq!(model.save_prefixes(&path).expect("it replaces the file"), saved);
        }
        let model = load(name, ModelOptions::default());
        assert_eq!(model.restore_prefixes(&path).expect("it is sound"), saved);
        assert_eq!(model.restore_prefixes(&path).expect("what is there already is found"), saved);
        let (tokens, metrics) = ask(&model, &prompt, 30);
        assert!(tokens == expected, "{name}");
        assert_eq!(metrics.cached_tokens, 299);
        let (tokens, metrics) = ask(&model, &other, 30);
        assert!(tokens == branch, "{name}");
        assert_eq!(metrics.cached_tokens, 209);
        assert_eq!(std::fs::read_dir(files.path()).expect("it is there").count(), 1, "something was left behind");
        std::fs::remove_file(&path).expect("it is there");
    }
}

#[test]
fn a_small_budget_takes_the_beginning() {
    let files = Folder::new();
    let path = files.file("prefixes");
    let prompt = words(3, 300);
    let model = load(MODELS[0], ModelOptions::default());
    let expected = ask(&model, &prompt, 10).0;
    model.save_prefixes(&path).expect("there is room");
    drop(model);
    // A page of this model takes 256 KiB: 8 layers, 2 heads of 64, 64 positions, keys and values in two bytes.
    for (budget, tokens) in [(Some(0), 0), (Some(1), 0), (Some(600_000), 128)] {
        let model = load(MODELS[0], ModelOptions { prefix_budget: budget, ..ModelOptions::default() });
        let taken = model.restore_prefixes(&path).expect("it is sound");
        assert_eq!(taken, tokens, "budget {budget:?}");
        let (tokens, metrics) = ask(&model, &prompt, 10);
        assert!(tokens == expected && metrics.cached_tokens == taken as u64, "budget {budget:?}");
    }
}

#[test]
fn damaged_and_foreign_files_are_refused_and_nothing_is_lost() {
    let files = Folder::new();
    let (good, bad) = (files.file("good"), files.file("bad"));
    let model = load(MODELS[0], ModelOptions::default());
    let prompt = words(4, 200);
    ask(&model, &prompt, 10);
    model.save_prefixes(&good).expect("there is room");
    let bytes = std::fs::read(&good).expect("it is there");
    let refused = |model: &Model, bytes: &[u8]| {
        std::fs::write(&bad, bytes).expect("there is room");
        let error = model.restore_prefixes(&bad).expect_err("not a sound file");
        assert_eq!(error.status(), Status::Format, "{error}");
        assert!(error.message().contains("bad"), "it names no file: {error}");
        error.message().to_owned()
    };
    for length in [0, 1, 7, 8, 39, 40, 60, 95, 96, 200, bytes.len() / 2, bytes.len() - 33, bytes.len() - 1] {
        refused(&model, &bytes[..length]);
    }
    for at in (0..100).chain((100..bytes.len()).step_by(bytes.len() / 50)).chain(bytes.len() - 40..bytes.len()) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1;
        refused(&model, &damaged);
    }
    let mut longer = bytes.clone();
    longer.push(0);
    refused(&model, &longer);
    let missing = model.restore_prefixes(&files.file("nowhere")).expect_err("it is not there");
    assert_eq!(missing.status(), Status::Io);
    // What the model had is still there.
    assert_eq!(ask(&model, &prompt, 10).1.cached_tokens, 199);

    let foreign = |model: &Model| {
        let message = refused(model, &bytes);
        assert!(message.contains("another checkpoint"), "{message}");
    };
    foreign(&load(MODELS[1], ModelOptions::default()));
    foreign(&load(MODELS[0], ModelOptions { kv_type: Some(KvType::BF16), ..ModelOptions::default() }));
    foreign(&load(MODELS[0], ModelOptions { precision: Precision::Exact, ..ModelOptions::default() }));
    // A twin that differs in nothing but one projection's values, as a fine-tuned one does.
    let twin = Folder::new();
    for entry in std::fs::read_dir(folder(MODELS[0])).expect("it is there") {
        let path = entry.expect("it can be read").path();
        std::fs::copy(&path, twin.file(&path.file_name().expect("a name").to_string_lossy())).expect("there is room");
    }
    let weights = twin.file("model.safetensors");
    let mut changed = std::fs::read(&weights).expect("it is there");
    let header = u64::from_le_bytes(changed[..8].try_into().expect("eight")) as usize;
    let entries: serde_json::Value = serde_json::from_slice(&changed[8..8 + header]).expect("a header");
    let range = entries["model.layers.1.self_attn.q_proj.weight"]["data_offsets"].clone();
    let at = |i: usize| 8 + header + range[i].as_u64().expect("an offset") as usize;
    changed[at(0)..at(1)].iter_mut().step_by(16).for_each(|byte| *byte ^= 1);
    std::fs::write(&weights, changed).expect("there is room");
    foreign(
        &Model::load(twin.path(), &ModelOptions { threads: Some(2), ..ModelOptions::default() }).expect("it loads"),
    );
}

#[test]
fn answers_go_on_while_a_file_is_written_and_read() {
    let files = Folder::new();
    let path = files.file("prefixes");
    let model = load(MODELS[0], ModelOptions::default());
    let expected = ask(&model, &words(5, 100), 200).0;
    std::thread::scope(|scope| {
        let busy = scope.spawn(|| (0..5).all(|_| ask(&model, &words(5, 100), 200).0 == expected));
        for round in 0..20 {
            ask(&model, &words(round + 20, 150), 3);
            model.save_prefixes(&path).expect("there is room");
            model.restore_prefixes(&path).expect("it is sound");
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(busy.join().expect("it ends"), "an answer changed");
    });
}
