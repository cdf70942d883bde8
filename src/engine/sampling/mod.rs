//! Which token comes next: logits to one token, the same for the same seed whoever else is served.
//!
//! A leaf: plain data and arithmetic. Order as in transformers' `generate`: logit bias, repetition penalty, presence
//! and frequency penalties, temperature, top-k, top-p, min-p, typical, draw.

mod filters;
mod penalties;
mod sampler;
mod vector;

pub use sampler::{Sampled, Sampler};

use crate::engine::error::{Result, fail};

/// How tokens are chosen. The default is greedy: always the most probable.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampling {
    /// Divides the logits: below 1 bolder, above 1 more varied. 0: greedy, and so is anything below 1e-5.
    pub temperature: f32,
    /// Only the k most probable tokens (and those equal to the k-th); 0: all.
    pub top_k: u32,
    /// Only the most probable tokens that together have this probability, at least one (Holtzman et al. 2019); 1: all.
    pub top_p: f32,
    /// Only tokens at least this probable relative to the most probable (Nguyen et al. 2024); 0: all.
    pub min_p: f32,
    /// Only the tokens whose surprise is nearest to the expected one and that together have this probability
    /// (Meister et al. 2022); 1: all.
    pub typical_p: f32,
    /// Divides positive logits, multiplies negative ones, of tokens in prompt or answer (Keskar et al. 2019); 1: none.
    pub repetition_penalty: f32,
    /// Taken off the logit of every token that the answer has (OpenAI); 0: none.
    pub presence_penalty: f32,
    /// Taken off the logit once for each time that the answer has the token (OpenAI); 0: none.
    pub frequency_penalty: f32,
    /// The penalties see only this many last tokens of prompt and answer; 0: all.
    pub penalty_window: u32,
    /// Added to single tokens' logits; minus infinity forbids a token.
    pub logit_bias: Vec<(u32, f32)>,
    /// The same seed, request and model give the same answer; `None`: another each time.
    pub seed: Option<u64>,
    /// How many of the most probable tokens to report at each place, with log-probabilities; 0: none, and the chosen
    /// token's is not computed either.
    pub logprobs: u32,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            typical_p: 1.0,
            repetition_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            penalty_window: 0,
            logit_bias: Vec::new(),
            seed: None,
            logprobs: 0,
        }
    }
}

impl Sampling {
    /// Checks every field against a vocabulary of `vocab` tokens. Errors (`Argument`) name the field.
    pub fn validate(&self, vocab: usize) -> Result<()> {
        let within = |name: &str, value: f32, low: f32, high: f32| {
            // Written so that NaN fails.
            if !(value >= low && value <= high) {
                fail!(Argument, "sampling: {name} is {value}; it must lie between {low} and {high}");
            }
            Ok(())
        };
        within("temperature", self.temperature, 0.0, 1e4)?;
        within("top_p", self.top_p, 0.0, 1.0)?;
        within("min_p", self.min_p, 0.0, 1.0)?;
        within("typical_p", self.typical_p, 0.0, 1.0)?;
        within("repetition_penalty", self.repetition_penalty, 1e-3, 1e3)?;
        within("presence_penalty", self.presence_penalty, -1e3, 1e3)?;
        within("frequency_penalty", self.frequency_penalty, -1e3, 1e3)?;
        for &(id, bias) in &self.logit_bias {
            if id as usize >= vocab {
                fail!(Argument, "sampling: logit_bias names token {id}; the vocabulary has {vocab}");
            }
            if bias.is_nan() || bias == f32::INFINITY {
                fail!(Argument, "sampling: logit_bias of token {id} is {bias}");
            }
        }
        if self.logprobs as usize > vocab {
            fail!(Argument, "sampling: logprobs is {}; the vocabulary has {vocab}", self.logprobs);
        }
        Ok(())
    }

    /// Whether the most probable token is taken, with no draw.
    pub fn is_greedy(&self) -> bool {
        self.temperature < 1e-5
    }

    /// Whether the answer is the plain arg-max of the model's logits, so that a backend may compute it where the
    /// logits lie: greedy, nothing added or taken off, no log-probabilities.
    pub fn is_plain_argmax(&self) -> bool {
        self.is_greedy() && self.logit_bias.is_empty() && !self.has_penalties() && self.logprobs == 0
    }

    fn has_penalties(&self) -> bool {
        self.repetition_penalty != 1.0 || self.presence_penalty != 0.0 || self.frequency_penalty != 0.0
    }
}

/// `ln Σ e^logit`: a logit minus it is the token's log-probability. NaN where a logit is NaN.
pub fn log_sum_exp(logits: &[f32]) -> f32 {
    match vector::argmax(logits) {
        Some((_, largest)) => (f64::from(largest) + vector::sum_exp(logits, largest).ln()) as f32,
        None => f32::NAN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_is_checked_by_name() {
        type Change = fn(&mut Sampling);
        let cases: [(&str, Change); 12] = [
            ("temperature", |s| s.temperature = f32::NAN),
            ("temperature", |s| s.temperature = -0.1),
            ("temperature", |s| s.temperature = f32::INFINITY),
            ("top_p", |s| s.top_p = 1.1),
            ("min_p", |s| s.min_p = f32::NAN),
            ("typical_p", |s| s.typical_p = -1.0),
            ("repetition_penalty", |s| s.repetition_penalty = 0.0),
            ("presence_penalty", |s| s.presence_penalty = f32::NEG_INFINITY),
            ("frequency_penalty", |s| s.frequency_penalty = f32::NAN),
            ("logit_bias", |s| s.logit_bias = vec![(10, 0.0)]),
            ("logit_bias", |s| s.logit_bias = vec![(1, f32::NAN)]),
            ("logprobs", |s| s.logprobs = 11),
        ];
        assert!(Sampling::default().validate(10).is_ok());
        for (name, change) in cases {
            let mut sampling = Sampling::default();
            change(&mut sampling);
            let error = sampling.validate(10).unwrap_err();
            assert_eq!(error.status(), crate::engine::Status::Argument);
            assert!(error.message().contains(name), "{error}");
        }
        let banned = Sampling { logit_bias: vec![(1, f32::NEG_INFINITY)], ..Default::default() };
        assert!(banned.validate(10).is_ok());
    }
}
