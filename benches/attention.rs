//! Attention and the row-wise operations of the CPU backend, at the shapes of published models.
//!
//! `cargo bench --bench attention [-- THREADS] [decode] [prompt] [rows]`. Every decoding figure walks through enough
//! layers that the cache comes from memory, and stands beside the bandwidth that plain reading reaches with the same
//! threads.

use std::time::Instant;

use gomlx::engine::Result;
use gomlx::engine::backend::cpu::team::{Team, default_threads};
use gomlx::engine::backend::cpu::{Cpu, CpuOptions};
use gomlx::engine::backend::{AttentionParams, Backend, CacheLayout, KvType, PAGE_TOKENS, PageId, Rope, Segment};
use gomlx::engine::model::spec::Activation;

/// name, query heads, key/value heads, width of a head, layers, hidden, intermediate
const MODELS: [(&str, usize, usize, usize, usize, usize, usize); 3] = [
    ("gemma-3-1b", 4, 1, 256, 26, 1152, 6912),
    ("llama-3.2-1b", 32, 8, 64, 16, 2048, 8192),
    ("qwen3-0.6b", 16, 8, 128, 28, 1024, 3072),
];

fn main() -> Result<()> {
    let threads = std::env::args().skip(1).find_map(|arg| arg.parse().ok()).unwrap_or_else(default_threads);
    let cpu = Cpu::new(CpuOptions { threads: Some(threads), ..CpuOptions::default() })?;
    let bandwidth = read_bandwidth(threads)?;
    println!("{}, {threads} threads; reading memory: {bandwidth:.1} GB/s", cpu.describe().device);
    let kinds = ["decode", "prompt", "rows"];
    let named: Vec<String> = std::env::args().filter(|arg| kinds.contains(&arg.as_str())).collect();
    let wanted = |kind: &str| named.is_empty() || named.iter().any(|name| name == kind);
    for model in MODELS {
        if wanted("decode") {
            decode(&cpu, model, bandwidth)?;
        }
        if wanted("prompt") {
            prefill(&cpu, model)?;
        }
        if wanted("rows") {
            rows(&cpu, model)?;
        }
    }
    Ok(())
}

/// Least seconds of `work` in some runs, after one to warm up: what else the machine does only ever adds.
fn least(times: usize, mut work: impl FnMut() -> Result<()>) -> Result<f64> {
    work()?;
    let mut least = f64::MAX;
    for _ in 0..times {
        let start = Instant::now();
        work()?;
        least = least.min(start.elapsed().as_secs_f64());
    }
    Ok(least)
}

fn read_bandwidth(threads: usize) -> Result<f64> {
    let words = vec![1u64; 64 << 20];
    let team = Team::new(threads)?;
    let part = words.len() / threads;
    let seconds = least(5, || {
        team.run(threads, &|task| {
            let sums = words[task * part..(task + 1) * part].chunks_exact(32).fold([0u64; 32], |mut sums, chunk| {
                sums.iter_mut().zip(chunk).for_each(|(sum, word)| *sum = sum.wrapping_add(*word));
                sums
            });
            std::hint::black_box(sums);
        });
        Ok(())
    })?;
    Ok(words.len() as f64 * 8.0 / seconds / 1e9)
}

/// Numbers without a pattern that could make arithmetic special.
fn values(count: usize) -> Vec<f32> {
    (0..count).map(|i| ((i * 2_654_435_761) % 1000) as f32 / 500.0 - 1.0).collect()
}

fn decode(
    cpu: &Cpu,
    (name, heads, kv_heads, head_dim, layers, ..): (&str, usize, usize, usize, usize, usize, usize),
    bandwidth: f64,
) -> Result<()> {
    let scale = 1.0 / (head_dim as f32).sqrt();
    let params = AttentionParams { heads, kv_heads, head_dim, scale, window: None, softcap: None };
    for dtype in [KvType::F16, KvType::BF16, KvType::F32] {
        for context in [512, 2048, 8192] {
            let pages = context / PAGE_TOKENS;
            let indices = (0..layers).map(|layer| (0, layer)).collect();
            let layout = CacheLayout { layers: indices, groups: vec![layers], kv_heads, head_dim, dtype };
            let mut cache = cpu.cache(&layout)?;
            cpu.resize(&mut cache, 0, pages)?;
            let table: Vec<PageId> = (0..pages as PageId).collect();
            let q = cpu.write(1, heads * head_dim, &values(heads * head_dim))?;
            let k = cpu.write(1, kv_heads * head_dim, &values(kv_heads * head_dim))?;
            // Touches every page, which until then is the system's zero page.
            for position in (0..context).step_by(PAGE_TOKENS) {
                let segment = [Segment { rows: 0..1, start: position, pages: vec![table.clone()] }];
                for layer in 0..layers {
                    cpu.attention(q.clone(), &k, &k, &mut cache, layer, &segment, &params)?;
                }
            }
            let segment = [Segment { rows: 0..1, start: context - 1, pages: vec![table] }];
            let seconds = least(20, || {
                for layer in 0..layers {
                    cpu.attention(q.clone(), &k, &k, &mut cache, layer, &segment, &params)?;
                }
                Ok(())
            })?;
            let rate = (layout.page_bytes(0) * pages) as f64 / seconds / 1e9;
            println!(
                "{name:13} decode at {context:5} {dtype:?}: {:8.1} us a layer, {rate:5.1} GB/s ({:3.0} % of reading)",
                seconds / layers as f64 * 1e6,
                rate / bandwidth * 100.0
            );
        }
    }
    Ok(())
}

