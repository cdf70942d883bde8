//! What a token's past takes off its logit.

use std::collections::{HashMap, VecDeque};

use super::Sampling;

/// Counts of the tokens that the penalties see, kept up as tokens come and leave the window.
#[derive(Clone, Debug)]
pub(super) struct Penalties {
    repetition: f32,
    presence: f32,
    frequency: f32,
    seen: HashMap<u32, Seen>,
    /// The tokens within the window, oldest first, and whether each was generated; `None`: every token counts.
    window: Option<(usize, VecDeque<(u32, bool)>)>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    anywhere: u32,
    generated: u32,
}

impl Penalties {
    /// `None` where no penalty is on.
    pub fn new(sampling: &Sampling, prompt: &[u32]) -> Option<Self> {
        if !sampling.has_penalties() {
            return None;
        }
        let mut this = Self {
            repetition: sampling.repetition_penalty,
            presence: sampling.presence_penalty,
            frequency: sampling.frequency_penalty,
            seen: HashMap::new(),
            window: (sampling.penalty_window > 0).then(|| (sampling.penalty_window as usize, VecDeque::new())),
        };
        prompt.iter().for_each(|&id| this.count(id, false));
        Some(this)
    }

    /// One more token stands at the end.
    pub fn count(&mut self, id: u32, generated: bool) {
        let seen = self.seen.entry(id).or_default();
        seen.anywhere += 1;
        seen.generated += u32::from(generated);
        if let Some((length, window)) = &mut self.window {
            window.push_back((id, generated));
            if window.len() > *length
                && let Some((old, was_generated)) = window.pop_front()
                && let Some(seen) = self.seen.get_mut(&old)
            {
                seen.anywhere -= 1;
                seen.generated -= u32::from(was_generated);
                if seen.anywhere == 0 {
                    self.seen.remove(&old);
                }
            }
        }
    }

    /// Repetition as transformers' `RepetitionPenaltyLogitsProcessor` (prompt and answer), presence and frequency as
    /// OpenAI documents them (answer only). Ids beyond the logits are passed over.
    pub fn apply(&self, logits: &mut [f32]) {
        for (&id, seen) in &self.seen {
            let Some(logit) = logits.get_mut(id as usize) else { continue };
            let repeated = if *logit < 0.0 { *logit * self.repetition } else { *logit / self.repetition };
            let presence = if seen.generated > 0 { self.presence } else { 0.0 };
            *logit = repeated - presence - self.frequency * seen.generated as f32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formulas_and_window() {
        let sampling = Sampling {
            repetition_penalty: 2.0,
            presence_penalty: 0.5,
            frequency_penalty: 0.25,
            penalty_window: 3,
            ..Default::default()
        };
        let mut penalties = Penalties::new(&sampling, &[0, 1, 99]).unwrap();
        penalties.count(2, true);
        // 0 left the window; 99 is no token of this vocabulary.
        let mut logits = [4.0, -4.0, 4.0, 4.0];
        penalties.apply(&mut logits);
        assert_eq!(logits, [4.0, -8.0, 2.0 - 0.5 - 0.25, 4.0]);
        penalties.count(2, true);
        penalties.count(2, true);
        let mut logits = [4.0, -4.0, 4.0, 4.0];
        penalties.apply(&mut logits);
        assert_eq!(logits, [4.0, -4.0, 2.0 - 0.5 - 0.75, 4.0]);
        assert!(Penalties::new(&Sampling::default(), &[1]).is_none());
    }
}
