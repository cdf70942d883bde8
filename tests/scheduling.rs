//! Many callers, one model: whatever the company, an answer is the one its request gets alone.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use gomlx::engine::sampling::Sampling;
use gomlx::engine::{Control, Model, ModelOptions, Prompt, Request, Status, Step};

fn tales(options: ModelOptions) -> Model {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/llama-tales-16m-4bit");
    Model::load(&dir, &ModelOptions { threads: Some(2), context_length: Some(512), ..options }).expect("it loads")
}

/// A small generator of decisions, the same on every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) as usize % n
    }
    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

/// One caller's plan.
#[derive(Clone)]
struct Plan {
    request: Request,
    wait: Duration,
    /// Cancels after so many chunks.
    cancel_after: Option<usize>,
    /// Lets go of the answer after so many chunks.
    drop_after: Option<usize>,
}

fn plans(count: usize, vocab: u32) -> Vec<Plan> {
    let mut dice = Dice(42);
    let shared: Vec<u32> = (0..150).map(|_| dice.below(vocab as usize - 100) as u32).collect();
    let plan = |i: usize| {
        // Beginnings that some share, of any length: page borders fall everywhere.
        let common = dice.below(2) * dice.below(shared.len());
        let most = if dice.one_in(4) { 120 } else { 12 };
        let own = 1 + dice.below(most);
        let mut prompt = shared[..common].to_vec();
        prompt.extend((0..own).map(|_| dice.below(vocab as usize - 100) as u32));
        let mut sampling = Sampling { seed: Some(i as u64), ..Sampling::default() };
        if !dice.one_in(3) {
            sampling.temperature = 0.5 + dice.below(10) as f32 / 10.0;
            sampling.top_p = if dice.one_in(2) { 0.9 } else { 1.0 };
            sampling.top_k = if dice.one_in(3) { 40 } else { 0 };
            sampling.repetition_penalty = if dice.one_in(4) { 1.2 } else { 1.0 };
        }
        let request = Request {
            sampling,
            max_tokens: Some(1 + dice.below(30)),
            ignore_end: dice.one_in(2),
            priority: dice.below(3) as i32,
            control: Some(Control::new()),
            ..Request::new(Prompt::Tokens(prompt))
        };
        Plan {
            request,
            wait: Duration::from_micros(dice.below(3000) as u64),
            cancel_after: dice.one_in(8).then(|| dice.below(6)),
            drop_after: dice.one_in(10).then(|| dice.below(6)),
        }
    };
    (0..count).map(plan).collect()
}

/// What became of a plan: its text where it ended by itself.
fn follow(model: &Model, plan: &Plan) -> Option<String> {
    std::thread::sleep(plan.wait);
    let control = Control::new();
    let request = Request { control: Some(control.clone()), ..plan.request.clone() };
    let mut generation = model.generate(request).expect("the queue has room");
    let (mut text, mut chunks) = (String::new(), 0);
    loop {
        if plan.cancel_after == Some(chunks) {
            control.cancel();
        }
        if plan.drop_after == Some(chunks) {
            return None;
        }
        match generation.next(None) {
            Ok(Step::Chunk(chunk)) => text.push_str(&chunk.text),
            Ok(Step::Done(_)) => return Some(text),
            Ok(Step::Pending) => unreachable!("no timeout was given"),
            Err(error) => {
                assert_eq!(error.status(), Status::Cancelled, "{error}");
                return None;
            }
        }
        chunks += 1;
    }
}

#[test]
fn two_hundred_requests_get_the_answers_they_would_get_alone() {
    let model = tales(ModelOptions { prefix_budget: Some(0), ..ModelOptions::default() });
    let plans = plans(200, model.info().vocabulary as u32);
    let alone: Vec<String> = plans
        .iter()
        .map(|plan| {
            let calm = Plan { wait: Duration::ZERO, cancel_after: None, drop_after: None, ..plan.clone() };
            follow(&model, &calm).expect("nobody ends it")
        })
        .collect();
    drop(model);
    for options in [
        ModelOptions { prefix_budget: Some(0), ..ModelOptions::default() },
        ModelOptions { max_sequences: Some(7), prefill_chunk: Some(33), ..ModelOptions::default() },
    ] {
        let model = tales(options.clone());
        let next = AtomicUsize::new(0);
        let survived = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| {
                    while let Some(plan) = plans.get(next.fetch_add(1, Relaxed)) {
                        if let Some(text) = follow(&model, plan) {
                            let index = plans.iter().position(|p| std::ptr::eq(p, plan)).expect("it is one of them");
                            assert_eq!(text, alone[index], "request {index}, {options:?}");
                            survived.fetch_add(1, Relaxed);
                        }
                    }
                });
            }
        });
        let survived = survived.into_inner();
        assert!((120..=190).contains(&survived), "{survived} of 200 ended by themselves");
    }
}

#[test]
fn who_does_not_read_blocks_nobody() {
    let model = tales(ModelOptions { max_sequences: Some(4), ..ModelOptions::default() });
    let asked = |seed: u32, max_tokens| Request {
        max_tokens: Some(max_tokens),
        ignore_end: true,
        ..Request::new(Prompt::Tokens(vec![seed + 5; 20]))
    };
    // Three of four places are taken by answers that nobody reads; they run to their end by themselves.
    let unread: Vec<_> = (0..3).map(|seed| model.generate(asked(seed, 200)).expect("it starts")).collect();
    for seed in 3..13 {
        let mut generation = model.generate(asked(seed, 10)).expect("it starts");
        while let Ok(Step::Chunk(_)) = generation.next(Some(Duration::from_secs(60))) {}
        assert_eq!(generation.metrics().generated_tokens, 10);
    }
    for mut generation in unread {
        let mut tokens = 0;
        while let Ok(Step::Chunk(chunk)) = generation.next(Some(Duration::from_secs(60))) {
            tokens += chunk.tokens.len();
        }
        assert_eq!(tokens, 200);
    }
}

#[test]
fn a_shared_beginning_is_computed_once_even_when_all_come_at_once() {
    let model = tales(ModelOptions::default());
    let shared: Vec<u32> = (0..300).map(|i| (i * 37 % 8000) as u32).collect();
    let generations: Vec<_> = (0..8)
        .map(|i| {
            let mut prompt = shared.clone();
            prompt.extend([i + 5, i + 6, i + 7]);
            let request = Request { max_tokens: Some(2), ignore_end: true, ..Request::new(Prompt::Tokens(prompt)) };
            model.generate(request).expect("it starts")
        })
        .collect();
    let mut computed = 0;
    for mut generation in generations {
        while let Ok(Step::Chunk(_)) = generation.next(None) {}
        let metrics = generation.metrics();
        computed += metrics.prompt_tokens - metrics.cached_tokens;
    }
    // One computes all, the others what follows the shared whole pages: 300 - 256 + 3.
    assert!(computed <= 303 + 7 * 47, "{computed} of {} prompt tokens were computed", 8 * 303);
}
