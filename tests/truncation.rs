//! Checkpoint files that shrink: while they are read, and while their model is idle.

use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use gomlx::engine::memory::{self, Alive};
use gomlx::engine::model::load::{LoadOptions, load};
use gomlx::engine::{Control, Model, ModelOptions, Prompt, Request, Status, Step, WeightsMode};

#[path = "common/checkpoint.rs"]
mod checkpoint;

use checkpoint::{Folder, Tiny};

/// The counters are the process's.
static ALONE: parking_lot::Mutex<()> = parking_lot::Mutex::new(());

#[test]
fn a_file_cut_short_while_it_is_read_is_told_and_the_next_load_works() {
    let _alone = ALONE.lock();
    let home = Tiny::llama().write();
    let path = home.file("model.safetensors");
    // A tensor that nobody wants makes the file long enough to be caught in the middle: 256 MiB, none of it on disk.
    let whole = std::fs::read(&path).expect("it is there");
    let old = u64::from_le_bytes(whole[..8].try_into().expect("eight")) as usize;
    let mut header: serde_json::Value = serde_json::from_slice(&whole[8..8 + old]).expect("a header");
    let (end, extra) = (whole.len() - 8 - old, 256 << 20);
    header["unused"] = serde_json::json!({"dtype": "U8", "shape": [extra], "data_offsets": [end, end + extra]});
    home.write("model.safetensors", checkpoint::raw_safetensors(&header.to_string(), &whole[8 + old..]));
    let file = File::options().write(true).open(&path).expect("it is there");
    let start = file.metadata().expect("it is there").len();
    let restore = || file.set_len(start + extra as u64).expect("sparse");
    restore();
    let before = memory::usage().active;
    let mut caught = 0;
    for _ in 0..20 {
        let control = Control::new();
        let options = LoadOptions { weights: WeightsMode::Read, control: Some(control.clone()) };
        let over = AtomicBool::new(false);
        let outcome = std::thread::scope(|scope| {
            scope.spawn(|| {
                while control.progress().0 == 0 && !over.load(Relaxed) {
                    std::hint::spin_loop();
                }
                file.set_len(start + 1000).expect("shorter");
            });
            let outcome = load(home.path(), &options).map(|_| ());
            over.store(true, Relaxed);
            outcome
        });
        restore();
        if let Err(error) = outcome {
            assert_eq!(error.status(), Status::Format, "{error}");
            assert!(error.message().contains("model.safetensors") && error.message().contains("ended"), "{error}");
            caught += 1;
        }
        assert_eq!(memory::usage().active, before);
        load(home.path(), &LoadOptions { weights: WeightsMode::Read, control: None }).expect("it is whole again");
        if caught == 3 {
            return;
        }
    }
    assert!(caught > 0, "20 loads were over before the file was cut");
}

#[test]
fn a_file_cut_short_while_its_model_is_idle_is_told_and_the_next_use_works() {
    let _alone = ALONE.lock();
    let home = Folder::new();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/llama-tales-16m-4bit");
    for entry in std::fs::read_dir(source).expect("it is there") {
        let path = entry.expect("it can be read").path();
        std::fs::copy(&path, home.file(&path.file_name().expect("a name").to_string_lossy())).expect("there is room");
    }
    let options = ModelOptions { threads: Some(2), context_length: Some(512), ..ModelOptions::default() };
    let model = Model::load(home.path(), &options).expect("it loads");
    let ask = || {
        let mut generation =
            model.generate(Request { max_tokens: Some(5), ..Request::new(Prompt::Text("Once".into())) })?;
        let mut text = String::new();
        while let Step::Chunk(chunk) = generation.next(None)? {
            text.push_str(&chunk.text);
        }
        Ok::<_, gomlx::engine::Error>(text)
    };
    let expected = ask().expect("a story");
    memory::set_idle_limit(0);
    let began = Instant::now();
    while Alive::figures().1 > 0 {
        assert!(began.elapsed() < Duration::from_secs(60), "it is not unloaded");
        std::thread::sleep(Duration::from_millis(2));
    }
    let weights = home.file("model.safetensors");
    let whole = std::fs::read(&weights).expect("it is there");
    std::fs::write(&weights, &whole[..whole.len() / 2]).expect("there is room");
    let refused = ask().expect_err("half a checkpoint");
    assert_eq!(refused.status(), Status::Format, "{refused}");
    std::fs::write(&weights, &whole).expect("there is room");
    assert_eq!(ask().expect("it is whole again"), expected);
    memory::set_idle_limit(u64::MAX);
}
