//! Requests that only read: log-probabilities of given continuations, raw logits, pooled hidden states.
//!
//! The prompt is computed once. Each continuation then runs over the same cache positions behind it, one after the
//! other, so nothing is copied; many requests side by side keep the steps full.

use std::ops::Range;
use std::sync::Arc;

use crate::engine::sampling;

/// How a prompt's hidden states become one vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooling {
    /// That of the last token.
    Last,
    /// The mean over all tokens.
    Mean,
}

/// What to find out about a prompt.
#[derive(Clone, Debug, Default)]
pub struct Question {
    /// Continuations to score, each at least one token.
    pub continuations: Arc<Vec<Vec<u32>>>,
    /// Only the most probable continuation must be known exactly: others are given up once they cannot win.
    pub best_only: bool,
    /// Also the logits of the token after the prompt.
    pub logits: bool,
    /// Also the pooled hidden state after the final norm.
    pub hidden: Option<Pooling>,
}

/// The answer to a [`Question`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Evaluation {
    /// Natural log-probability of each token of each continuation, given the prompt and the tokens before it. With
    /// `best_only`, a continuation that was given up has its first token's only.
    pub logprobs: Vec<Vec<f32>>,
    /// `[vocab]`, where asked for.
    pub logits: Vec<f32>,
    /// `[hidden]`, where asked for.
    pub hidden: Vec<f32>,
}

/// What a step must read for a range of a sequence's tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reads {
    /// Nothing: only keys and values matter.
    Nothing,
    /// Logits at these tokens.
    Logits(Range<usize>),
    /// Hidden states at these tokens; logits too at the last of them when it is the prompt's last.
    Hidden(Range<usize>),
}

/// A question on its way.
#[derive(Debug)]
pub struct Asking {
    question: Question,
    /// The continuation whose tokens stand behind the prompt now; `None` while the prompt is computed.
    stage: Option<usize>,
    answer: Evaluation,
    pooled_rows: usize,
}

impl Asking {
    /// Nothing known yet.
    pub fn new(question: Question) -> Self {
        Self { question, stage: None, answer: Evaluation::default(), pooled_rows: 0 }
    }

    /// Longest continuation's tokens that must be computed: its last is only looked up.
    pub fn most_behind(&self) -> usize {
        self.question.continuations.iter().map(|c| c.len() - 1).max().unwrap_or(0)
    }

    /// Whether every prompt token's hidden state is needed, so that none can come from the prefix cache.
    pub fn needs_every_row(&self) -> bool {
        self.question.hidden == Some(Pooling::Mean)
    }

    /// What to read when `tokens` are computed of a prompt of `prompt` tokens.
    pub fn reads(&self, tokens: &Range<usize>, prompt: usize) -> Reads {
        if self.stage.is_some() {
            return Reads::Logits(tokens.clone());
        }
        let last = tokens.end == prompt;
        match self.question.hidden {
            Some(Pooling::Mean) => Reads::Hidden(tokens.clone()),
            Some(Pooling::Last) if last => Reads::Hidden(prompt - 1..prompt),
            None if last => Reads::Logits(prompt - 1..prompt),
            _ => Reads::Nothing,
        }
    }

    /// Whether the prompt's last token needs its logits, beside its hidden state.
    pub fn wants_logits(&self) -> bool {
        self.question.logits || !self.question.continuations.is_empty()
    }

    /// Takes in one row's hidden state.
    pub fn take_hidden(&mut self, row: &[f32]) {
        self.answer.hidden.resize(row.len(), 0.0);
        for (sum, value) in self.answer.hidden.iter_mut().zip(row) {
            *sum += value;
        }
        self.pooled_rows += 1;
    }

    /// The tokens whose log-probabilities are all that the next `rows` rows of logits are asked for, row by row;
    /// `None` where the logits themselves are wanted.
    pub fn named(&self, rows: usize) -> Option<Vec<Vec<u32>>> {
        let continuations = &self.question.continuations;
        match self.stage {
            _ if self.question.logits => None,
            None => Some(vec![continuations.iter().map(|c| c[0]).collect(); rows]),
            Some(stage) => {
                let known = self.answer.logprobs[stage].len();
                Some((known..known + rows).map(|at| vec![continuations[stage][at]]).collect())
            }
        }
    }

