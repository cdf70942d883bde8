//! A step from its submission until it is read: who is in it, what each reads of it, and what came.

use std::ops::Range;

use super::evaluation::Reads;
use super::sequence::{Goal, Row, Sequence};
use crate::engine::backend::{Backend, Coming, Summarised, Summary};
use crate::engine::error::Result;

/// A submitted step.
#[derive(Debug)]
pub struct Flight<A> {
    /// Its number.
    pub step: u64,
    /// What is read of it, one share a passenger.
    pub outcome: Outcome,
    /// Its logits in short; `None` where they were read themselves, or nobody asked.
    pub brief: Option<Brief<A>>,
    /// The sequences' numbers and the tokens computed for each.
    pub passengers: Vec<(u64, Range<usize>)>,
}

impl<A> Flight<A> {
    /// Without passengers yet.
    pub fn new(step: u64, outcome: Outcome, brief: Option<Brief<A>>) -> Self {
        Self { step, outcome, brief, passengers: Vec::new() }
    }

    /// Whether the next step may be prepared before this one is read: else all that is read of it is here already.
    pub fn is_ahead(&self) -> bool {
        self.coming().is_some() && !self.outcome.reads_hidden
    }

    /// What the device has yet to say.
    pub fn coming(&self) -> Option<&Coming<A>> {
        self.brief.as_ref().and_then(Brief::coming)
    }

    /// Waits until all is known.
    pub fn wait<B: Backend<Act = A>>(&mut self, backend: &B) -> Result<()> {
        if let Some(Brief { summary, .. }) = &mut self.brief
            && let Summarised::Coming(coming) = summary
        {
            *summary = Summarised::Known(backend.await_summary(coming)?);
        }
        Ok(())
    }
}

/// What a step reads, and which part of it belongs to which segment.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Rows of the step whose hidden state is wanted, ascending.
    pub rows: Vec<usize>,
    /// Indices into `rows` of those whose logits are wanted too.
    pub logits: Vec<usize>,
    /// Somebody reads hidden states themselves.
    pub reads_hidden: bool,
    /// One entry a segment.
    pub shares: Vec<Share>,
}

/// One segment's part of an [`Outcome`].
#[derive(Debug)]
pub struct Share {
    /// Its entries of [`Outcome::rows`].
    pub rows: Range<usize>,
    /// It reads their hidden states.
    pub hidden: bool,
    /// How many entries of [`Outcome::logits`] are its.
    pub logits: usize,
}

impl Outcome {
    /// Enters what `sequence` must read of `tokens`, which stand in the step's rows from `first_row` on.
    pub fn want(&mut self, sequence: &Sequence, tokens: &Range<usize>, first_row: usize) {
        let start = self.rows.len();
        let (read, hidden) = match sequence.reads(tokens) {
            Reads::Nothing => (tokens.end..tokens.end, false),
            Reads::Logits(read) => (read, false),
            Reads::Hidden(read) => (read, true),
        };
        self.rows.extend(read.map(|token| first_row + token - tokens.start));
        let rows = start..self.rows.len();
        let logits = match &sequence.request.goal {
            // Of hidden states, only the prompt's last has a use for logits.
            Goal::Evaluate(asking) if hidden => {
                let wanted = asking.wants_logits() && tokens.end == sequence.prompt;
                rows.end - usize::from(wanted)..rows.end
            }
            _ => rows.clone(),
        };
        self.reads_hidden |= hidden;
        self.shares.push(Share { rows, hidden, logits: logits.len() });
        self.logits.extend(logits);
    }
}

/// A step's logits, summed up.
#[derive(Debug)]
pub struct Brief<A> {
    /// As the backend gave it.
    pub summary: Summarised<A>,
    /// Behind each row's last log-probability in the summary.
    pub ends: Vec<usize>,
}

impl<A> Brief<A> {
    /// What the device has yet to say.
    pub fn coming(&self) -> Option<&Coming<A>> {
        match &self.summary {
            Summarised::Coming(coming) => Some(coming),
            Summarised::Known(_) => None,
        }
    }

    /// Row by row; none while it is coming.
    pub fn rows(&self) -> impl Iterator<Item = Row<'_>> {
        static NONE: Summary = Summary { best: Vec::new(), logprobs: Vec::new() };
        let summary = match &self.summary {
            Summarised::Known(summary) => summary,
            Summarised::Coming(_) => &NONE,
        };
        let starts = [0].into_iter().chain(self.ends.iter().copied());
        let ranges = starts.zip(&self.ends);
        ranges.zip(&summary.best).map(|((start, end), best)| {
            let logprobs = summary.logprobs.get(start..*end).unwrap_or(&[]);
            Row::Brief { best: *best, logprobs }
        })
    }
}

#[cfg(all(test, not(feature = "shuttle")))]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::Ordering::Relaxed;

    use crate::engine::request::StopReason;
    use crate::engine::scheduler::toy::{self, Faults, VOCAB, answer, greedy, limits, read};
    use crate::engine::scheduler::{Channel, Event, Generating, Scheduler};

    fn ask(scheduler: &Scheduler, prompt: &[u32], max_tokens: usize, end_tokens: &[u32]) -> Arc<Channel> {
        let generating = Generating { end_tokens: end_tokens.to_vec(), ..greedy(prompt, max_tokens) };
        toy::ask(scheduler, prompt, generating)
    }

    fn prompt(seed: u32, len: u32) -> Vec<u32> {
        (0..len).map(|i| (i * 7 + seed) % VOCAB as u32).collect()
    }

    #[test]
    fn steps_run_ahead_of_the_reader_and_say_the_same() {
        let faults = Faults::none();
        let scheduler = toy::start(limits(4, 8), faults.clone()).expect("a toy");
        let asked = [(1, 100, 20), (2, 3, 7), (3, 64, 1), (4, 17, 2), (5, 80, 40), (6, 16, 33)];
        let channels: Vec<_> =
            asked.iter().map(|(s, len, most)| ask(&scheduler, &prompt(*s, *len), *most, &[])).collect();
        for (channel, (seed, len, most)) in channels.iter().zip(asked) {
            assert_eq!(
                read(channel),
                (answer(&prompt(seed, len), most), Event::Done(StopReason::MaxTokens)),
                "{len} tokens, {most}"
            );
        }
        // Every token but each answer's first, which ends a prompt, and last, which nobody computes, or hardly fewer.
        let most: i64 = asked.iter().map(|(_, _, most)| most - 1).sum::<usize>() as i64;
        let followed = faults.followed.load(Relaxed);
        assert!(followed > most / 2 && followed <= most, "{followed} of {most}");
    }

    #[test]
    fn what_ran_ahead_of_an_end_leaves_no_trace() {
        let scheduler = toy::start(limits(2, 8), Faults::none()).expect("a toy");
        for len in [5, 15, 16, 31, 47] {
            let prompt = prompt(len, len);
            let whole = answer(&prompt, 30);
            let end = whole[9];
            let until: Vec<u32> = whole.iter().copied().take_while(|token| *token != end).collect();
            for _ in 0..2 {
                assert_eq!(
                    read(&ask(&scheduler, &prompt, 30, &[end])),
                    (until.clone(), Event::Done(StopReason::EndToken))
                );
            }
            // Goes on from what the prefix cache kept, another way than the answer would have gone.
            let other: Vec<u32> = prompt.iter().chain(&until).copied().chain([(end + 1) % VOCAB as u32, 3]).collect();
            assert_eq!(read(&ask(&scheduler, &other, 12, &[])).0, answer(&other, 12));
        }
    }
}
