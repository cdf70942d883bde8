//! A backend for tests of the scheduler: it computes nothing but keeps what matters. A page holds the tokens at its
//! positions, and a row's outcome depends on every token before it, in order, as read through the page table: whoever
//! mixes up pages gets another answer. Faults can be planted.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::time::Instant;

use super::{Channel, Event, Generating, Goal, Limits, Parcel, Parts, Scheduler, Submission};
use crate::engine::backend::{
    AttentionParams, Backend, CacheLayout, Coming, Description, KvType, Linear, NO_PAGE, PAGE_TOKENS, PageId, Rope,
    Segment, Summarised, Summary,
};
use crate::engine::control::Control;
use crate::engine::error::{Result, error};
use crate::engine::memory::Alive;
use crate::engine::model::decoder::Decoder;
use crate::engine::model::spec::{Activation, DecoderSpec, LayerSpec, NormSpec, RopeScaling, RopeSpec};
use crate::engine::model::tensors::{DecoderTensors, LayerTensors, LinearTensors};
use crate::engine::sampling::{Sampler, Sampling};
use crate::engine::weights::{self, DType, Storage, Tensor};

pub const VOCAB: usize = 17;

/// What goes wrong, counted down at each chance; below zero from the start: never.
#[derive(Debug)]
pub struct Faults {
    /// Calls of attention until one panics.
    pub panic: AtomicI64,
    /// New pages until the system has none, once.
    pub memory: AtomicI64,
    /// No fault: tokens that were computed before the host had read them.
    pub followed: AtomicI64,
}

impl Faults {
    pub fn none() -> Arc<Self> {
        Self::after(-1, -1)
    }
    pub fn after(panic: i64, memory: i64) -> Arc<Self> {
        Arc::new(Self { panic: AtomicI64::new(panic), memory: AtomicI64::new(memory), followed: AtomicI64::new(0) })
    }
    fn strikes(counter: &AtomicI64) -> bool {
        counter.load(Relaxed) >= 0 && counter.fetch_sub(1, Relaxed) == 0
    }
}

pub struct Toy(Arc<Faults>);

/// One number a row.
type Rows = Vec<u32>;

/// The number after `before` and then `token`.
fn fold(before: u32, token: u32) -> u32 {
    (before * 31 + token + 1) % 65521
}

/// A greedy answer of at most `max_tokens` that only their number ends.
pub fn greedy(prompt: &[u32], max_tokens: usize) -> Generating {
    Generating {
        sampler: Sampler::new(&Sampling::default(), prompt, VOCAB).expect("greedy"),
        max_tokens,
        until_full: false,
        roll: None,
        end_tokens: Vec::new(),
        stop_tokens: Vec::new(),
    }
}

/// A request for it, whose prefix is kept, and where its answer comes.
pub fn request(prompt: &[u32], generating: Generating) -> (Parcel, Arc<Channel>) {
    let channel = Channel::new();
    let submission = Submission {
        prompt: prompt.to_vec(),
        goal: Goal::Generate(Box::new(generating)),
        deadline: None,
        priority: 0,
        keep_prefix: true,
        control: None,
        channel: channel.clone(),
        asked: Instant::now(),
        _alive: Alive::request(),
    };
    (Parcel::Request(submission), channel)
}

/// Hands in such a request, which is accepted.
#[cfg(not(feature = "shuttle"))]
pub fn ask(scheduler: &Scheduler, prompt: &[u32], generating: Generating) -> Arc<Channel> {
    let (parcel, channel) = request(prompt, generating);
    assert!(scheduler.hand(parcel).expect("it is accepted").is_none());
    channel
}

/// Tokens up to the last event, and that one.
pub fn read(channel: &Channel) -> (Vec<u32>, Event) {
    let mut tokens = Vec::new();
    loop {
        match channel.receive(None).expect("no timeout was given") {
            Event::Token(token) => tokens.push(token.id),
            last => {
                assert_eq!(channel.unread(), 0, "an event after the last one");
                return (tokens, last);
            }
        }
    }
}

