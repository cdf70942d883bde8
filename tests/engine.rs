//! The facade on a real model: generation, batching, cancel, limits. The model is committed, nothing is skipped.

use std::path::PathBuf;
use std::time::Duration;

use gomlx::engine::classify::{ClassifyRequest, ClassifyTemplate, Pooling};
use gomlx::engine::sampling::Sampling;
use gomlx::engine::{Control, Generation, Model, ModelOptions, Prompt, Request, Result, Status, Step, StopReason};

fn model_dir(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("models").join(name)
}

fn tales(options: &ModelOptions) -> Model {
    Model::load(&model_dir("llama-tales-16m-4bit"), options).expect("the committed model loads")
}

/// Two threads and a small context: the tests share two cores.
fn small() -> ModelOptions {
    ModelOptions { threads: Some(2), context_length: Some(512), ..ModelOptions::default() }
}

fn read(generation: &mut Generation) -> Result<(String, StopReason)> {
    let mut text = String::new();
    loop {
        match generation.next(None)? {
            Step::Chunk(chunk) => text.push_str(&chunk.text),
            Step::Done(reason) => return Ok((text, reason)),
            Step::Pending => unreachable!("no timeout was given"),
        }
    }
}

fn request(prompt: &str, max_tokens: usize) -> Request {
    Request { max_tokens: Some(max_tokens), ..Request::new(Prompt::Text(prompt.into())) }
}

fn answer(model: &Model, request: Request) -> String {
    let mut generation = model.generate(request).expect("the request is right");
    read(&mut generation).expect("it generates").0
}

#[test]
fn a_story_is_told_and_measured() {
    let model = tales(&small());
    let mut generation = model.generate(request("Once upon a time", 48)).unwrap();
    let (text, reason) = read(&mut generation).unwrap();
    println!("{text}");
    assert_eq!(reason, StopReason::MaxTokens);
    assert!(text.split_whitespace().count() > 25, "{text:?}");
    let metrics = generation.metrics();
    assert_eq!((metrics.generated_tokens, metrics.stop_reason), (48, StopReason::MaxTokens));
    assert_eq!(metrics.prompt_tokens as usize, model.tokenize("Once upon a time", true).unwrap().len());
    assert!(metrics.first_token_seconds > 0.0 && metrics.decode_tokens_per_second > 0.0);
    assert!(metrics.active_memory > model.info().bytes_on_disk / 2);
}

#[test]
fn seeds_repeat_and_differ() {
    let model = tales(&small());
    let with = |seed| {
        let sampling = Sampling { temperature: 1.0, top_p: 0.95, seed: Some(seed), ..Sampling::default() };
        answer(&model, Request { sampling, ..request("The dog", 40) })
    };
    assert_eq!(with(7), with(7));
    assert_ne!(with(7), with(8));
}

#[test]
fn batched_answers_equal_those_made_alone() {
    let model = tales(&small());
    let prompts = ["Once upon a time", "The king", "A small boat on the sea was", "Lily and Tom", "One day a fox"];
    let requests = |round: usize| {
        prompts.iter().enumerate().map(move |(i, prompt)| {
            let seed = Some((10 * round + i) as u64);
            let sampling = Sampling { temperature: 0.8 * (i % 2) as f32, seed, ..Sampling::default() };
            Request { sampling, ..request(prompt, 20 + 7 * i) }
        })
    };
    let alone: Vec<String> = (0..2).flat_map(requests).map(|request| answer(&model, request)).collect();
    for options in
        [small(), ModelOptions { prefix_budget: Some(0), prefill_chunk: Some(3), threads: Some(1), ..small() }]
    {
        let model = tales(&options);
        let together: Vec<String> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..2)
                .flat_map(requests)
                .map(|request| {
                    let model = model.clone();
                    scope.spawn(move || answer(&model, request))
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
        });
        assert_eq!(together, alone, "{options:?}");
    }
}

#[test]
fn a_conversation_computes_each_token_once() {
    let model = tales(&small());
    let mut prompt = model.tokenize("Once upon a time there was a", true).unwrap();
    let mut computed = 0;
    for turn in 0..10 {
        let asked = Request { max_tokens: Some(12), ignore_end: true, ..Request::new(Prompt::Tokens(prompt.clone())) };
        let mut generation = model.generate(asked).unwrap();
        let (text, _) = read(&mut generation).unwrap();
        let metrics = generation.metrics();
        if turn > 0 {
            // All but what the last turn never computed (its last token) and the new words.
            assert_eq!(metrics.cached_tokens as usize, computed, "turn {turn}");
        }
        computed = prompt.len() + 12 - 1;
        let mut next = model.tokenize(&text, false).unwrap();
        // The answer's own tokens, not a second opinion about how to cut its text.
        next.truncate(0);
        let generated = regenerate(&model, &prompt);
        assert_eq!(model.detokenize(&generated, true).unwrap(), text);
        prompt.extend(generated);
        prompt.extend(model.tokenize(" and then", false).unwrap());
        computed = computed.max(prompt.len() - model.tokenize(" and then", false).unwrap().len() - 1);
    }
}

