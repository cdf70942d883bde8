//! One request's chooser of tokens.

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use super::penalties::Penalties;
use super::vector::{BLOCK, argmax, block_sums, exp_weights, largest, sum_exp};
use super::{Sampling, filters};
use crate::engine::error::{Result, error, fail};

/// A chosen token and what the model thought of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampled {
    /// Its id.
    pub token: u32,
    /// Its natural log-probability under the model: log-softmax of the logits as the model gave them, before bias,
    /// penalties, temperature and filters. NaN where no log-probabilities were asked for.
    pub logprob: f32,
    /// The most probable tokens under the model with theirs, best first, as many as asked for.
    pub top: Vec<(u32, f32)>,
}

/// Chooses one request's tokens, one after the other.
///
/// The n-th token's draw depends on the seed and on n alone (ChaCha8 keyed by the seed, one 64-bit word a draw), and
/// all sums are in a fixed order: the same logits give the same tokens whoever else is served and whatever the
/// number of threads. One thread at a time.
#[derive(Clone, Debug)]
pub struct Sampler {
    sampling: Sampling,
    vocab: usize,
    penalties: Option<Penalties>,
    rng: ChaCha8Rng,
    seed: u64,
    /// The model's logits while log-probabilities are asked for.
    raw: Vec<f32>,
}

impl Sampler {
    /// For one answer to `prompt` from a model with `vocab` logits. Errors: as [`Sampling::validate`].
    pub fn new(sampling: &Sampling, prompt: &[u32], vocab: usize) -> Result<Self> {
        sampling.validate(vocab)?;
        let seed = sampling.seed.unwrap_or_else(any_seed);
        Ok(Self {
            sampling: sampling.clone(),
            vocab,
            penalties: Penalties::new(sampling, prompt),
            rng: ChaCha8Rng::seed_from_u64(seed),
            seed,
            raw: Vec::new(),
        })
    }

    /// The seed in use: the request's, or the one that was picked for it.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Chooses the next token from the model's logits, which are overwritten, and counts it for the penalties.
    ///
    /// Errors: a NaN or plus infinity among the logits (`Backend`), every token forbidden (`Argument`), a wrong
    /// number of logits (`Internal`).
    pub fn sample(&mut self, logits: &mut [f32]) -> Result<Sampled> {
        if logits.len() != self.vocab {
            fail!(Internal, "sampling: {} logits for a vocabulary of {}", logits.len(), self.vocab);
        }
        let report = if self.sampling.logprobs > 0 { Some(Report::new(logits, &self.sampling)?) } else { None };
        if report.is_some() {
            // The chosen token's own logit is needed after all have been overwritten.
            self.raw.clear();
            self.raw.extend_from_slice(logits);
        }

        let (best, largest) = self.adjust(logits)?;
        let token = if self.sampling.is_greedy() {
            best
        } else {
            self.weigh(logits, largest);
            // 53 random bits: a number in [0, 1).
            let random = (self.rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
            pick(logits, random)
        };
        if let Some(penalties) = &mut self.penalties {
            penalties.count(token as u32, true);
        }
        let logprob = report.as_ref().map_or(f32::NAN, |report| report.logprob(self.raw[token]));
        Ok(Sampled { token: token as u32, logprob, top: report.map_or_else(Vec::new, |report| report.top) })
    }

    /// Whether the largest logit is all that decides, so that [`take`](Self::take) will do.
    pub fn wants_largest_only(&self) -> bool {
        let sampling = &self.sampling;
        sampling.is_greedy() && self.penalties.is_none() && sampling.logit_bias.is_empty() && sampling.logprobs == 0
    }

    /// [`sample`](Self::sample) for one that [wants only](Self::wants_largest_only) the first largest logit.
    pub fn take(&self, (token, logit): (u32, f32)) -> Result<Sampled> {
        if !logit.is_finite() || token as usize >= self.vocab {
            fail!(Backend, "sampling: the largest logit is {logit}, of token {token}")
        }
        Ok(Sampled { token, logprob: f32::NAN, top: Vec::new() })
    }

    /// Bias and penalties; then the first largest logit.
    fn adjust(&self, logits: &mut [f32]) -> Result<(usize, f32)> {
        for &(id, bias) in &self.sampling.logit_bias {
            logits[id as usize] += bias;
        }
        if let Some(penalties) = &self.penalties {
            penalties.apply(logits);
        }
        match finite_argmax(logits)? {
            (_, f32::NEG_INFINITY) => fail!(Argument, "sampling: logit_bias forbids every token"),
            best => Ok(best),
        }
    }

    /// Turns logits into unnormalised probabilities, 0 for what the filters remove.
    fn weigh(&self, logits: &mut [f32], largest: f32) {
        let sampling = &self.sampling;
        exp_weights(logits, largest, 1.0 / sampling.temperature);
        filters::top_k(logits, sampling.top_k as usize);
        filters::top_p(logits, sampling.top_p);
        filters::min_p(logits, sampling.min_p);
        filters::typical(logits, sampling.typical_p);
    }
}

/// The index at which the running sum of the weights passes the share `random` of their total.
fn pick(weights: &[f32], random: f64) -> usize {
    let sums: Vec<f64> = block_sums(weights).collect();
    let mut left = random * sums.iter().sum::<f64>();
    for (block, (&sum, values)) in sums.iter().zip(weights.chunks(BLOCK)).enumerate() {
        if left >= sum {
            left -= sum;
            continue;
        }
        // A block's sum in lanes and its values one by one differ in rounding: its last token catches the difference.
        let mut last = 0;
        for (at, &weight) in values.iter().enumerate().filter(|(_, weight)| **weight > 0.0) {
            last = at;
            left -= f64::from(weight);
            if left < 0.0 {
                break;
            }
        }
        return block * BLOCK + last;
    }
    // The same between the blocks and their total.
    weights.iter().rposition(|&weight| weight > 0.0).unwrap_or(0)
}

/// Log-probabilities under the model.
struct Report {
    /// ln Σ e^logit
    log_sum: f64,
    top: Vec<(u32, f32)>,
}

impl Report {
    fn new(logits: &[f32], sampling: &Sampling) -> Result<Self> {
        let (_, largest_logit) = finite_argmax(logits)?;
        let log_sum = f64::from(largest_logit) + sum_exp(logits, largest_logit).ln();
        let mut this = Self { log_sum, top: Vec::new() };
        let best = largest(logits, sampling.logprobs as usize);
        this.top = best.into_iter().map(|(id, logit)| (id, this.logprob(logit))).collect();
        Ok(this)
    }

