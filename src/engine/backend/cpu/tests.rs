//! The CPU backend against the conformance suite, and bit against bit.

use super::*;
use crate::engine::backend::conformance::attention::{Sequence, cache, params, step};
use crate::engine::backend::conformance::{self, Claims, Numbers, read};
use crate::engine::backend::{KvType, PAGE_TOKENS};
use crate::engine::model::spec::Activation::GeluTanh;

fn available() -> impl Iterator<Item = Isa> {
    Isa::NAMES.iter().map(|(_, isa)| *isa).filter(|isa| isa.is_available())
}

fn cpu(isa: Isa, threads: usize, exact: bool) -> Cpu {
    Cpu::new(CpuOptions { threads: Some(threads), exact, isa: Some(isa) }).unwrap()
}

#[test]
fn conforms_exactly() {
    let claims = Claims { float: 1e-5, product: 1e-6, exceptions: &[] };
    for isa in available() {
        for threads in 1..=3 {
            conformance::run(&cpu(isa, threads, true), &claims);
        }
    }
}

#[test]
fn conforms_fast() {
    let claims = Claims { float: 1e-5, product: 2e-2, exceptions: &[] };
    for isa in available() {
        for threads in 1..=3 {
            conformance::run(&cpu(isa, threads, false), &claims);
        }
    }
}

/// Attention over `tokens` positions in chunks, with two other sequences in some of the steps.
fn answers(cpu: &Cpu, p: &AttentionParams, dtype: KvType, tokens: usize, chunk: usize, company: bool) -> Vec<u32> {
    let pages = tokens.div_ceil(PAGE_TOKENS) as PageId;
    let mut cache = cache(cpu, p, dtype, 3 * pages as usize);
    let table = |number: PageId| (0..pages).map(|i| 3 * i + number).collect();
    let mut sequences: Vec<_> = (0..3).map(|i| Sequence::new(100 + u64::from(i), tokens, p, table(i))).collect();
    let mut round = 0;
    while sequences[1].done < tokens {
        let mut rows = [0, chunk.min(tokens - sequences[1].done), 0];
        if company {
            rows[0] = [1, 0, 17][round % 3].min(tokens - sequences[0].done);
            rows[2] = [40, 1, 1][round % 3].min(tokens - sequences[2].done);
        }
        step(cpu, &mut cache, 0, p, &mut sequences, &rows);
        round += 1;
    }
    sequences[1].out.iter().map(|x| x.to_bits()).collect()
}

#[test]
fn attention_does_not_depend_on_company() {
    let tokens = 700;
    for isa in available() {
        for (p, dtype) in [
            (params(4, 1, 64), KvType::F16),
            (params(6, 3, 40), KvType::F32),
            (AttentionParams { window: Some(300), softcap: Some(20.0), ..params(4, 2, 16) }, KvType::BF16),
        ] {
            let expected = answers(&cpu(isa, 1, true), &p, dtype, tokens, tokens, false);
            for (threads, chunk, company) in
                [(2, tokens, false), (1, 1, false), (3, 1, true), (1, 7, true), (2, 64, false), (3, 512, true)]
            {
                let found = answers(&cpu(isa, threads, true), &p, dtype, tokens, chunk, company);
                assert!(found == expected, "{isa:?} {p:?}: {threads} threads, chunks of {chunk}, company {company}");
            }
        }
    }
}

#[test]
fn rows_do_not_depend_on_company() {
    let (rows, cols) = (90, 1152);
    let mut numbers = Numbers::new(5);
    let (x, y, weight) = (numbers.take(rows * cols), numbers.take(rows * cols), numbers.take(cols));
    let positions: Vec<usize> = (1000..1000 + rows).collect();
    for isa in available() {
        let through = |threads: usize, from: usize, to: usize| {
            let cpu = cpu(isa, threads, true);
            let part = |v: &[f32]| cpu.write(to - from, cols, &v[from * cols..to * cols]).unwrap();
            let norm = cpu.vector(&weight).unwrap();
            let inv_freq: Vec<f32> = (0..64).map(|i| 0.8f32.powi(i)).collect();
            let rope = Rope { inv_freq: cpu.vector(&inv_freq).unwrap(), head_dim: 128, factor: 1.0 };
            let a = cpu.rms_norm(&part(&x), &norm, 1e-6).unwrap();
            let a = cpu.head_norm(a, &cpu.vector(&weight[..128]).unwrap(), 1e-6).unwrap();
            let a = cpu.rope(a, &positions[from..to], &rope).unwrap();
            let a = cpu.gated(a, &part(&y), GeluTanh).unwrap();
            let a = cpu.add(a, &part(&x)).unwrap();
            let a = cpu.softcap(a, 3.0).unwrap();
            read(&cpu, &a).iter().map(|x| x.to_bits()).collect::<Vec<_>>()
        };
        let expected = through(1, 0, rows);
        for (threads, from, to) in [(2, 0, rows), (3, 0, rows), (1, 17, 18), (2, 3, 80)] {
            assert!(through(threads, from, to) == expected[from * cols..to * cols], "{isa:?} {threads} {from}..{to}");
        }
    }
}

#[test]
fn steady_decoding_allocates_nothing() {
    let cpu = cpu(Isa::choose(None).unwrap(), 2, true);
    let p = params(4, 2, 64);
    let mut cache = cache(&cpu, &p, KvType::F16, 4);
    let norm = cpu.vector(&[1.0; 256]).unwrap();
    let mut numbers = Numbers::new(9);
    let values = numbers.take(256);
    let mut after = Vec::new();
    for position in 0..200 {
        let x = cpu.write(1, 256, &values).unwrap();
        let q = cpu.rms_norm(&x, &norm, 1e-6).unwrap();
        let k = cpu.write(1, 128, &values[..128]).unwrap();
        let segment = Segment { rows: 0..1, start: position, pages: vec![vec![0, 1, 2, 3]] };
        let a = cpu.attention(q, &k, &k, &mut cache, 0, &[segment], &p).unwrap();
        let x = cpu.add(x, &a).unwrap();
        let gate = cpu.rms_norm(&x, &norm, 1e-6).unwrap();
        cpu.gated(gate, &x, GeluTanh).unwrap();
        after.push(cpu.allocations());
    }
    assert!(after[0] > 0 && after.iter().all(|n| *n == after[0]), "{after:?}");
}
