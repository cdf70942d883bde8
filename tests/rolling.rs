//! A full context that rolls: the answer goes on as if what was kept had been the prompt.

use std::path::Path;
use std::time::{Duration, Instant};

use gomlx::engine::{
    Control, Generation, Metrics, Model, ModelOptions, Prompt, Request, Status, Step, StopReason, WhenFull,
};

const CONTEXT: usize = 160;

fn load(name: &str, options: ModelOptions) -> Model {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("models").join(name);
    Model::load(&dir, &ModelOptions { threads: Some(2), context_length: Some(CONTEXT), ..options }).expect("it loads")
}

fn request(prompt: &[u32], max_tokens: usize) -> Request {
    let mut request = Request { max_tokens: Some(max_tokens), ..Request::new(Prompt::Tokens(prompt.to_vec())) };
    request.ignore_end = true;
    // Token ids come back with log-probabilities only.
    request.sampling.logprobs = 1;
    request
}

/// Tokens with their log-probabilities, and how it ended.
fn run(mut generation: Generation) -> (Vec<(u32, f32)>, StopReason, Metrics) {
    let mut tokens = Vec::new();
    loop {
        match generation.next(None).expect("nobody ends it") {
            Step::Chunk(chunk) => tokens.extend(chunk.tokens.iter().map(|token| (token.id, token.logprob))),
            Step::Done(reason) => return (tokens, reason, generation.metrics()),
            Step::Pending => unreachable!("no timeout was given"),
        }
    }
}

/// What a rolling answer must be, made of answers that stop: each time the context is full, the kept tokens are the
/// prompt of another.
fn by_hand(model: &Model, prompt: &[u32], keep: usize, max_tokens: usize) -> (Vec<(u32, f32)>, u64) {
    let (mut all, mut out, mut rolled) = (prompt.to_vec(), Vec::new(), 0);
    while out.len() < max_tokens {
        let room = CONTEXT - all.len();
        let (tokens, _, _) = run(model.generate(request(&all, room.min(max_tokens - out.len()))).expect("it starts"));
        all.extend(tokens.iter().map(|(id, _)| *id));
        out.extend(tokens);
        if out.len() < max_tokens {
            let half = (all.len() - keep) / 2;
            all.drain(keep..keep + half);
            rolled += half as u64;
        }
    }
    (out, rolled)
}

#[test]
fn rolls_as_a_fresh_prompt_of_what_was_kept() {
    // The Gemma's sliding windows have lost the pages of its beginning by then.
    for name in ["llama-tales-16m-4bit", "gemma3-domains-6m-4bit"] {
        let plain = load(name, ModelOptions { prefix_budget: Some(0), ..ModelOptions::default() });
        let prompt: Vec<u32> = (0..40).map(|i| (i * 37 + 300) % 4000).collect();
        for keep in [None, Some(1), Some(64), Some(80)] {
            let expected = by_hand(&plain, &prompt, keep.unwrap_or(40), 250);
            for options in [
                ModelOptions { prefix_budget: Some(0), ..ModelOptions::default() },
                ModelOptions { prefill_chunk: Some(33), ..ModelOptions::default() },
            ] {
                let model = load(name, options.clone());
                let asked = Request { when_full: WhenFull::Roll { keep }, ..request(&prompt, 250) };
                // Several at once: rolling must not disturb the others.
                let together: Vec<_> = (0..2).map(|_| model.generate(asked.clone()).expect("it starts")).collect();
                for generation in together {
                    let (tokens, reason, metrics) = run(generation);
                    assert!(tokens == expected.0, "{name}, keep {keep:?}, {options:?}");
                    assert_eq!((reason, metrics.rolled_tokens), (StopReason::MaxTokens, expected.1));
                    assert_eq!((metrics.prompt_tokens, metrics.generated_tokens), (40, 250));
                }
            }
        }
    }
}

#[test]
fn stops_when_it_is_not_asked_to_roll() {
    let model = load("llama-tales-16m-4bit", ModelOptions::default());
    let (tokens, reason, metrics) = run(model.generate(request(&[5; 40], 400)).expect("it starts"));
    assert_eq!((tokens.len(), reason, metrics.rolled_tokens), (CONTEXT - 40, StopReason::ContextFull, 0));
}

#[test]
fn more_than_half_cannot_be_kept() {
    let model = load("llama-tales-16m-4bit", ModelOptions::default());
    let asked = |keep| Request { when_full: WhenFull::Roll { keep: Some(keep) }, ..request(&[5; 4], 9) };
    let refused = model.generate(asked(81)).err().expect("more than half");
    assert!(refused.status() == Status::Argument && refused.message().contains("half"), "{refused}");
    run(model.generate(asked(80)).expect("half"));
}

#[test]
fn an_endless_answer_waits_for_its_reader_and_others_do_not() {
    let model = load("llama-tales-16m-4bit", ModelOptions::default());
    let control = Control::new();
    let mut endless = request(&[5; 4], 1);
    (endless.max_tokens, endless.when_full) = (None, WhenFull::Roll { keep: None });
    endless.control = Some(control.clone());
    let mut unread = model.generate(endless).expect("it starts");
    // It fills what may lie unread and pauses: its figures stand still, while another request goes through.
    let began = Instant::now();
    let seen = || unread.metrics().generated_tokens as usize;
    while seen() < CONTEXT {
        assert!(began.elapsed() < Duration::from_secs(60), "only {} tokens", seen());
        std::thread::sleep(Duration::from_millis(5));
    }
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(seen(), CONTEXT);
    let (tokens, _, _) = run(model.generate(request(&[7; 9], 50)).expect("it starts"));
    assert_eq!(tokens.len(), 50);
    // Reading lets it go on.
    for _ in 0..2 * CONTEXT {
        assert!(matches!(unread.next(None), Ok(Step::Chunk(_))));
    }
    control.cancel();
    let end = loop {
        match unread.next(None) {
            Ok(Step::Chunk(_)) => {}
            other => break other,
        }
    };
    assert_eq!(end.expect_err("cancelled").status(), Status::Cancelled);
}
