//! Contract 2: one hash over a prompt's logits, whatever the threads, the batch and the chunks, on every instruction
//! set that this processor has.

use std::hash::{DefaultHasher, Hasher};
use std::path::Path;

use gomlx::engine::Control;
use gomlx::engine::backend::cpu::kernels::Isa;
use gomlx::engine::backend::cpu::{Cpu, CpuOptions};
use gomlx::engine::backend::{Backend, KvType, PAGE_TOKENS, Segment};
use gomlx::engine::model::decoder::{Decoder, cache_layout};
use gomlx::engine::model::load::{LoadOptions, load};

/// Runs the same prompt as `batch` sequences side by side in chunks of `chunk` and hashes each one's logits.
fn hashes(dir: &Path, isa: Isa, exact: bool, threads: usize, batch: usize, chunk: usize) -> Vec<u64> {
    let loaded = load(dir, &LoadOptions::default()).expect("it loads");
    let backend = Cpu::new(CpuOptions { threads: Some(threads), exact, isa: Some(isa) }).expect("available");
    let vocab = loaded.spec.vocab as u32;
    let decoder = Decoder::new(&backend, loaded.spec, &loaded.tensors, &Control::new()).expect("it fits");
    let (layout, _) = cache_layout(decoder.spec(), KvType::F16);
    let mut cache = backend.cache(&layout).expect("memory");
    let prompt: Vec<u32> = (0..100u32).map(|i| (i * 7919 + 13) % vocab).collect();
    let pages = prompt.len().div_ceil(PAGE_TOKENS);
    let groups = layout.groups.len();
    for group in 0..groups {
        backend.resize(&mut cache, group, batch * pages).expect("memory");
    }
    let mut hashers: Vec<DefaultHasher> = (0..batch).map(|_| DefaultHasher::new()).collect();
    let mut logits = Vec::new();
    for start in (0..prompt.len()).step_by(chunk) {
        let end = prompt.len().min(start + chunk);
        let fresh = end - start;
        let tokens: Vec<u32> = (0..batch).flat_map(|_| prompt[start..end].to_vec()).collect();
        let segment = |sequence: usize| {
            let table: Vec<u32> = (0..pages).map(|page| (page * batch + sequence) as u32).collect();
            Segment { rows: sequence * fresh..(sequence + 1) * fresh, start, pages: vec![table; groups] }
        };
        let segments: Vec<Segment> = (0..batch).map(segment).collect();
        let wanted: Vec<usize> = (0..tokens.len()).collect();
        let hidden = decoder
            .forward(&backend, &mut cache, &tokens, &segments, &wanted, &mut || Ok(()))
            .expect("it runs")
            .expect("rows were wanted");
        let act = decoder.logits(&backend, &hidden).expect("it runs");
        backend.read(&act, &mut logits).expect("it reads");
        for (sequence, rows) in logits.chunks_exact(fresh * vocab as usize).enumerate() {
            rows.iter().for_each(|logit| hashers[sequence].write_u32(logit.to_bits()));
        }
    }
    hashers.into_iter().map(|hasher| hasher.finish()).collect()
}

#[test]
fn logits_do_not_depend_on_threads_batch_or_chunks() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let golden = root.join("tests/golden");
    let folders = [
        root.join("models/gemma3-domains-6m-4bit"),
        golden.join("quant/llama-8bit-g32-bf16"),
        golden.join("quant/qwen3-6bit-g64-bf16"),
        golden.join("tiny/gemma3-text"),
        golden.join("tiny/llama-mqa-tied-f16"),
        golden.join("tiny/llama-mha-f32"),
    ];
    for (name, isa) in Isa::NAMES.into_iter().filter(|(_, isa)| isa.is_available()) {
        for dir in &folders {
            for exact in [false, true] {
                let one = hashes(dir, isa, exact, 1, 1, 512)[0];
                println!(
                    "{name}, {}, {}: {one:016x}",
                    dir.file_name().unwrap().display(),
                    if exact { "exact" } else { "fast" }
                );
                for (threads, batch, chunk) in [(2, 1, 512), (1, 3, 64), (2, 8, 7)] {
                    for hash in hashes(dir, isa, exact, threads, batch, chunk) {
                        assert_eq!(
                            hash,
                            one,
                            "{name}, {}, exact {exact}: {threads} threads, batch {batch}, chunks of {chunk}",
                            dir.display()
                        );
                    }
                }
            }
        }
    }
}