/// The greedy tokens after `prompt`, read through log-probabilities.
fn regenerate(model: &Model, prompt: &[u32]) -> Vec<u32> {
    let sampling = Sampling { logprobs: 1, ..Sampling::default() };
    let asked =
        Request { sampling, max_tokens: Some(12), ignore_end: true, ..Request::new(Prompt::Tokens(prompt.to_vec())) };
    let mut generation = model.generate(asked).unwrap();
    let mut tokens = Vec::new();
    while let Step::Chunk(chunk) = generation.next(None).unwrap() {
        for token in chunk.tokens {
            assert_eq!((token.id, token.logprob), token.top[0], "greedy takes the most probable");
            tokens.push(token.id);
        }
    }
    tokens
}

#[test]
fn stop_texts_never_leak() {
    let model = tales(&small());
    let whole = answer(&model, request("Once upon a time", 60));
    let words: Vec<&str> = whole.split_whitespace().collect();
    let stop = format!("{} {}", words[10], words[11]);
    let at = whole.find(&stop).unwrap();
    let mut generation = model.generate(Request { stop: vec![stop], ..request("Once upon a time", 60) }).unwrap();
    let (text, reason) = read(&mut generation).unwrap();
    assert_eq!((text.as_str(), reason), (&whole[..at], StopReason::Stop));
}

#[test]
fn cancel_ends_it_within_a_step() {
    let model = tales(&small());
    let control = Control::new();
    let asked = Request { control: Some(control.clone()), ignore_end: true, ..request("Once", 400) };
    let mut generation = model.generate(asked).unwrap();
    assert!(matches!(generation.next(None), Ok(Step::Chunk(_))));
    control.cancel();
    let error = loop {
        match generation.next(Some(Duration::from_secs(10))) {
            Ok(Step::Chunk(_)) => {}
            Ok(other) => panic!("{other:?}"),
            Err(error) => break error,
        }
    };
    assert_eq!(error.status(), Status::Cancelled);
    assert!(generation.metrics().generated_tokens < 300);
    assert_eq!(generation.next(None).unwrap_err().status(), Status::Cancelled);
}

#[test]
fn a_freed_model_ends_its_generations() {
    let model = tales(&small());
    let mut generation = model.generate(Request { ignore_end: true, ..request("Once", 400) }).unwrap();
    assert!(matches!(generation.next(None), Ok(Step::Chunk(_))));
    drop(model);
    let error = loop {
        match generation.next(None) {
            Ok(Step::Chunk(_)) => {}
            Ok(other) => panic!("{other:?}"),
            Err(error) => break error,
        }
    };
    assert_eq!((error.status(), error.message()), (Status::State, "the model was freed"));
}

#[test]
fn requests_that_cannot_be_served_are_refused_with_the_reason() {
    let model = tales(&ModelOptions { max_queue: Some(1), max_sequences: Some(1), ..small() });
    let refused = |request: Request| model.generate(request).err().map(|e| (e.status(), e.message().to_string()));
    let says = |request: Request, status: Status, part: &str| {
        let (found, message) = refused(request).expect("it is refused");
        assert!(found == status && message.contains(part), "{found:?}: {message}");
    };
    says(request("x", 0), Status::Argument, "max_tokens is 0");
    says(request(&"word ".repeat(2000), 5), Status::ContextFull, "context of 512");
    says(Request { stop: vec![String::new()], ..request("x", 5) }, Status::Argument, "stop");
    says(Request { stop_tokens: vec![9_999_999], ..request("x", 5) }, Status::Argument, "9999999");
    says(Request::new(Prompt::Tokens(vec![])), Status::Argument, "empty");
    says(Request::new(Prompt::Tokens(vec![1 << 30])), Status::Argument, "outside");
    let sampling = Sampling { temperature: f32::NAN, ..Sampling::default() };
    says(Request { sampling, ..request("x", 5) }, Status::Argument, "temperature");
    // One runs, one waits, the third finds the queue full.
    let long = || Request { ignore_end: true, ..request("Once", 400) };
    let mut first = model.generate(long()).unwrap();
    assert!(matches!(first.next(None), Ok(Step::Chunk(_))));
    let _second = model.generate(long()).unwrap();
    let third = model.generate(long()).err().expect("the queue is full");
    assert_eq!(third.status(), Status::Busy);
    assert!(third.message().contains('1'), "{third}");
    // A deadline also counts while waiting.
    drop(_second);
    let mut late = loop {
        match model.generate(Request { deadline: Some(Duration::from_millis(20)), ..long() }) {
            Ok(generation) => break generation,
            Err(error) => assert_eq!(error.status(), Status::Busy),
        }
    };
    assert_eq!(read(&mut late).unwrap_err().status(), Status::Deadline);
}

