//! Runs a checkpoint's decoder directly, without scheduler or text: logits in, numbers out.
#![allow(dead_code)] // each test uses its part

use std::path::Path;

use gomlx::engine::backend::cpu::{Cpu, CpuOptions};
use gomlx::engine::backend::{Backend, KvType, PAGE_TOKENS, Segment};
use gomlx::engine::model::decoder::{Decoder, cache_layout};
use gomlx::engine::model::load::{LoadOptions, LoadedModel, load};
use gomlx::engine::{Control, Result};

/// How to compute.
#[derive(Clone, Copy, Debug)]
pub struct How {
    pub exact: bool,
    pub kv: KvType,
    pub threads: usize,
    /// Rows per step.
    pub chunk: usize,
}

pub const EXACT: How = How { exact: true, kv: KvType::F32, threads: 2, chunk: 512 };
pub const FAST: How = How { exact: false, kv: KvType::F16, threads: 2, chunk: 512 };

/// A loaded decoder with a cache for one sequence, on the backend that `GOMLX_TEST_BACKEND` names: `cpu`, or `mlx` in
/// builds with it.
pub struct Runner {
    decoder: Box<dyn Run>,
    pub vocab: usize,
}

impl Runner {
    pub fn load(dir: &Path, how: How) -> Result<Self> {
        let loaded = load(dir, &LoadOptions::default())?;
        let vocab = loaded.spec.vocab;
        let decoder: Box<dyn Run> = match std::env::var("GOMLX_TEST_BACKEND").as_deref() {
            Err(_) | Ok("cpu") => {
                let options = CpuOptions { threads: Some(how.threads), exact: how.exact, isa: None };
                Box::new(OnBackend::new(Cpu::new(options)?, loaded, how)?)
            }
            #[cfg(feature = "mlx")]
            Ok("mlx") => {
                use gomlx::engine::backend::mlx::{Mlx, MlxOptions};
                Box::new(OnBackend::new(Mlx::new(MlxOptions { exact: how.exact, half: false })?, loaded, how)?)
            }
            Ok(other) => panic!("GOMLX_TEST_BACKEND is {other:?}"),
        };
        Ok(Self { decoder, vocab })
    }

    /// Logits at every position of `ids`, `[ids.len()][vocab]`, from an empty cache.
    pub fn logits(&self, ids: &[u32]) -> Result<Vec<Vec<f32>>> {
        self.decoder.logits(ids)
    }

    /// `steps` greedy tokens after `ids`, recomputing nothing but the new token each step.
    pub fn greedy(&self, ids: &[u32], steps: usize, end: &[u32]) -> Result<Vec<u32>> {
        self.decoder.greedy(ids, steps, end)
    }
}

/// What a [`Runner`] does, whatever computes.
trait Run {
    fn logits(&self, ids: &[u32]) -> Result<Vec<Vec<f32>>>;
    fn greedy(&self, ids: &[u32], steps: usize, end: &[u32]) -> Result<Vec<u32>>;
}

struct OnBackend<B: Backend> {
    backend: B,
    decoder: Decoder<B>,
    vocab: usize,
    how: How,
}

impl<B: Backend> OnBackend<B> {
    fn new(backend: B, loaded: LoadedModel, how: How) -> Result<Self> {
        let vocab = loaded.spec.vocab;
        let decoder = Decoder::new(&backend, loaded.spec, &loaded.tensors, &Control::new())?;
        Ok(Self { backend, decoder, vocab, how })
    }
}

impl<B: Backend> Run for OnBackend<B> {
    fn logits(&self, ids: &[u32]) -> Result<Vec<Vec<f32>>> {
        let (layout, _) = cache_layout(self.decoder.spec(), self.how.kv);
        let mut cache = self.backend.cache(&layout)?;
        let pages = ids.len().div_ceil(PAGE_TOKENS);
        for group in 0..layout.groups.len() {
            self.backend.resize(&mut cache, group, pages)?;
        }
        let table: Vec<u32> = (0..pages as u32).collect();
        let mut out = Vec::new();
        let mut flat = Vec::new();
        for start in (0..ids.len()).step_by(self.how.chunk) {
            let end = ids.len().min(start + self.how.chunk);
            let rows = 0..end - start;
            let wanted: Vec<usize> = rows.clone().collect();
            let segments = [Segment { rows, start, pages: vec![table.clone(); layout.groups.len()] }];
            let tokens = &ids[start..end];
            let hidden = self.decoder.forward(&self.backend, &mut cache, tokens, &segments, &wanted, &mut || Ok(()))?;
            let logits = self.decoder.logits(&self.backend, &hidden.expect("rows were wanted"))?;
            self.backend.read(&logits, &mut flat)?;
            out.extend(flat.chunks_exact(self.vocab).map(<[f32]>::to_vec));
        }
        Ok(out)
    }

    fn greedy(&self, ids: &[u32], steps: usize, end: &[u32]) -> Result<Vec<u32>> {
        let (layout, _) = cache_layout(self.decoder.spec(), self.how.kv);
        let mut cache = self.backend.cache(&layout)?;
        let pages = (ids.len() + steps).div_ceil(PAGE_TOKENS);
        for group in 0..layout.groups.len() {
            self.backend.resize(&mut cache, group, pages)?;
        }
        let table: Vec<u32> = (0..pages as u32).collect();
        let (mut fresh, mut start, mut out, mut flat) = (ids.to_vec(), 0, Vec::new(), Vec::new());
        while out.len() < steps {
            let segments = [Segment { rows: 0..fresh.len(), start, pages: vec![table.clone(); layout.groups.len()] }];
            let wanted = [fresh.len() - 1];
            let hidden = self.decoder.forward(&self.backend, &mut cache, &fresh, &segments, &wanted, &mut || Ok(()))?;
            let logits = self.decoder.logits(&self.backend, &hidden.expect("a row was wanted"))?;
            self.backend.read(&logits, &mut flat)?;
            let token = argmax(&flat);
            start += fresh.len();
            fresh = vec![token];
            out.push(token);
            if end.contains(&token) {
                break;
            }
        }
        Ok(out)
    }
}

/// Index of the largest value; the first of equals.
pub fn argmax(values: &[f32]) -> u32 {
    let mut best = 0;
    for (index, value) in values.iter().enumerate() {
        if *value > values[best] {
            best = index;
        }
    }
    best as u32
}

/// `|a - b| / |b|` in the Euclidean norm.
pub fn relative_error(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let square = |v: f64| v * v;
    let difference: f64 = a.iter().zip(b).map(|(a, b)| square(f64::from(*a) - f64::from(*b))).sum();
    let size: f64 = b.iter().map(|b| square(f64::from(*b))).sum();
    (difference / size).sqrt()
}

/// Log-probability of `target` under `logits`, in f64.
pub fn log_probability(logits: &[f32], target: u32) -> f64 {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|l| f64::from(l - max).exp()).sum();
    f64::from(logits[target as usize] - max) - sum.ln()
}
