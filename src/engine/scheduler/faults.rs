//! What callers see when something breaks below: a kernel panics, the system has no memory.

use std::sync::Arc;

use super::toy::{self, Faults, VOCAB, answer, greedy, limits, read};
use super::{Channel, Event, Scheduler};
use crate::engine::error::Status;
use crate::engine::request::StopReason;

fn ask(scheduler: &Scheduler, prompt: &[u32], max_tokens: usize) -> Arc<Channel> {
    toy::ask(scheduler, prompt, greedy(prompt, max_tokens))
}

fn prompt(seed: u32) -> Vec<u32> {
    (0..100 + seed * 9).map(|i| (i * 3 + seed) % VOCAB as u32).collect()
}

#[test]
fn a_panic_in_a_kernel_ends_every_request_with_a_status_and_the_next_load_works() {
    for after in [0, 1, 2, 5, 9] {
        let scheduler = toy::start(limits(2, 8), Faults::after(after, -1)).expect("it starts");
        let asked: Vec<_> = (0..4).map(|seed| ask(&scheduler, &prompt(seed), 6)).collect();
        let mut failed = 0;
        for (seed, channel) in asked.iter().enumerate() {
            let (tokens, last) = read(channel);
            let expected = answer(&prompt(seed as u32), 6);
            assert!(expected.starts_with(&tokens), "request {seed}, a fault after {after} calls");
            match last {
                Event::Failed(error) => {
                    assert_eq!(error.status(), Status::Internal, "{error}");
                    failed += 1;
                }
                last => assert_eq!((tokens, last), (expected, Event::Done(StopReason::MaxTokens))),
            }
        }
        assert!(failed > 0, "a fault after {after} calls hurt nobody");
        // Later callers hear the same, and closing does not hang.
        let channel = Channel::new();
        drop(channel);
        scheduler.close();
        let next = toy::start(limits(2, 8), Faults::none()).expect("the next one starts");
        assert_eq!(read(&ask(&next, &prompt(1), 6)).0, answer(&prompt(1), 6));
    }
}

#[test]
fn a_failing_allocation_ends_one_request_and_the_others_go_on() {
    for after in 0..8 {
        let scheduler = toy::start(limits(4, 8), Faults::after(-1, after)).expect("it starts");
        let asked: Vec<_> = (0..4).map(|seed| ask(&scheduler, &prompt(seed), 6)).collect();
        let mut failed = 0;
        for (seed, channel) in asked.iter().enumerate() {
            let (tokens, last) = read(channel);
            match last {
                Event::Failed(error) => {
                    assert_eq!(error.status(), Status::Memory, "{error}");
                    failed += 1;
                }
                last => {
                    assert_eq!(last, Event::Done(StopReason::MaxTokens));
                    assert_eq!(tokens, answer(&prompt(seed as u32), 6), "request {seed}, a fault at page {after}");
                }
            }
        }
        assert!(failed <= 1, "{failed} requests ended because one allocation failed");
        // The system has memory again: everybody is served.
        assert_eq!(read(&ask(&scheduler, &prompt(0), 6)).0, answer(&prompt(0), 6));
    }
}