/// Whether the same figure asked for twice is the same: bit for bit on the cpu backend. MLX chooses kernels by the shape
/// of a step, and how questions fall into steps depends on when they come (docs/backends.md).
fn same(one: f32, other: f32) -> bool {
    let slack = if std::env::var("GOMLX_BACKEND").is_ok_and(|name| name == "mlx") { 1e-4 } else { 0.0 };
    (one - other).abs() <= slack
}

#[test]
fn labels_score_as_they_would_be_generated() {
    let model = Model::load(&model_dir("gemma3-domains-6m-4bit"), &small()).unwrap();
    let labels = [" auto and commute", " banking", " credit cards", " home", " kitchen and dining", " travel", " work"];
    let texts = ["what is my balance at the bank", "book a flight to paris", "how long do i cook rice"];
    let asked = ClassifyRequest {
        template: ClassifyTemplate::Text("Sentence: {text}\nDomain:".into()),
        texts: texts.map(String::from).to_vec(),
        labels: labels.map(String::from).to_vec(),
        best_only: false,
        logits: true,
        deadline: None,
        control: None,
    };
    let results = model.classify(&asked).unwrap();
    let names: Vec<&str> = results.iter().map(|result| labels[result.label]).collect();
    assert_eq!(names, [" banking", " travel", " kitchen and dining"]);
    let quick = model.classify(&ClassifyRequest { best_only: true, logits: false, ..asked.clone() }).unwrap();
    for (quick, full) in quick.iter().zip(&results) {
        assert_eq!(quick.label, full.label);
        let (found, wanted) = (quick.logprobs[quick.label], full.logprobs[full.label]);
        assert!(same(found, wanted), "{found} is not {wanted}");
        assert!(quick.logprobs.iter().zip(&full.logprobs).all(|(quick, full)| quick >= full || same(*quick, *full)));
    }
    for (text, result) in texts.iter().zip(&results) {
        assert!((result.probabilities.iter().sum::<f32>() - 1.0).abs() < 1e-5);
        assert_eq!(result.logits.len(), model.info().vocabulary);
        // Raw logits: what generation reports of the same place, once normalised.
        let first = Request { max_tokens: Some(1), ..request(&format!("Sentence: {text}\nDomain:"), 1) };
        let mut first = Request { ignore_end: true, ..first };
        first.sampling.logprobs = 5;
        let mut generation = model.generate(first).unwrap();
        let Step::Chunk(chunk) = generation.next(None).unwrap() else { panic!("no token") };
        let largest = result.logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let log_sum = largest + result.logits.iter().map(|logit| (logit - largest).exp()).sum::<f32>().ln();
        for (id, logprob) in &chunk.tokens[0].top {
            assert!((result.logits[*id as usize] - log_sum - logprob).abs() < 1e-4, "token {id}");
        }
        // The same figures from plain scoring, one text at a time.
        let prompt = Prompt::Text(format!("Sentence: {text}\nDomain:"));
        let scores = model.score(&prompt, &asked.labels, None).unwrap();
        for (tokens, logprob) in scores.iter().zip(&result.logprobs) {
            let sum = tokens.iter().sum::<f32>();
            assert!(same(sum, *logprob), "{sum} is not {logprob}");
        }
    }
}

#[test]
fn embeddings_have_length_one_and_do_not_depend_on_company() {
    let model = tales(&small());
    let texts = ["a dog in the garden", "a dog in a garden", "the price of gold"].map(String::from);
    for pooling in [Pooling::Mean, Pooling::Last] {
        let together = model.embed(&texts, pooling, None).unwrap();
        for (text, vector) in texts.iter().zip(&together) {
            let alone = model.embed(std::slice::from_ref(text), pooling, None).unwrap();
            assert!(alone[0].iter().zip(vector).all(|(alone, together)| same(*alone, *together)), "{text}");
            assert!((vector.iter().map(|v| v * v).sum::<f32>() - 1.0).abs() < 1e-5);
        }
        let dot = |a: usize, b: usize| together[a].iter().zip(&together[b]).map(|(x, y)| x * y).sum::<f32>();
        assert!(dot(0, 1) > dot(0, 2), "{pooling:?}: neighbours {} strangers {}", dot(0, 1), dot(0, 2));
    }
}