    /// Takes in the log-probabilities of the tokens that [`named`](Self::named) gave for one row.
    pub fn take_logprobs(&mut self, logprobs: &[f32]) {
        match self.stage {
            None => self.answer.logprobs = logprobs.iter().map(|logprob| vec![*logprob]).collect(),
            Some(stage) => self.answer.logprobs[stage].extend_from_slice(logprobs),
        }
    }

    /// Takes in the logits behind the prompt.
    pub fn take_prompt_logits(&mut self, row: &[f32]) {
        let log_sum = sampling::log_sum_exp(row);
        let first = |c: &Vec<u32>| vec![row[c[0] as usize] - log_sum];
        self.answer.logprobs = self.question.continuations.iter().map(first).collect();
        if self.question.logits {
            self.answer.logits = row.to_vec();
        }
    }

    /// Takes in the logits at a token of the current continuation.
    pub fn take_logits(&mut self, row: &[f32]) {
        let Some(stage) = self.stage else { return };
        let known = &mut self.answer.logprobs[stage];
        let next = self.question.continuations[stage][known.len()];
        known.push(row[next as usize] - sampling::log_sum_exp(row));
    }

    /// The tokens to put behind the prompt next, or `None` when everything is known: of the continuations that are
    /// not yet scored to their end, the one that begins best.
    pub fn next_stage(&mut self) -> Option<&[u32]> {
        let (mut best_known, mut next) = (f32::NEG_INFINITY, None);
        for (index, (tokens, known)) in self.question.continuations.iter().zip(&self.answer.logprobs).enumerate() {
            if known.len() == tokens.len() {
                best_known = best_known.max(known.iter().sum());
            } else if next.is_none_or(|other: usize| known[0] > self.answer.logprobs[other][0]) {
                next = Some(index);
            }
        }
        let stage = next?;
        // Further tokens only make a continuation less probable, and this one begins best of those left.
        if self.question.best_only && self.answer.logprobs[stage][0] < best_known {
            return None;
        }
        self.stage = Some(stage);
        let tokens = &self.question.continuations[stage];
        Some(&tokens[..tokens.len() - 1])
    }

    /// Everything found out.
    pub fn answer(&mut self) -> Evaluation {
        let mut answer = std::mem::take(&mut self.answer);
        let rows = self.pooled_rows.max(1) as f32;
        answer.hidden.iter_mut().for_each(|sum| *sum /= rows);
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Logits over four tokens whose log-probabilities are these (they sum to one).
    fn logits(probabilities: [f32; 4]) -> Vec<f32> {
        probabilities.iter().map(|p| p.ln()).collect()
    }

    fn asking(best_only: bool) -> Asking {
        let continuations = Arc::new(vec![vec![0], vec![1, 2, 3], vec![2, 0]]);
        Asking::new(Question { continuations, best_only, ..Question::default() })
    }

    #[test]
    fn continuations_are_scored_best_beginning_first_and_to_their_end() {
        let mut asking = asking(false);
        asking.take_prompt_logits(&logits([0.1, 0.2, 0.6, 0.1]));
        assert_eq!(asking.next_stage(), Some(&[2][..]));
        asking.take_logits(&logits([0.5, 0.2, 0.2, 0.1]));
        assert_eq!(asking.next_stage(), Some(&[1, 2][..]));
        asking.take_logits(&logits([0.1, 0.1, 0.7, 0.1]));
        asking.take_logits(&logits([0.1, 0.1, 0.1, 0.7]));
        assert_eq!(asking.next_stage(), None);
        let sums: Vec<f32> = asking.answer().logprobs.iter().map(|tokens| tokens.iter().sum::<f32>().exp()).collect();
        for (sum, expected) in sums.iter().zip([0.1, 0.2 * 0.7 * 0.7, 0.6 * 0.5]) {
            assert!((sum - expected).abs() < 1e-6, "{sum} {expected}");
        }
    }

    #[test]
    fn what_cannot_win_is_given_up() {
        let mut asking = asking(true);
        asking.take_prompt_logits(&logits([0.1, 0.2, 0.6, 0.1]));
        assert_eq!(asking.next_stage(), Some(&[2][..]));
        asking.take_logits(&logits([0.5, 0.2, 0.2, 0.1]));
        // 0.6 * 0.5 is more than 0.2, whatever follows.
        assert_eq!(asking.next_stage(), None);
        assert_eq!(asking.answer().logprobs.iter().map(Vec::len).collect::<Vec<_>>(), [1, 1, 2]);
    }
}