    fn logprob(&self, logit: f32) -> f32 {
        (f64::from(logit) - self.log_sum) as f32
    }
}

/// The first largest logit, where every one is a number below infinity.
fn finite_argmax(logits: &[f32]) -> Result<(usize, f32)> {
    match argmax(logits) {
        Some((_, f32::INFINITY)) => fail!(Backend, "sampling: the model's logits have an infinity"),
        Some(best) => Ok(best),
        None => Err(error!(Backend, "sampling: the model's logits have a NaN")),
    }
}

/// A seed that differs from call to call: the standard library's randomly keyed hasher.
fn any_seed() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logits(vocab: usize, scale: f32, seed: u64) -> Vec<f32> {
        let mut state = seed;
        (0..vocab)
            .map(|_| {
                // A sum of uniform numbers is nearly normal.
                let sum: f32 = (0..4)
                    .map(|_| {
                        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                        (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
                    })
                    .sum();
                sum * scale
            })
            .collect()
    }

    /// Drawn frequencies against the exact distribution, by Pearson's chi-square at about one in 10^6.
    #[test]
    fn draws_follow_the_distribution() {
        for (vocab, temperature, top_p) in [(7usize, 1.0f32, 1.0f32), (600, 0.7, 1.0), (600, 1.5, 0.8)] {
            let raw = logits(vocab, 6.0, 11);
            let sampling = Sampling { temperature, top_p, seed: Some(5), ..Default::default() };
            let mut sampler = Sampler::new(&sampling, &[], vocab).unwrap();
            let mut weights: Vec<f64> = raw.iter().map(|&x| (f64::from(x) / f64::from(temperature)).exp()).collect();
            let mut order: Vec<usize> = (0..vocab).collect();
            order.sort_by(|&a, &b| weights[b].total_cmp(&weights[a]));
            let total: f64 = weights.iter().sum();
            let mut before = 0.0;
            for &i in &order {
                let weight = weights[i];
                if before >= f64::from(top_p) * total {
                    weights[i] = 0.0;
                }
                before += weight;
            }
            let total: f64 = weights.iter().sum();
            let draws = 40_000;
            let mut counts = vec![0u32; vocab];
            for _ in 0..draws {
                counts[sampler.sample(&mut raw.clone()).unwrap().token as usize] += 1;
            }
            let (mut chi, mut cells, mut rare, mut rare_count) = (0.0, 0.0, 0.0, 0.0);
            for i in 0..vocab {
                let expected = weights[i] / total * f64::from(draws);
                assert!(expected > 0.0 || counts[i] == 0, "token {i} was filtered out and drawn");
                if expected < 10.0 {
                    rare += expected;
                    rare_count += f64::from(counts[i]);
                } else {
                    chi += (f64::from(counts[i]) - expected).powi(2) / expected;
                    cells += 1.0;
                }
            }
            if rare > 0.0 {
                chi += (rare_count - rare).powi(2) / rare;
                cells += 1.0;
            }
            // Wilson and Hilferty: (χ²/k)^(1/3) is nearly normal.
            let k: f64 = cells - 1.0;
            let z = ((chi / k).cbrt() - (1.0 - 2.0 / (9.0 * k))) / (2.0 / (9.0 * k)).sqrt();
            assert!(z < 4.75, "χ² {chi} with {k} degrees of freedom");
        }
    }

    /// What transformers' logits processors keep, and how probable it is (`tests/golden/README.md`).
    #[test]
    fn distributions_are_those_of_transformers() {
        let golden: serde_json::Value =
            serde_json::from_str(include_str!("../../../tests/golden/sampling.json")).unwrap();
        let cases = golden["cases"].as_array().unwrap();
        for case in cases {
            let name = &case["name"];
            let floats = |value: &serde_json::Value| -> Vec<f32> {
                value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect()
            };
            let ids = |value: &serde_json::Value| -> Vec<u32> { serde_json::from_value(value.clone()).unwrap() };
            let mut sampling = Sampling { temperature: 1.0, ..Default::default() };
            for (key, value) in case["settings"].as_object().unwrap() {
                let number = value.as_f64().unwrap_or(f64::NAN) as f32;
                match key.as_str() {
                    "temperature" => sampling.temperature = number,
                    "top_k" => sampling.top_k = number as u32,
                    "top_p" => sampling.top_p = number,
                    "min_p" => sampling.min_p = number,
                    "typical_p" => sampling.typical_p = number,
                    "repetition_penalty" => sampling.repetition_penalty = number,
                    "presence_penalty" => sampling.presence_penalty = number,
                    "frequency_penalty" => sampling.frequency_penalty = number,
                    "logit_bias" => sampling.logit_bias = serde_json::from_value(value.clone()).unwrap(),
                    other => panic!("{name}: unknown setting {other}"),
                }
            }
            let mut logits = floats(&golden["logits"][case["logits"].as_str().unwrap()]);
            let mut sampler = Sampler::new(&sampling, &ids(&case["prompt"]), logits.len()).unwrap();
            if let Some(penalties) = &mut sampler.penalties {
                ids(&case["answer"]).iter().for_each(|&id| penalties.count(id, true));
            }
            let (_, largest) = sampler.adjust(&mut logits).unwrap();
            sampler.weigh(&mut logits, largest);
            let kept: Vec<u32> = (0..).zip(&logits).filter(|(_, w)| **w > 0.0).map(|(id, _)| id).collect();
            // Below 10^-37 relative to the most probable, an f32 is 0 here.
            let mut want: Vec<(u32, f32)> = ids(&case["ids"]).into_iter().zip(floats(&case["probabilities"])).collect();
            want.retain(|(_, probability)| *probability > 1e-36);
            assert_eq!(kept, want.iter().map(|(id, _)| *id).collect::<Vec<_>>(), "{name}");
            let total: f64 = logits.iter().map(|&w| f64::from(w)).sum();
            for (id, want) in want {
                let got = f64::from(logits[id as usize]) / total;
                assert!((got / f64::from(want) - 1.0).abs() < 2e-5, "{name}: token {id}: {got} for {want}");
            }
        }
        assert!(cases.len() >= 30);
    }

    #[test]
    fn a_seed_fixes_the_answer() {
        let raw = logits(1000, 5.0, 3);
        let run = |seed| {
            let sampling = Sampling { temperature: 1.0, seed, ..Default::default() };
            let mut sampler = Sampler::new(&sampling, &[], 1000).unwrap();
            let tokens: Vec<u32> = (0..50).map(|_| sampler.sample(&mut raw.clone()).unwrap().token).collect();
            (tokens, sampler.seed())
        };
        assert_eq!(run(Some(1)).0, run(Some(1)).0);
        assert_ne!(run(Some(1)).0, run(Some(2)).0);
        let (tokens, seed) = run(None);
        assert_eq!(run(Some(seed)).0, tokens);
        assert_ne!(run(None).0, tokens);
        // Pinned: a seed means the same text in later versions and on every machine.
        assert_eq!(run(Some(42)).0[..8], [537, 935, 330, 537, 152, 67, 209, 721]);
    }

    #[test]
    fn log_probabilities_are_the_model_s() {
        let raw = logits(5000, 9.0, 8);
        let sum: f64 = raw.iter().map(|&x| f64::from(x).exp()).sum::<f64>().ln();
        let sampling = Sampling {
            temperature: 0.5,
            top_k: 3,
            repetition_penalty: 1.5,
            logit_bias: vec![(7, 3.0)],
            logprobs: 5,
            seed: Some(1),
            ..Default::default()
        };
        let mut sampler = Sampler::new(&sampling, &[1, 2, 3], 5000).unwrap();
        let mut order: Vec<usize> = (0..5000).collect();
        order.sort_by(|&a, &b| raw[b].total_cmp(&raw[a]));
        for _ in 0..20 {
            let sampled = sampler.sample(&mut raw.clone()).unwrap();
            assert!((f64::from(sampled.logprob) - (f64::from(raw[sampled.token as usize]) - sum)).abs() < 1e-5);
            assert_eq!(sampled.top.iter().map(|t| t.0 as usize).collect::<Vec<_>>(), order[..5]);
            for (id, logprob) in sampled.top {
                assert!((f64::from(logprob) - (f64::from(raw[id as usize]) - sum)).abs() < 1e-5);
            }
        }
    }

    #[test]
    fn bias_forbids_and_forces() {
        let run = |logit_bias: Vec<(u32, f32)>| {
            let sampling = Sampling { logit_bias, ..Default::default() };
            Sampler::new(&sampling, &[], 3).unwrap().sample(&mut [3.0, 2.0, 1.0])
        };
        assert_eq!(run(vec![]).unwrap().token, 0);
        assert!(run(vec![]).unwrap().logprob.is_nan());
        assert_eq!(run(vec![(0, f32::NEG_INFINITY)]).unwrap().token, 1);
        assert_eq!(run(vec![(2, 100.0)]).unwrap().token, 2);
        let all = run((0..3).map(|id| (id, f32::NEG_INFINITY)).collect()).unwrap_err();
        assert_eq!(all.status(), crate::engine::Status::Argument);
    }

    #[test]
    fn broken_logits_are_an_error() {
        for temperature in [0.0, 1.0] {
            for (bad, logprobs) in [(f32::NAN, 0), (f32::INFINITY, 0), (f32::NAN, 2)] {
                let sampling = Sampling { temperature, logprobs, ..Default::default() };
                let mut sampler = Sampler::new(&sampling, &[], 100).unwrap();
                let mut broken = vec![0.0; 100];
                broken[50] = bad;
                assert_eq!(sampler.sample(&mut broken).unwrap_err().status(), crate::engine::Status::Backend);
            }
        }
        // Tokens that the model rules out are fine, and are never drawn.
        let sampling = Sampling { temperature: 1.0, seed: Some(1), ..Default::default() };
        let mut sampler = Sampler::new(&sampling, &[], 3).unwrap();
        for _ in 0..100 {
            assert_eq!(sampler.sample(&mut [f32::NEG_INFINITY, 0.0, f32::NEG_INFINITY]).unwrap().token, 1);
        }
    }

    /// Run with `--release -- --ignored --nocapture` for figures.
    #[test]
    #[ignore = "a measurement"]
    fn microseconds_a_token() {
        let vocab = 262_144;
        for (shape, scale) in [("peaked", 25.0), ("flat", 4.0)] {
            let raw = logits(vocab, scale, 1);
            let base = Sampling { seed: Some(1), ..Default::default() };
            let warm = Sampling { temperature: 0.8, ..base.clone() };
            let cases = [
                ("greedy", base.clone()),
                ("greedy, 5 log-probabilities", Sampling { logprobs: 5, ..base.clone() }),
                ("temperature", warm.clone()),
                ("temperature, top-p 0.95", Sampling { top_p: 0.95, ..warm.clone() }),
                ("temperature, top-k 40, top-p 0.95", Sampling { top_k: 40, top_p: 0.95, ..warm.clone() }),
                ("temperature, min-p 0.05", Sampling { min_p: 0.05, ..warm.clone() }),
                ("temperature, typical 0.9", Sampling { typical_p: 0.9, ..warm.clone() }),
            ];
            for (what, sampling) in cases {
                let mut sampler = Sampler::new(&sampling, &[], vocab).unwrap();
                let mut times = Vec::new();
                for _ in 0..200 {
                    let mut copy = raw.clone();
                    let start = std::time::Instant::now();
                    std::hint::black_box(sampler.sample(&mut copy).unwrap());
                    times.push(start.elapsed().as_secs_f64() * 1e6);
                }
                times.sort_by(f64::total_cmp);
                println!("{shape:7} {what:35} {:7.1} µs, at best {:6.1}", times[times.len() / 2], times[0]);
            }
        }
    }
}
