//! Models on which nothing runs let go of what they hold when a limit says so, and are loaded again when used. The
//! limit and the counters are the process's, so these tests take turns.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use gomlx::engine::memory::{self, Alive};
use gomlx::engine::{Model, ModelOptions, Prompt, Request, Status, Step};
use parking_lot::Mutex;

#[path = "common/checkpoint.rs"]
mod checkpoint;

use checkpoint::Folder;

static ALONE: Mutex<()> = Mutex::new(());

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models").join(name)
}

fn load(dir: &Path) -> Model {
    let options = ModelOptions { threads: Some(2), context_length: Some(512), ..ModelOptions::default() };
    Model::load(dir, &options).expect("it loads")
}

fn ask(model: &Model, prompt: &str) -> gomlx::engine::Result<String> {
    let request = Request { max_tokens: Some(12), ..Request::new(Prompt::Text(prompt.into())) };
    let mut generation = model.generate(request)?;
    let mut text = String::new();
    while let Step::Chunk(chunk) = generation.next(None)? {
        text.push_str(&chunk.text);
    }
    Ok(text)
}

fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < Duration::from_secs(60), "still not so: {what}; {:?}", memory::usage());
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn workers() -> u64 {
    Alive::figures().1
}

/// Takes the limit away when a test ends, however it ends.
struct Limit;
impl Drop for Limit {
    fn drop(&mut self) {
        memory::set_idle_limit(u64::MAX);
    }
}

#[test]
fn the_one_not_used_for_longest_goes_first_and_comes_back() {
    let (_alone, _limit) = (ALONE.lock(), Limit);
    let before = memory::usage();
    let (tales, domains) = (load(&folder("llama-tales-16m-4bit")), load(&folder("gemma3-domains-6m-4bit")));
    let (story, label) = (ask(&tales, "Once").expect("a story"), ask(&domains, "Once").expect("a text"));
    let weights = tales.info().bytes_on_disk;
    wait_until("both rest", || memory::usage().idle >= weights + domains.info().bytes_on_disk);
    let both = memory::usage();
    memory::set_idle_limit(both.idle - 1);
    wait_until("the story teller is gone", || memory::usage().idle < both.idle && workers() == 1);
    let one = memory::usage();
    assert!(one.active <= both.active - weights, "{one:?} of {both:?}");
    // Used again it is there again, and now the other is the one to go.
    assert_eq!(ask(&tales, "Once").expect("it is loaded again"), story);
    wait_until("the other is gone", || workers() == 1 && memory::usage().idle >= weights);
    assert_eq!(ask(&domains, "Once").expect("it is loaded again"), label);
    drop((tales, domains));
    let after = memory::usage();
    assert_eq!((after.active, after.idle, workers()), (before.active, 0, 0));
}

#[test]
fn with_a_limit_of_nothing_every_use_still_answers() {
    let (_alone, _limit) = (ALONE.lock(), Limit);
    let model = load(&folder("llama-tales-16m-4bit"));
    let expected = ask(&model, "The dog").expect("a story");
    memory::set_idle_limit(0);
    std::thread::scope(|scope| {
        for caller in 0..8 {
            let (model, expected) = (&model, &expected);
            scope.spawn(move || {
                for round in 0..10 {
                    std::thread::sleep(Duration::from_millis(caller * round % 7));
                    assert_eq!(&ask(model, "The dog").expect("a story"), expected);
                }
            });
        }
    });
    wait_until("it is unloaded", || workers() == 0);
    assert_eq!(memory::usage().idle, 0);
    model.close();
    assert_eq!(ask(&model, "The dog").expect_err("it is closed").status(), Status::State);
}

#[test]
fn files_that_are_gone_or_others_are_told_at_the_next_use() {
    let (_alone, _limit) = (ALONE.lock(), Limit);
    let home = Folder::new();
    let copy = |name: &str| {
        for entry in std::fs::read_dir(folder(name)).expect("it is there") {
            let path = entry.expect("it can be read").path();
            // Replaced by renaming, as model stores do: a mapped file stays whole.
            let (fresh, target) = (home.file("fresh"), home.file(&path.file_name().expect("a name").to_string_lossy()));
            std::fs::copy(&path, &fresh).expect("there is room");
            std::fs::rename(&fresh, &target).expect("one folder");
        }
    };
    copy("llama-tales-16m-4bit");
    let model = load(home.path());
    let expected = ask(&model, "Hi").expect("a story");
    memory::set_idle_limit(0);
    let unloaded = || wait_until("it is unloaded", || workers() == 0);
    unloaded();
    std::fs::rename(home.file("model.safetensors"), home.file("away")).expect("one folder");
    let missing = ask(&model, "Hi").expect_err("nothing to load");
    assert_eq!(missing.status(), Status::Io, "{missing}");
    std::fs::rename(home.file("away"), home.file("model.safetensors")).expect("one folder");
    assert_eq!(ask(&model, "Hi").expect("it is there again"), expected);
    unloaded();
    copy("gemma3-domains-6m-4bit");
    let other = ask(&model, "Hi").expect_err("another model");
    assert!(other.status() == Status::Format && other.message().contains("no longer"), "{other}");
    copy("llama-tales-16m-4bit");
    assert_eq!(ask(&model, "Hi").expect("it is back"), expected);
}