/// The greedy answer to `prompt`.
pub fn answer(prompt: &[u32], count: usize) -> Vec<u32> {
    let mut state = prompt.iter().fold(0, |state, token| fold(state, *token));
    let mut next = || {
        let token = state % VOCAB as u32;
        state = fold(state, token);
        token
    };
    (0..count).map(|_| next()).collect()
}

impl Backend for Toy {
    type Act = Rows;
    type Matrix = ();
    type Vector = ();
    type Cache = Vec<Vec<Vec<u32>>>;

    fn describe(&self) -> Description {
        Description { name: "toy", device: "none".into(), threads: 1 }
    }
    fn matrix(&self, _: &weights::Matrix) -> Result<()> {
        Ok(())
    }
    fn vector(&self, _: &[f32]) -> Result<()> {
        Ok(())
    }
    fn cache(&self, layout: &CacheLayout) -> Result<Self::Cache> {
        Ok(vec![Vec::new(); layout.groups.len()])
    }
    fn resize(&self, cache: &mut Self::Cache, group: usize, pages: usize) -> Result<()> {
        if pages > cache[group].len() && Faults::strikes(&self.0.memory) {
            return Err(error!(Memory, "the system refused {pages} pages"));
        }
        cache[group].resize(pages, vec![u32::MAX; PAGE_TOKENS]);
        Ok(())
    }
    fn copy_page(&self, cache: &mut Self::Cache, group: usize, from: PageId, to: PageId) -> Result<()> {
        cache[group][to as usize] = cache[group][from as usize].clone();
        Ok(())
    }
    fn embed(&self, _: &(), tokens: &[u32], _: f32) -> Result<Rows> {
        Ok(tokens.to_vec())
    }
    fn rms_norm(&self, x: &Rows, _: &(), _: f32) -> Result<Rows> {
        Ok(x.clone())
    }
    fn project<const N: usize>(&self, x: &Rows, _: [&Linear<Self>; N]) -> Result<[Rows; N]> {
        Ok(std::array::from_fn(|_| x.clone()))
    }
    fn logits(&self, x: &Rows, _: &()) -> Result<Rows> {
        Ok(x.clone())
    }
    fn head_norm(&self, x: Rows, _: &(), _: f32) -> Result<Rows> {
        Ok(x)
    }
    fn rope(&self, x: Rows, _: &[usize], _: &Rope<Self>) -> Result<Rows> {
        Ok(x)
    }
    fn attention(
        &self,
        q: Rows,
        k: &Rows,
        _: &Rows,
        cache: &mut Self::Cache,
        _: usize,
        segments: &[Segment],
        _: &AttentionParams,
    ) -> Result<Rows> {
        assert!(!Faults::strikes(&self.0.panic), "a fault planted in a kernel");
        let mut out = q;
        for segment in segments {
            for (at, row) in segment.rows.clone().enumerate() {
                let position = segment.start + at;
                let place = |position: usize| segment.pages[0][position / PAGE_TOKENS] as usize;
                assert_ne!(place(position), NO_PAGE as usize);
                cache[0][place(position)][position % PAGE_TOKENS] = k[row];
                out[row] = (0..=position).fold(0, |state, p| fold(state, cache[0][place(p)][p % PAGE_TOKENS]));
            }
        }
        Ok(out)
    }
    fn gated(&self, gate: Rows, _: &Rows, _: Activation) -> Result<Rows> {
        Ok(gate)
    }
    fn add(&self, _: Rows, y: &Rows) -> Result<Rows> {
        Ok(y.clone())
    }
    fn embed_following(
        &self,
        _: &(),
        tokens: &[u32],
        coming: &Coming<Rows>,
        following: &[(usize, usize)],
        _: f32,
    ) -> Result<Rows> {
        let mut rows = tokens.to_vec();
        self.0.followed.fetch_add(following.len() as i64, Relaxed);
        following.iter().for_each(|(i, row)| rows[*i] = coming.best[*row]);
        Ok(rows)
    }
    fn summarise(&self, logits: &Rows, tokens: &[(usize, u32)]) -> Result<Option<Summarised<Rows>>> {
        let best: Rows = logits.iter().map(|state| state % VOCAB as u32).collect();
        let largest = vec![9; best.len()];
        Ok(tokens.is_empty().then_some(Summarised::Coming(Coming { best, largest, logprobs: None })))
    }
    fn await_summary(&self, coming: &Coming<Rows>) -> Result<Summary> {
        let largest = coming.largest.iter().map(|value| *value as f32);
        Ok(Summary { best: coming.best.iter().copied().zip(largest).collect(), logprobs: Vec::new() })
    }
    fn softcap(&self, x: Rows, _: f32) -> Result<Rows> {
        Ok(x)
    }
    fn select_rows(&self, x: &Rows, rows: &[usize]) -> Result<Rows> {
        Ok(rows.iter().map(|row| x[*row]).collect())
    }
    fn read(&self, x: &Rows, out: &mut Vec<f32>) -> Result<()> {
        out.clear();
        for state in x {
            out.extend((0..VOCAB as u32).map(|token| if token == state % VOCAB as u32 { 9.0 } else { 0.0 }));
        }
        Ok(())
    }
    fn write(&self, _: usize, _: usize, _: &[f32]) -> Result<Rows> {
        Ok(Vec::new())
    }
}

