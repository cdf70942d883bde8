//! The work that is measured, on one loaded model.

use std::collections::HashMap;
use std::thread;
use std::time::{Duration, Instant};

use gomlx::engine::Model;
use gomlx::engine::classify::{Classification, ClassifyRequest, ClassifyTemplate};
use gomlx::engine::generation::{Generation, Step};
use gomlx::engine::request::{Prompt, Request};
use serde_json::{Value, json};

/// A model and what earlier measurements left for later ones.
pub struct Work {
    model: Model,
    seed: u64,
    /// Long prompts by (sequences, tokens): asked again, they come from the prefix cache.
    prompts: HashMap<(usize, usize), Vec<Vec<u32>>>,
}

impl Work {
    pub fn new(model: Model) -> Self {
        Self { model, seed: 1, prompts: HashMap::new() }
    }

    fn random(&mut self) -> u64 {
        self.seed = self.seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        self.seed >> 33
    }

    /// Never the same tokens twice, so that no prefix is known already.
    fn tokens(&mut self, count: usize) -> Vec<u32> {
        let vocabulary = self.model.info().vocabulary as u64;
        (0..count).map(|_| (self.random() % vocabulary) as u32).collect()
    }

    /// A greedy answer of exactly `tokens` tokens.
    fn start(&self, prompt: Vec<u32>, tokens: usize) -> Generation {
        let mut request = Request::new(Prompt::Tokens(prompt));
        request.max_tokens = Some(tokens);
        request.ignore_end = true;
        request.special_in_text = true;
        self.model.generate(request).expect("a good request")
    }

    /// A prompt from the call until its first token.
    pub fn prompt(&mut self, tokens: usize) -> Value {
        let prompt = self.tokens(tokens);
        let begin = Instant::now();
        drain(self.start(prompt, 1), |_| ());
        let seconds = begin.elapsed().as_secs_f64();
        json!({"rate": tokens as f64 / seconds, "seconds": seconds})
    }

    /// The first token of a text that is `tokens` tokens long.
    pub fn first_token(&mut self, tokens: usize) {
        const TEXT: &str = "Once upon a time, a small fox lived at the edge of a deep green wood and knew every path.";
        let mut prompt = self.model.tokenize(TEXT, true).expect("text");
        assert!(prompt.len() >= tokens, "the text has only {} tokens", prompt.len());
        prompt.truncate(tokens);
        drain(self.start(prompt, 1), |_| ());
    }

    /// Sequences decoded together, each with `context` tokens before: the tokens that arrive between the moment when
    /// the last of them has its first token and the moment when the first of them ends.
    pub fn decode(&mut self, sequences: usize, context: usize, steps: usize) -> Value {
        if !self.prompts.contains_key(&(sequences, context)) {
            let prompts = (0..sequences).map(|_| self.tokens(context)).collect();
            self.prompts.insert((sequences, context), prompts);
        }
        let prompts = self.prompts[&(sequences, context)].clone();
        // The first ones generate while the others' prompts are computed, so all get some tokens more.
        let ahead = if sequences == 1 { 2 } else { 2 + (sequences * context).div_ceil(256) };
        let generations: Vec<_> = prompts.into_iter().map(|prompt| self.start(prompt, ahead + steps)).collect();
        let arrivals: Vec<Vec<(Instant, usize)>> = thread::scope(|scope| {
            let readers: Vec<_> =
                generations.into_iter().map(|generation| scope.spawn(|| arrivals(generation))).collect();
            readers.into_iter().map(|reader| reader.join().expect("a reader")).collect()
        });
        let first = arrivals.iter().filter_map(|a| a.first()).map(|(at, _)| *at).max().expect("tokens");
        let last = arrivals.iter().filter_map(|a| a.last()).map(|(at, _)| *at).min().expect("tokens");
        let inside = arrivals.iter().flatten().filter(|(at, _)| *at > first && *at <= last);
        let tokens: usize = inside.map(|(_, tokens)| tokens).sum();
        let seconds = last.saturating_duration_since(first).as_secs_f64();
        assert!(tokens * 2 >= sequences * steps, "only {tokens} tokens of {sequences} sequences were decoded together");
        json!({"rate": tokens as f64 / seconds, "seconds": seconds, "tokens": tokens})
    }

    /// Plain threads, each of which asks for a whole answer: prompts included.
    pub fn callers(&mut self, callers: usize, prompt: usize, tokens: usize) -> Value {
        let prompts: Vec<_> = (0..callers).map(|_| self.tokens(prompt)).collect();
        let begin = Instant::now();
        thread::scope(|scope| {
            let work = &*self;
            for prompt in prompts {
                scope.spawn(move || drain(work.start(prompt, tokens), |_| ()));
            }
        });
        let seconds = begin.elapsed().as_secs_f64();
        json!({"rate": (callers * tokens) as f64 / seconds, "seconds": seconds})
    }

