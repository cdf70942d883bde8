//! Questions about texts that need no generation: which label, how probable, where in space.
//!
//! Everything here is prefill: many texts fill a step together, and what their prompts share is computed once.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::control::Control;
use super::error::{Result, Status, error, fail};
use super::language_model::Model;
use super::memory;
use super::request::{Chat, Metrics, Prompt};
use super::scheduler::{Asking, Channel, Evaluation, Event, Goal, Question, Submission};

pub use super::scheduler::Pooling;

/// Which of several labels fits each of many texts.
#[derive(Clone, Debug)]
pub struct ClassifyRequest {
    /// What the labels are judged after.
    pub template: ClassifyTemplate,
    /// The texts.
    pub texts: Vec<String>,
    /// The answers to choose from, written exactly as they would follow the prompt (mind a leading space).
    pub labels: Vec<String>,
    /// Only the winner must be known exactly, which is quicker where labels have several tokens. Each other label's
    /// log-probability may then be an upper bound (that of its first token), and probabilities are relative to those.
    pub best_only: bool,
    /// Also returns the logits of the token after each prompt.
    pub logits: bool,
    /// Fails with `Deadline` when all of it takes longer.
    pub deadline: Option<Duration>,
    /// Progress in texts, and a way to stop.
    pub control: Option<Control>,
}

/// How a text becomes a prompt.
#[derive(Clone, Debug)]
pub enum ClassifyTemplate {
    /// Plain text around `{text}`.
    Text(String),
    /// A conversation whose contents hold `{text}`, through the model's chat template.
    Chat(Chat),
}

/// One text's result.
#[derive(Clone, Debug, PartialEq)]
pub struct Classification {
    /// Index of the most probable label; the first of equals.
    pub label: usize,
    /// Natural log-probability of each label's tokens after the prompt.
    pub logprobs: Vec<f32>,
    /// The same as probabilities among the labels: they sum to one.
    pub probabilities: Vec<f32>,
    /// `[vocabulary]`, where asked for.
    pub logits: Vec<f32>,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
}

/// The place of the text in a template.
const SLOT: &str = "{text}";

impl Model {
    /// Labels every text. Results come in the order of the texts, each what it would be alone.
    pub fn classify(&self, request: &ClassifyRequest) -> Result<Vec<Classification>> {
        if request.labels.is_empty() {
            fail!(Argument, "labels: there are none to choose from")
        }
        let (before, after, special) = self.around(&request.template)?;
        let labels = Arc::new(self.label_tokens(&after, &request.labels)?);
        let run = Run::new(self, request.deadline, request.control.clone());
        run.warm(&before, special)?;
        let question = |text: &String| {
            let prompt = self.tokenize(&[before.as_str(), text, &after].concat(), special)?;
            let (best_only, logits) = (request.best_only, request.logits);
            let question = Question { continuations: labels.clone(), best_only, logits, hidden: None };
            Ok((prompt, question))
        };
        let answers = run.ask(request.texts.iter().map(question))?;
        Ok(answers.into_iter().map(|(answer, metrics)| classification(answer, &metrics)).collect())
    }

    /// Log-probability of each continuation after one prompt, token by token. A continuation is tokenized by itself.
    pub fn score(&self, prompt: &Prompt, continuations: &[String], control: Option<Control>) -> Result<Vec<Vec<f32>>> {
        let tokens = continuations.iter().map(|text| {
            let tokens = self.tokenize(text, false)?;
            if tokens.is_empty() {
                fail!(Argument, "continuations: one of them has no tokens")
            }
            Ok(tokens)
        });
        let continuations = Arc::new(tokens.collect::<Result<_>>()?);
        let question = Question { continuations, ..Question::default() };
        let run = Run::new(self, None, control);
        let mut answers = run.ask(std::iter::once(self.prompt_tokens(prompt).map(|tokens| (tokens, question))))?;
        answers.pop().map(|(answer, _)| answer.logprobs).ok_or_else(|| error!(Internal, "a score without an answer"))
    }

    /// One vector of length one for each text: its hidden states after the final norm, pooled.
    pub fn embed(&self, texts: &[String], pooling: Pooling, control: Option<Control>) -> Result<Vec<Vec<f32>>> {
        let run = Run::new(self, None, control);
        let question = |text: &String| {
            let prompt = self.prompt_tokens(&Prompt::Text(text.clone()))?;
            Ok((prompt, Question { hidden: Some(pooling), ..Question::default() }))
        };
        let answers = run.ask(texts.iter().map(question))?;
        Ok(answers.into_iter().map(|(answer, _)| normalised(answer.hidden)).collect())
    }

    /// What stands before and after the text, and whether the tokenizer adds its special tokens.
    fn around(&self, template: &ClassifyTemplate) -> Result<(String, String, bool)> {
        let (whole, special) = match template {
            ClassifyTemplate::Text(text) => (text.clone(), true),
            ClassifyTemplate::Chat(chat) => (self.render_chat(chat)?, false),
        };
        let Some((before, after)) = whole.split_once(SLOT) else { fail!(Argument, "template: it has no {SLOT}") };
        if after.contains(SLOT) {
            fail!(Argument, "template: it has {SLOT} twice")
        }
        Ok((before.to_string(), after.to_string(), special))
    }

    /// Each label's tokens as they come out behind the template's end, where a tokenizer may join them with it.
    fn label_tokens(&self, after: &str, labels: &[String]) -> Result<Vec<Vec<u32>>> {
        let stem = self.tokenize(after, false)?;
        labels
            .iter()
            .map(|label| {
                let joined = self.tokenize(&[after, label].concat(), false)?;
                let own = match joined.strip_prefix(stem.as_slice()) {
                    Some(rest) => rest.to_vec(),
                    // The label changes how the template's end is cut: take it by itself.
                    None => self.tokenize(label, false)?,
                };
                if own.is_empty() {
                    fail!(Argument, "labels: {label:?} has no tokens")
                }
                Ok(own)
            })
            .collect()
    }
}

