//! The matrix products of published models, without the rest of the step: `cargo bench --bench matmul -- ARGS`.
//!
//! `--model NAME` (substring), `--bits 2|3|4|5|6|8|16`, `--group 32|64|128`, `--rows 1,8,512`, `--threads N`,
//! `--isa NAME`, `--exact`, `--shift B` (bytes that weights begin behind a cache line's start, as they do in files
//! whose header is not padded), `--seconds S` for each line. Every line's time is the best of its repetitions and stands
//! beside the ceilings of this machine (reading memory, dot products), measured by turns with it.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use gomlx::engine::backend::cpu::kernels::Isa;
use gomlx::engine::backend::cpu::matrix::Matrix;
use gomlx::engine::backend::cpu::project::{Context, project};
use gomlx::engine::backend::cpu::scratch::Scratch;
use gomlx::engine::backend::cpu::team::{Team, default_threads};
use gomlx::engine::weights::{self, Affine, Bytes, DType, Storage, Tensor};

/// Shapes of a published model.
struct Shape {
    name: &'static str,
    hidden: usize,
    layers: usize,
    ffn: usize,
    /// Outputs of q, and of k and v.
    q: usize,
    kv: usize,
    vocab: usize,
}

const SHAPES: [Shape; 4] = [
    Shape { name: "gemma3-1b", hidden: 1152, layers: 26, ffn: 6912, q: 1024, kv: 256, vocab: 262144 },
    Shape { name: "llama3.2-1b", hidden: 2048, layers: 16, ffn: 8192, q: 2048, kv: 512, vocab: 128256 },
    Shape { name: "qwen3-0.6b", hidden: 1024, layers: 28, ffn: 3072, q: 2048, kv: 1024, vocab: 151936 },
    Shape { name: "llama3.1-8b/4", hidden: 4096, layers: 8, ffn: 14336, q: 4096, kv: 1024, vocab: 128256 },
];

/// What the command line says.
struct Args {
    model: String,
    bits: Vec<u32>,
    group: usize,
    rows: Vec<usize>,
    threads: usize,
    isa: Isa,
    exact: bool,
    shift: usize,
    seconds: f64,
}

fn args() -> Args {
    let mut args = Args {
        model: String::new(),
        bits: vec![4],
        group: 64,
        rows: vec![1, 8, 16, 128, 512],
        threads: default_threads(),
        isa: Isa::choose(std::env::var("GOMLX_ISA").ok().as_deref()).expect("GOMLX_ISA"),
        exact: false,
        shift: 0,
        seconds: 1.5,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().unwrap_or_else(|| panic!("{word} needs a value"));
        match word.as_str() {
            "--model" => args.model = value(),
            "--bits" => args.bits = value().split(',').map(|b| b.parse().expect("--bits")).collect(),
            "--group" => args.group = value().parse().expect("--group"),
            "--rows" => args.rows = value().split(',').map(|r| r.parse().expect("--rows")).collect(),
            "--threads" => args.threads = value().parse().expect("--threads"),
            "--isa" => args.isa = Isa::choose(Some(&value())).expect("--isa"),
            "--exact" => args.exact = true,
            "--shift" => args.shift = value().parse().expect("--shift"),
            "--seconds" => args.seconds = value().parse().expect("--seconds"),
            "--bench" => (),
            other => panic!("{other}: see the top of benches/matmul.rs"),
        }
    }
    args
}

/// Bytes that look like weights to the processor: random bits, or random small bf16 numbers.
fn bytes(len: usize, numbers: bool, shift: usize, seed: &mut u64) -> Bytes {
    let mut bytes = vec![0u8; len + 2 * 64];
    let start = bytes.as_ptr().align_offset(64) + shift % 64;
    for chunk in bytes[start..start + len].chunks_mut(8) {
        *seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let mut word = *seed ^ (*seed >> 29);
        if numbers {
            word = (word & 0x80ff_80ff_80ff_80ff) | 0x3c00_3c00_3c00_3c00;
        }
        chunk.copy_from_slice(&word.to_le_bytes()[..chunk.len()]);
    }
    Bytes::new(Arc::new(bytes)).slice(start..start + len).expect("inside")
}

fn matrix(rows: usize, cols: usize, bits: u32, group: usize, shift: usize, seed: &mut u64) -> Matrix {
    let tensor = |dtype: DType, shape: [usize; 2], bytes: Bytes| Tensor {
        name: "bench".into(),
        dtype,
        shape: shape.to_vec(),
        bytes,
    };
    let mut numbers = |cols: usize| tensor(DType::BF16, [rows, cols], bytes(rows * cols * 2, true, shift, seed));
    let storage = if bits == 16 {
        Storage::Dense(numbers(cols))
    } else {
        let (scales, biases) = (numbers(cols / group), numbers(cols / group));
        let words = cols * bits as usize / 32;
        let weight = tensor(DType::U32, [rows, words], bytes(rows * words * 4, false, shift, seed));
        Storage::Affine(Affine { bits, group, weight, scales, biases })
    };
    Matrix::new(&weights::Matrix { rows, cols, storage }).expect("a good matrix")
}