    /// Texts of `tokens` tokens behind a shared beginning, ten labels of one token.
    pub fn classify(&mut self, shared: usize, tokens: usize, texts: usize) -> Value {
        let begin_text = self.text(shared);
        let texts: Vec<String> = (0..texts).map(|_| self.text(tokens)).collect();
        let labels: Vec<String> = ('0'..='9').map(String::from).collect();
        let request = request(&format!("{begin_text} {{text}}"), &labels, texts);
        let begin = Instant::now();
        let answers = self.model.classify(&request).expect("a good request");
        let seconds = begin.elapsed().as_secs_f64();
        let total: usize = answers.iter().map(|answer| answer.prompt_tokens).sum();
        json!({"rate": answers.len() as f64 / seconds, "seconds": seconds,
               "prompt_tokens": total as f64 / answers.len() as f64})
    }

    /// Random words that are `tokens` tokens long.
    fn text(&mut self, tokens: usize) -> String {
        let mut text = String::new();
        let count = |text: &str| self.model.tokenize(text, false).expect("text").len();
        let mut seed = self.seed;
        loop {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let letters = (0..4).map(|i| char::from(b'a' + ((seed >> (33 + 5 * i)) % 26) as u8));
            let longer: String = text.chars().chain([' ']).chain(letters).collect();
            if count(&longer) > tokens {
                break;
            }
            text = longer;
        }
        // No vocabulary joins these.
        while count(&format!("{text}~^")) <= tokens {
            text.push_str("~^");
        }
        self.seed = seed;
        text
    }

    /// A real task: lines of `text <tab> intent <tab> label` behind a heading.
    pub fn domains(&mut self, texts: &str, template: &str, labels: &[String]) -> Value {
        let rows = rows(texts);
        let request = request(template, labels, rows.iter().map(|row| row[0].clone()).collect());
        let begin = Instant::now();
        let answers = self.model.classify(&request).expect("a good request");
        let seconds = begin.elapsed().as_secs_f64();
        let right = right(&rows, labels, &answers);
        json!({"rate": rows.len() as f64 / seconds, "seconds": seconds, "right": right, "texts": rows.len()})
    }

    /// The same with a call for each text; `different` answers are none of those that all in one call get.
    pub fn domains_alone(&mut self, texts: &str, template: &str, labels: &[String]) -> Value {
        let rows = rows(texts);
        let all = request(template, labels, rows.iter().map(|row| row[0].clone()).collect());
        let together = self.model.classify(&all).expect("a good request");
        let begin = Instant::now();
        let alone: Vec<Classification> = rows
            .iter()
            .flat_map(|row| self.model.classify(&request(template, labels, vec![row[0].clone()])).expect("an answer"))
            .collect();
        let seconds = begin.elapsed().as_secs_f64();
        let different = together.iter().zip(&alone).filter(|(one, other)| one.label != other.label).count();
        let right = right(&rows, labels, &alone);
        json!({"rate": rows.len() as f64 / seconds, "right": right, "texts": rows.len(), "different": different})
    }
}

/// The cells of a table's lines.
fn rows(table: &str) -> Vec<Vec<String>> {
    let text = std::fs::read_to_string(table).unwrap_or_else(|error| panic!("{table}: {error}"));
    text.lines().skip(1).map(|line| line.split('\t').map(str::to_owned).collect()).collect()
}

fn request(template: &str, labels: &[String], texts: Vec<String>) -> ClassifyRequest {
    ClassifyRequest {
        template: ClassifyTemplate::Text(template.to_owned()),
        texts,
        labels: labels.to_vec(),
        logits: false,
        best_only: true,
        deadline: None,
        control: None,
    }
}

/// How many answers name the label in the row's third cell.
fn right(rows: &[Vec<String>], labels: &[String], answers: &[Classification]) -> usize {
    let is_right =
        |(row, answer): &(&Vec<String>, &Classification)| labels[answer.label].trim() == row[2].replace('_', " ");
    rows.iter().zip(answers).filter(is_right).count()
}

/// Reads an answer to its end.
fn drain(mut generation: Generation, mut each: impl FnMut(usize)) {
    loop {
        match generation.next(Some(Duration::from_secs(600))).expect("an answer") {
            Step::Chunk(chunk) => each(chunk.tokens.len()),
            Step::Pending => panic!("no token within ten minutes"),
            Step::Done(_) => return,
        }
    }
}

/// When tokens came, and how many.
fn arrivals(generation: Generation) -> Vec<(Instant, usize)> {
    let mut arrivals = Vec::new();
    drain(generation, |tokens| arrivals.push((Instant::now(), tokens)));
    arrivals
}