/// Questions of one call on their way through the scheduler.
struct Run<'a> {
    model: &'a Model,
    deadline: Option<Instant>,
    control: Control,
}

impl<'a> Run<'a> {
    fn new(model: &'a Model, deadline: Option<Duration>, control: Option<Control>) -> Self {
        let deadline = deadline.and_then(|within| Instant::now().checked_add(within));
        Self { model, deadline, control: control.unwrap_or_default() }
    }

    /// Computes what all prompts begin with, so that each finds it in the prefix cache.
    fn warm(&self, before: &str, special: bool) -> Result<()> {
        let mut tokens = self.model.tokenize(before, special)?;
        // Its last token may be cut differently where a text follows.
        tokens.pop();
        if tokens.len() < 2 {
            return Ok(());
        }
        let channel = self.submit(tokens, Question { logits: true, ..Question::default() }, true)?;
        self.answer(&channel).map(|_| ())
    }

    /// Asks every question and returns the answers in order, some questions ahead of the answers.
    fn ask(
        &self,
        questions: impl ExactSizeIterator<Item = Result<(Vec<u32>, Question)>>,
    ) -> Result<Vec<(Evaluation, Metrics)>> {
        let total = questions.len();
        let mut answers = Vec::with_capacity(total);
        let mut in_flight: VecDeque<Arc<Channel>> = VecDeque::new();
        let outcome = (|| {
            for question in questions {
                let (prompt, question) = question?;
                loop {
                    if in_flight.len() == self.model.in_flight() {
                        self.collect(&mut in_flight, &mut answers, total)?;
                    }
                    match self.submit(prompt.clone(), question.clone(), false) {
                        // Others fill the queue: wait for one of ours and try again.
                        Err(error) if error.status() == Status::Busy && !in_flight.is_empty() => {
                            self.collect(&mut in_flight, &mut answers, total)?;
                        }
                        channel => break in_flight.push_back(channel?),
                    }
                }
            }
            while !in_flight.is_empty() {
                self.collect(&mut in_flight, &mut answers, total)?;
            }
            Ok(())
        })();
        in_flight.iter().for_each(|channel| channel.abandon());
        outcome.map(|()| answers)
    }

    /// Waits for the oldest answer.
    fn collect(
        &self,
        in_flight: &mut VecDeque<Arc<Channel>>,
        answers: &mut Vec<(Evaluation, Metrics)>,
        total: usize,
    ) -> Result<()> {
        let Some(channel) = in_flight.front() else { return Ok(()) };
        let answer = self.answer(channel)?;
        answers.push((answer, channel.metrics()));
        in_flight.pop_front();
        self.control.report(answers.len() as u64, total as u64);
        Ok(())
    }

    fn answer(&self, channel: &Channel) -> Result<Evaluation> {
        match channel.receive(None) {
            Some(Event::Evaluated(answer)) => Ok(*answer),
            Some(Event::Failed(error)) => Err(error),
            Some(Event::Done(_)) if self.control.is_cancelled() => fail!(Cancelled, "cancelled by the caller"),
            Some(Event::Done(_)) => fail!(Deadline, "the deadline passed"),
            Some(Event::Token(_)) | None => fail!(Internal, "a question was answered by a generation"),
        }
    }

    fn submit(&self, prompt: Vec<u32>, question: Question, keep_prefix: bool) -> Result<Arc<Channel>> {
        let longest = question.continuations.iter().map(Vec::len).max().unwrap_or(0);
        let context = self.model.info().context_length;
        if prompt.is_empty() {
            fail!(Argument, "the prompt is empty and the tokenizer adds nothing to it")
        }
        if prompt.len() + longest > context {
            let tokens = prompt.len();
            fail!(ContextFull, "{tokens} tokens and {longest} behind them do not fit the context of {context}")
        }
        let channel = Channel::new();
        self.model.submit(Submission {
            prompt,
            goal: Goal::Evaluate(Box::new(Asking::new(question))),
            deadline: self.deadline,
            priority: 0,
            keep_prefix,
            control: Some(self.control.clone()),
            channel: channel.clone(),
            asked: Instant::now(),
            _alive: memory::Alive::request(),
        })?;
        Ok(channel)
    }
}

/// Sums each label's tokens and compares the sums.
fn classification(answer: Evaluation, metrics: &Metrics) -> Classification {
    let logprobs: Vec<f32> = answer.logprobs.iter().map(|tokens| tokens.iter().sum()).collect();
    let largest = logprobs.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let label = logprobs.iter().position(|logprob| *logprob == largest).unwrap_or(0);
    let weights: Vec<f32> = logprobs.iter().map(|logprob| (logprob - largest).exp()).collect();
    let sum: f32 = weights.iter().sum();
    let probabilities = weights.iter().map(|weight| weight / sum).collect();
    Classification {
        label,
        logprobs,
        probabilities,
        logits: answer.logits,
        prompt_tokens: metrics.prompt_tokens as usize,
    }
}

/// The vector at length one; a zero vector stays.
fn normalised(mut vector: Vec<f32>) -> Vec<f32> {
    let length = vector.iter().map(|v| f64::from(*v) * f64::from(*v)).sum::<f64>().sqrt() as f32;
    if length > 0.0 {
        vector.iter_mut().for_each(|v| *v /= length);
    }
    vector
}
