//! What the next step computes, as plain data: the planner decides, the executor obeys, a test can read it.

use std::ops::Range;

/// What the planner must know of a running sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Tokens whose keys and values are in the cache, or on their way there.
    pub computed: usize,
    /// Tokens known: prompt, and what was generated or is to be scored behind it. Counts one that the device knows.
    pub known: usize,
    /// It generates: its one new token must not wait.
    pub decoding: bool,
    /// Its caller must read on before more is computed, or a step in flight decides what comes next.
    pub waits: bool,
}

/// One sequence's part of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedSegment {
    /// Index of the sequence among the running ones.
    pub sequence: usize,
    /// Which of its tokens are computed.
    pub tokens: Range<usize>,
}

/// A step: every sequence that decodes takes one row; prompts share what is left, first come, first served.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StepPlan {
    /// In the order of their rows.
    pub segments: Vec<PlannedSegment>,
}

impl StepPlan {
    /// Rows of the step.
    pub fn rows(&self) -> usize {
        self.segments.iter().map(|segment| segment.tokens.len()).sum()
    }
}

/// Plans a step over `running` (in order of admission). A step carries at most `chunk` prompt tokens, a quarter of
/// that (at least one page) while others decode, so that a long prompt delays their tokens only by so much.
pub fn plan(running: &[Standing], chunk: usize) -> StepPlan {
    let mut segments = Vec::with_capacity(running.len());
    for (sequence, standing) in running.iter().enumerate().filter(|(_, s)| s.decoding && !s.waits) {
        segments.push(PlannedSegment { sequence, tokens: standing.computed..standing.known });
    }
    let mut budget = if segments.is_empty() { chunk } else { (chunk / 4).clamp(1, 128) };
    for (sequence, standing) in running.iter().enumerate().filter(|(_, s)| !s.decoding && !s.waits) {
        if budget == 0 {
            break;
        }
        let end = standing.known.min(standing.computed + budget);
        budget -= end - standing.computed;
        segments.push(PlannedSegment { sequence, tokens: standing.computed..end });
    }
    StepPlan { segments }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefilling(computed: usize, known: usize) -> Standing {
        Standing { computed, known, decoding: false, waits: false }
    }

    fn decoding(computed: usize) -> Standing {
        Standing { computed, known: computed + 1, decoding: true, waits: false }
    }

    #[test]
    fn decoding_sequences_never_wait_for_prompts() {
        let plan = plan(&[prefilling(0, 5000), decoding(10), decoding(30)], 512);
        let expected = [(1, 10..11), (2, 30..31), (0, 0..128)];
        assert_eq!(plan.segments, expected.map(|(sequence, tokens)| PlannedSegment { sequence, tokens }));
    }

    #[test]
    fn who_waits_for_its_reader_takes_no_row() {
        let slow = |standing| Standing { waits: true, ..standing };
        let plan = plan(&[slow(prefilling(0, 50)), slow(decoding(10)), decoding(30)], 512);
        assert_eq!(plan.segments, [PlannedSegment { sequence: 2, tokens: 30..31 }]);
    }

    #[test]
    fn prompts_share_the_chunk_in_order() {
        let plan = plan(&[prefilling(500, 700), prefilling(0, 300), prefilling(0, 300)], 512);
        let expected = [(0, 500..700), (1, 0..300), (2, 0..12)];
        assert_eq!(plan.segments, expected.map(|(sequence, tokens)| PlannedSegment { sequence, tokens }));
        assert_eq!(plan.rows(), 512);
    }
}
