//! The scheduler's conversation with its callers, under every interleaving that shuttle thinks of: inbox, worker,
//! prefix cache, page pool and channels as they are, over a backend that computes nothing (`toy.rs`). `make models`.

use std::sync::Arc;
use std::time::Instant;

use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::{Config, Runner, thread};

use super::toy::{self, Faults, VOCAB, answer, greedy, limits, read};
use super::{Channel, Event, Generating, Parcel, Roll, Scheduler};
use crate::engine::error::Status;
use crate::engine::memory;
use crate::engine::request::{Metrics, StopReason, TokenInfo};

/// Interleavings that each model is tried with.
fn tries() -> usize {
    std::env::var("GOMLX_MODEL_TRIES").ok().and_then(|text| text.parse().ok()).unwrap_or(200)
}

/// Half of them at random, half by priorities that change seldom, which finds other orders.
fn check(model: impl Fn() + Send + Sync + 'static) {
    let model = Arc::new(model);
    let again = model.clone();
    let config = || {
        let mut config = Config::default();
        // The decoder's steps are deeper than shuttle's threads usually are.
        config.stack_size = 1 << 20;
        config
    };
    Runner::new(RandomScheduler::new(tries() / 2), config()).run(move || model());
    Runner::new(PctScheduler::new(3, tries() / 2), config()).run(move || again());
}

fn prompt(seed: u32, len: u32) -> Vec<u32> {
    (0..len).map(|i| (i * 5 + seed * (i / 64)) % VOCAB as u32).collect()
}

fn request(prompt: &[u32], max_tokens: usize, roll: Option<Roll>) -> (Parcel, Arc<Channel>) {
    toy::request(prompt, Generating { roll, ..greedy(prompt, max_tokens) })
}

fn is_freed(event: &Event) -> bool {
    matches!(event, Event::Failed(error) if error.status() == Status::State)
}

#[test]
fn a_channel_loses_nothing_and_wakes_its_reader() {
    check(|| {
        let channel = Channel::new();
        let ours = channel.clone();
        let sender = thread::spawn(move || {
            for id in 0..3 {
                ours.send(Event::Token(TokenInfo { id, logprob: 0.0, top: Vec::new() }), &Metrics::default());
            }
            ours.send(Event::Done(StopReason::MaxTokens), &Metrics::default());
        });
        assert_eq!(read(&channel), (vec![0, 1, 2], Event::Done(StopReason::MaxTokens)));
        sender.join().expect("it ends");
    });
}

/// Callers that share beginnings, more than run or wait at once: each gets its own answer or is refused, whoever
/// cancels beside it.
#[test]
fn callers_get_their_own_answers() {
    check(|| {
        let scheduler = Arc::new(toy::start(limits(2, 2), Faults::none()).expect("it starts"));
        let callers = (0..4).map(|seed| {
            let scheduler = scheduler.clone();
            thread::spawn(move || {
                let prompt = prompt(seed % 2, 130 + seed);
                let (parcel, channel) = request(&prompt, 3, None);
                match scheduler.hand(parcel) {
                    Err(error) => assert_eq!(error.status(), Status::Busy, "{error}"),
                    Ok(_) if seed == 3 => channel.abandon(),
                    Ok(_) => assert_eq!(read(&channel), (answer(&prompt, 3), Event::Done(StopReason::MaxTokens))),
                }
            })
        });
        callers.collect::<Vec<_>>().into_iter().for_each(|caller| caller.join().expect("it ends"));
        scheduler.close();
    });
}

/// The end comes while requests arrive, wait and run: each that was accepted ends exactly once, none is accepted later.
#[test]
fn closing_ends_every_request_once() {
    check(|| {
        let scheduler = Arc::new(toy::start(limits(1, 8), Faults::none()).expect("it starts"));
        let callers = (0..3).map(|seed| {
            let scheduler = scheduler.clone();
            thread::spawn(move || {
                let prompt = prompt(seed, 70);
                let (parcel, channel) = request(&prompt, 4, None);
                match scheduler.hand(parcel) {
                    Err(error) => assert_eq!(error.status(), Status::State, "{error}"),
                    Ok(back) => {
                        assert!(back.is_none(), "nobody asked for unloading");
                        let (tokens, last) = read(&channel);
                        assert!(answer(&prompt, 4).starts_with(&tokens));
                        assert!(tokens.len() == 4 && matches!(last, Event::Done(_)) || is_freed(&last), "{last:?}");
                    }
                }
            })
        });
        let callers: Vec<_> = callers.collect();
        let closers: Vec<_> = (0..2)
            .map(|_| {
                let scheduler = scheduler.clone();
                thread::spawn(move || {
                    scheduler.close();
                    let (parcel, _) = request(&[1], 1, None);
                    let refused = scheduler.hand(parcel).err().expect("it is closed");
                    assert_eq!(refused.status(), Status::State);
                })
            })
            .collect();
        callers.into_iter().chain(closers).for_each(|thread| thread.join().expect("it ends"));
    });
}

/// The worker goes because it is idle, while requests arrive: each comes back or is answered.
#[test]
fn unloading_loses_no_request() {
    check(|| {
        let scheduler: Arc<Scheduler> = Arc::new(toy::start(limits(2, 8), Faults::none()).expect("it starts"));
        let callers = (0..2).map(|seed| {
            let scheduler = scheduler.clone();
            thread::spawn(move || {
                let prompt = prompt(seed, 20);
                let (parcel, channel) = request(&prompt, 2, None);
                match scheduler.hand(parcel).expect("nobody closes it") {
                    Some(Parcel::Request(_)) => assert_eq!(channel.unread(), 0),
                    Some(Parcel::Errand(_)) => unreachable!("it was a request"),
                    None => assert_eq!(read(&channel).0, answer(&prompt, 2)),
                }
            })
        });
        let callers: Vec<_> = callers.collect();
        // The limit is the process's, and other models run beside this one: unload just ours.
        memory::Owner::unload(&*scheduler.inbox);
        callers.into_iter().for_each(|caller| caller.join().expect("it ends"));
        scheduler.close();
    });
}

/// An endless answer that is not read pauses, and goes on when it is; others pass it meanwhile.
#[test]
fn a_slow_reader_blocks_nobody() {
    check(|| {
        let scheduler = toy::start(limits(2, 8), Faults::none()).expect("it starts");
        let roll = Some(Roll { context: 16, keep: 2 });
        let (parcel, slow) = request(&[1, 2, 3, 4], usize::MAX, roll);
        assert!(scheduler.hand(parcel).expect("it is accepted").is_none());
        let (parcel, quick) = request(&[5; 9], 3, None);
        assert!(scheduler.hand(parcel).expect("it is accepted").is_none());
        assert_eq!(read(&quick).0, answer(&[5; 9], 3));
        for _ in 0..40 {
            assert!(matches!(slow.receive(None), Some(Event::Token(_))));
            assert!(slow.unread() <= 16);
        }
        slow.abandon();
    });
}