/// One model's matrices: for each layer q/k/v, o, gate/up, down; and the head.
struct Model {
    layers: Vec<[Vec<Matrix>; 4]>,
    head: Vec<Matrix>,
}

impl Model {
    fn new(s: &Shape, bits: u32, group: usize, shift: usize) -> Self {
        let mut seed = 1;
        let mut make = |rows, cols| matrix(rows, cols, bits, group, shift, &mut seed);
        let layers = (0..s.layers)
            .map(|_| {
                [
                    vec![make(s.q, s.hidden), make(s.kv, s.hidden), make(s.kv, s.hidden)],
                    vec![make(s.hidden, s.q)],
                    vec![make(s.ffn, s.hidden), make(s.ffn, s.hidden)],
                    vec![make(s.hidden, s.ffn)],
                ]
            })
            .collect();
        Self { layers, head: vec![make(s.vocab, s.hidden)] }
    }
    fn of_layers(&self) -> impl Iterator<Item = &Matrix> {
        self.layers.iter().flatten().flatten()
    }
    /// Bytes a step reads, and multiply-adds × 2 it does.
    fn work(&self, rows: usize, heads: usize) -> (f64, f64) {
        let size = |m: &Matrix| (m.rows() * m.cols()) as f64;
        let bytes = self.of_layers().chain(&self.head).map(|m| m.bytes() as f64).sum();
        let macs = rows as f64 * self.of_layers().map(size).sum::<f64>() + heads as f64 * size(&self.head[0]);
        (bytes, 2.0 * macs)
    }
}

/// One step over all matrices; the head for `heads` rows.
fn step(cx: &Context, model: &Model, x: &[f32], rows: usize, heads: usize, out: &mut [f32], scratch: &mut Scratch) {
    let mut shared = |group: &[Matrix], rows: usize| {
        let to: Vec<_> = group.iter().map(|m| (m, None)).collect();
        let mut rest = &mut *out;
        let mut views = Vec::new();
        for m in group {
            let (view, more) = rest.split_at_mut(rows * m.rows());
            views.push(view);
            rest = more;
        }
        project(cx, &x[..rows * group[0].cols()], rows, &to, &mut views, scratch).expect("project");
    };
    model.layers.iter().flatten().for_each(|group| shared(group, rows));
    shared(&model.head, heads);
    black_box(&out[0]);
}

fn main() {
    let args = args();
    let team = Team::new(args.threads).expect("threads");
    let cx = Context { team: &team, isa: args.isa, exact: args.exact };
    println!("{} threads, {}{}", args.threads, args.isa.name(), if args.exact { ", exact" } else { "" });
    println!(
        "{:<14} {:>4} {:>5} {:>9} {:>9} {:>14} {:>16}",
        "model", "bits", "rows", "ms", "tokens/s", "GB/s", "Top/s"
    );
    let memory = ceilings::Memory::new();
    for shape in SHAPES.iter().filter(|s| s.name.contains(&args.model)) {
        for &bits in &args.bits {
            let model = Model::new(shape, bits, args.group, args.shift);
            for &rows in &args.rows {
                // A prompt needs the logits of its last token only; sequences decoded together need all.
                let heads = if rows > 32 { 1 } else { rows };
                let widest = [2 * shape.ffn, shape.q + 2 * shape.kv, shape.hidden].into_iter().max().unwrap_or(0);
                let mut out = vec![0.0; (rows * widest).max(heads * shape.vocab)];
                let mut seed = 7u64;
                let x: Vec<f32> = (0..rows * shape.ffn.max(shape.q).max(shape.hidden))
                    .map(|_| {
                        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                        (seed >> 40) as f32 / (1 << 24) as f32 - 0.5
                    })
                    .collect();
                let mut scratch = Scratch::new();
                step(&cx, &model, &x, rows, heads, &mut out, &mut scratch);
                let (mut best, mut read, mut dots) = (f64::MAX, 0f64, 0f64);
                let (start, mut rounds) = (Instant::now(), 0);
                while rounds < 3 || start.elapsed().as_secs_f64() < args.seconds {
                    for _ in 0..3 {
                        let begin = Instant::now();
                        step(&cx, &model, &x, rows, heads, &mut out, &mut scratch);
                        best = best.min(begin.elapsed().as_secs_f64());
                    }
                    read = read.max(memory.read(&team));
                    dots = dots.max(ceilings::dots(&team, args.isa, bits == 16, args.exact));
                    rounds += 1;
                }
                let (bytes, ops) = model.work(rows, heads);
                println!(
                    "{:<14} {bits:>4} {rows:>5} {:>9.3} {:>9.1} {:>7.1} {:>5.1}% {:>8.3} {:>6.1}%   (ceilings {:.1} GB/s, {:.3} Top/s)",
                    shape.name,
                    best * 1e3,
                    rows as f64 / best,
                    bytes / best / 1e9,
                    100.0 * bytes / best / read,
                    ops / best / 1e12,
                    100.0 * ops / best / dots,
                    read / 1e9,
                    dots / 1e12,
                );
            }
        }
    }
}