fn prefill(
    cpu: &Cpu,
    (name, heads, kv_heads, head_dim, ..): (&str, usize, usize, usize, usize, usize, usize),
) -> Result<()> {
    let scale = 1.0 / (head_dim as f32).sqrt();
    let params = AttentionParams { heads, kv_heads, head_dim, scale, window: None, softcap: None };
    for tokens in [128, 512, 2048] {
        let pages = tokens / PAGE_TOKENS;
        let layout = CacheLayout { layers: vec![(0, 0)], groups: vec![1], kv_heads, head_dim, dtype: KvType::F16 };
        let mut cache = cpu.cache(&layout)?;
        cpu.resize(&mut cache, 0, pages)?;
        let q = cpu.write(tokens, heads * head_dim, &values(tokens * heads * head_dim))?;
        let k = cpu.write(tokens, kv_heads * head_dim, &values(tokens * kv_heads * head_dim))?;
        let segment = [Segment { rows: 0..tokens, start: 0, pages: vec![(0..pages as PageId).collect()] }];
        let seconds = least(20, || cpu.attention(q.clone(), &k, &k, &mut cache, 0, &segment, &params).map(drop))?;
        let operations = 2.0 * (tokens * (tokens + 1) * heads * head_dim) as f64;
        println!(
            "{name:13} prompt of {tokens:5}: {:8.2} ms a layer, {:6.1} Gflop/s",
            seconds * 1e3,
            operations / seconds / 1e9
        );
    }
    Ok(())
}

fn rows(
    cpu: &Cpu,
    (name, heads, kv_heads, head_dim, _, hidden, intermediate): (&str, usize, usize, usize, usize, usize, usize),
) -> Result<()> {
    let norm = cpu.vector(&values(hidden))?;
    let head = cpu.vector(&values(head_dim))?;
    let rope = Rope { inv_freq: cpu.vector(&values(head_dim / 2))?, head_dim, factor: 1.0 };
    for rows in [1, 8, 512] {
        let act = |cols: usize| cpu.write(rows, cols, &values(rows * cols));
        let (x, mut y, q, k) = (act(hidden)?, act(hidden)?, act(heads * head_dim)?, act(kv_heads * head_dim)?);
        let (mut gate, up) = (act(intermediate)?, act(intermediate)?);
        let times = if rows > 100 { 1 } else { 100 };
        let mut positions: Vec<usize> = (0..rows).collect();
        let report = |what: &str, work: &mut dyn FnMut() -> Result<()>| -> Result<()> {
            let seconds = least(40, || (0..times).try_for_each(|_| work()))? / f64::from(times);
            println!("{name:13} {rows:4} rows: {what:20} {:9.2} us", seconds * 1e6);
            Ok(())
        };
        report("rms_norm", &mut || cpu.rms_norm(&x, &norm, 1e-6).map(drop))?;
        let mut moved = Some(q);
        report("head_norm of q", &mut || {
            moved = moved.take().map(|q| cpu.head_norm(q, &head, 1e-6)).transpose()?;
            Ok(())
        })?;
        report("rope of q", &mut || {
            moved = moved.take().map(|q| cpu.rope(q, &positions, &rope)).transpose()?;
            Ok(())
        })?;
        report("rope, new positions", &mut || {
            positions.iter_mut().for_each(|p| *p += 1);
            cpu.rope(k.clone(), &positions, &rope).map(drop)
        })?;
        for (what, activation) in [("gated silu", Activation::Silu), ("gated gelu_tanh", Activation::GeluTanh)] {
            report(what, &mut || {
                gate = cpu.gated(gate.clone(), &up, activation)?;
                Ok(())
            })?;
        }
        report("add", &mut || {
            y = cpu.add(std::mem::replace(&mut y, x.clone()), &x)?;
            Ok(())
        })?;
    }
    Ok(())
}
