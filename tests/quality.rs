//! What the fast path costs in quality, against exact arithmetic, on text the checkpoints were made for.

#[path = "common/run.rs"]
mod run;
#[path = "common/shared.rs"]
mod shared;

use std::path::Path;

use gomlx::engine::Precision;
use gomlx::engine::classify::{ClassifyRequest, ClassifyTemplate};
use gomlx::engine::text::Tokenizer;
use gomlx::engine::{Model, ModelOptions};
use run::{EXACT, FAST, How, Runner, log_probability};

/// Perplexity over the first 40 stories, each stripped, BOS first, cut at 512 tokens.
fn perplexity(model: &Path, stories: &[String], how: How) -> (f64, usize) {
    let tokenizer = Tokenizer::from_dir(model).expect("the tokenizer loads");
    let runner = Runner::load(model, how).expect("the model loads");
    let (mut sum, mut count) = (0.0, 0);
    for story in stories {
        let mut ids = tokenizer.encode(story, true).expect("it encodes");
        ids.truncate(512);
        let logits = runner.logits(&ids).expect("it runs");
        sum += logits.iter().zip(&ids[1..]).map(|(row, next)| log_probability(row, *next)).sum::<f64>();
        count += ids.len() - 1;
    }
    ((-sum / count as f64).exp(), count)
}

#[test]
fn perplexity_of_the_fast_path_stays_within_three_permille() {
    let Some(text) = shared::shared("data/stories.valid.txt") else { return };
    let text = std::fs::read_to_string(text).expect("readable");
    let stories: Vec<String> =
        text.split("<|endoftext|>").map(|s| s.trim().to_string()).filter(|s| !s.is_empty()).take(40).collect();
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/llama-tales-16m-4bit");
    let (exact, tokens) = perplexity(&model, &stories, EXACT);
    let (fast, _) = perplexity(&model, &stories, FAST);
    println!(
        "perplexity over {tokens} tokens: {exact:.4} exact, {fast:.4} fast ({:+.3} %)",
        (fast / exact - 1.0) * 100.0
    );
    // mlx-lm in float32 on the same file and tokens.
    assert_eq!(tokens, 8309);
    assert!((exact - 8.898).abs() < 0.002, "exact {exact:.4}, mlx-lm 8.898");
    assert!((fast / exact - 1.0).abs() <= 0.003);
}

/// The CLINC150 test set: sentences and the index of each one's domain.
fn clinc(path: &Path, labels: &[String]) -> (Vec<String>, Vec<usize>) {
    let table = std::fs::read_to_string(path).expect("readable");
    let rows = table.lines().skip(1).map(|line| {
        let fields: Vec<&str> = line.split('\t').collect();
        let domain = format!(" {}", fields[2].replace('_', " "));
        (fields[0].to_string(), labels.iter().position(|label| *label == domain).expect("a known domain"))
    });
    rows.unzip()
}

#[test]
fn clinc_domains_are_found_as_with_exact_arithmetic() {
    let (Some(data), Some(models)) = (shared::shared("data/clinc150/test.tsv"), shared::shared("models")) else {
        return;
    };
    let labels = [
        " auto and commute",
        " banking",
        " credit cards",
        " home",
        " kitchen and dining",
        " meta",
        " small talk",
        " travel",
        " utility",
        " work",
    ];
    let labels: Vec<String> = labels.map(String::from).to_vec();
    let (texts, domains) = clinc(&data, &labels);
    assert_eq!(texts.len(), 4500);
    // Right answers by mlx-lm in float32 on the same weights, by the labels' first tokens.
    for (name, theirs) in
        [("gemma3-domains-6m", 4299), ("gemma3-domains-6m-8bit", 4299), ("gemma3-domains-6m-4bit", 4296)]
    {
        let right = |precision| {
            let options = ModelOptions { precision, context_length: Some(256), ..ModelOptions::default() };
            let model = Model::load(&models.join(name), &options).expect("the model loads");
            let asked = ClassifyRequest {
                template: ClassifyTemplate::Text("Sentence: {text}\nDomain:".into()),
                texts: texts.clone(),
                labels: labels.clone(),
                best_only: false,
                logits: false,
                deadline: None,
                control: None,
            };
            let start = std::time::Instant::now();
            let results = model.classify(&asked).expect("it classifies");
            let rate = texts.len() as f64 / start.elapsed().as_secs_f64();
            (results.iter().zip(&domains).filter(|(result, domain)| result.label == **domain).count(), rate)
        };
        let ((exact, _), (fast, rate)) = (right(Precision::Exact), right(Precision::Fast));
        println!("{name}: {exact} right exact, {fast} fast, mlx-lm {theirs}; {rate:.0} sentences/s");
        assert!(exact.abs_diff(theirs) <= 3, "{name}: exact {exact}, mlx-lm {theirs}");
        assert!(fast + 5 >= exact, "{name}: fast {fast}, exact {exact}");
    }
}