/// What the machine can do at most.
mod ceilings {
    use super::*;

    /// Far more than the caches hold.
    pub struct Memory(Vec<u64>);

    impl Memory {
        pub fn new() -> Self {
            Memory((0..32 << 20).collect())
        }
        /// Bytes a second that the team reads from memory.
        pub fn read(&self, team: &Team) -> f64 {
            let pieces: Vec<&[u64]> = self.0.chunks(32 << 10).collect();
            let begin = Instant::now();
            team.run(pieces.len(), &|piece| {
                let mut sums = [0u64; 32];
                for line in pieces[piece].chunks_exact(32) {
                    sums.iter_mut().zip(line).for_each(|(sum, word)| *sum ^= word);
                }
                black_box(sums);
            });
            (self.0.len() * 8) as f64 / begin.elapsed().as_secs_f64()
        }
    }

    /// Operations a second of the best dot product there is for this work, all threads together.
    pub fn dots(team: &Team, isa: Isa, halves: bool, exact: bool) -> f64 {
        const ROUNDS: usize = 200_000;
        let begin = Instant::now();
        team.run(team.threads(), &|_| {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `isa` is available.
            unsafe {
                match (isa, halves, exact) {
                    (Isa::Avx512Bf16, true, false) => x86::bf16(ROUNDS),
                    (Isa::Avx512Bf16 | Isa::Avx512Vnni, false, false) => x86::vnni(ROUNDS),
                    (Isa::Avx512Bf16 | Isa::Avx512Vnni, ..) => x86::fma512(ROUNDS),
                    (Isa::Avx2Vnni, false, false) => x86::vnni256(ROUNDS),
                    (Isa::Avx2, false, false) => x86::maddubs(ROUNDS),
                    (Isa::Avx2 | Isa::Avx2Vnni, ..) => x86::fma256(ROUNDS),
                    _ => x86::scalar(ROUNDS),
                }
            }
            #[cfg(not(target_arch = "x86_64"))]
            black_box((isa, halves, exact));
        });
        let lanes = match (isa, halves, exact) {
            (Isa::Avx512Bf16, true, false) => 32,
            (Isa::Avx512Bf16 | Isa::Avx512Vnni, false, false) => 64,
            (Isa::Avx512Bf16 | Isa::Avx512Vnni, ..) => 16,
            (Isa::Avx2Vnni | Isa::Avx2, false, false) => 32,
            (Isa::Avx2 | Isa::Avx2Vnni, ..) => 8,
            _ => 4,
        };
        (team.threads() * ROUNDS * 16 * lanes * 2) as f64 / begin.elapsed().as_secs_f64()
    }

    #[cfg(target_arch = "x86_64")]
    mod x86 {
        use std::arch::x86_64::*;
        use std::hint::black_box;

        /// A loop of sixteen independent chains of one instruction.
        macro_rules! chains {
            ($name:ident, $features:literal, $zero:expr, |$acc:ident, $a:ident| $op:expr) => {
                #[target_feature(enable = $features)]
                pub unsafe fn $name(rounds: usize) {
                    let $a = black_box($zero);
                    let mut accs = [$zero; 16];
                    for _ in 0..rounds {
                        for acc in &mut accs {
                            let $acc = *acc;
                            *acc = $op;
                        }
                    }
                    black_box(accs);
                }
            };
        }
        chains!(vnni, "avx512f,avx512vnni", _mm512_setzero_si512(), |acc, a| _mm512_dpbusd_epi32(acc, a, a));
        chains!(fma512, "avx512f", _mm512_setzero_ps(), |acc, a| _mm512_fmadd_ps(a, a, acc));
        chains!(vnni256, "avx2,avxvnni", _mm256_setzero_si256(), |acc, a| _mm256_dpbusd_avx_epi32(acc, a, a));
        chains!(fma256, "avx2,fma", _mm256_setzero_ps(), |acc, a| _mm256_fmadd_ps(a, a, acc));
        chains!(maddubs, "avx2", _mm256_setzero_si256(), |acc, a| _mm256_add_epi32(
            acc,
            _mm256_madd_epi16(_mm256_maddubs_epi16(a, acc), a)
        ));
        chains!(scalar, "sse2", _mm_setzero_ps(), |acc, a| _mm_add_ps(_mm_mul_ps(a, a), acc));

        #[target_feature(enable = "avx512f,avx512bf16")]
        pub unsafe fn bf16(rounds: usize) {
            // SAFETY: the same 512 bits.
            let a = unsafe { std::mem::transmute::<__m512i, __m512bh>(black_box(_mm512_setzero_si512())) };
            let mut accs = [_mm512_setzero_ps(); 16];
            for _ in 0..rounds {
                for acc in &mut accs {
                    *acc = _mm512_dpbf16_ps(*acc, a, a);
                }
            }
            black_box(accs);
        }
    }
}