/// A scheduler over a toy of one layer; a page takes 512 bytes of `limits`.
pub fn start(limits: Limits, faults: Arc<Faults>) -> Result<Scheduler> {
    Scheduler::start(limits, move || {
        let backend = Toy(faults);
        let tensor = || Tensor { name: String::new(), dtype: DType::F32, shape: vec![1, 1], bytes: vec![0; 4].into() };
        let matrix = || weights::Matrix { rows: 1, cols: 1, storage: Storage::Dense(tensor()) };
        let linear = || LinearTensors { weight: matrix(), bias: None };
        let layer = LayerTensors {
            attention_norm: Vec::new(),
            q: linear(),
            k: linear(),
            v: linear(),
            q_norm: None,
            k_norm: None,
            o: linear(),
            post_attention_norm: None,
            mlp_norm: Vec::new(),
            gate: linear(),
            up: linear(),
            down: linear(),
            post_mlp_norm: None,
        };
        let tensors = DecoderTensors { embed: matrix(), head: None, norm: Vec::new(), layers: vec![layer] };
        let spec = DecoderSpec {
            family: "toy",
            architecture: String::new(),
            hidden: 1,
            intermediate: 1,
            heads: 1,
            kv_heads: 1,
            head_dim: 1,
            vocab: VOCAB,
            context: 1024,
            layers: vec![LayerSpec { window: None, rope: 0 }],
            ropes: vec![RopeSpec { theta: 1.0, scaling: RopeScaling::None }],
            norm: NormSpec { eps: 0.0, offset: 0.0 },
            qk_norm: false,
            sandwich_norms: false,
            activation: Activation::Silu,
            embed_scale: 1.0,
            attention_scale: 1.0,
            attention_softcap: None,
            logit_softcap: None,
            qkv_bias: false,
            output_bias: false,
            mlp_bias: false,
            tied_head: true,
        };
        let decoder = Decoder::new(&backend, spec, &tensors, &Control::new())?;
        Ok(Parts { backend, decoder, identity: Box::new(|| [7; 32]) })
    })
}

/// Limits of `sequences` contexts of 256, prompts in pieces of 64, a queue of `queue`.
pub fn limits(sequences: usize, queue: usize) -> Limits {
    Limits {
        context: 256,
        sequences,
        queue,
        chunk: 64,
        kv_type: KvType::F32,
        kv_budget: sequences as u64 * 4 * 512,
        prefix_budget: None,
        weights: 1000,
    }
}
