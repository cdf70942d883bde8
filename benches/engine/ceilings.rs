//! What the machine can do at most, measured by the same team of threads that computes.

use std::hint::black_box;
use std::sync::OnceLock;
use std::time::Instant;

use gomlx::engine::backend::cpu::kernels::Isa;
use gomlx::engine::backend::cpu::team::Team;
use serde_json::{Value, json};

/// Reads and dot products a second, each the best of a few tries.
pub fn measure(threads: usize) -> Value {
    let team = Team::new(threads).expect("threads");
    let isa = Isa::choose(std::env::var("GOMLX_ISA").ok().as_deref()).expect("GOMLX_ISA");
    let best = |measure: &dyn Fn() -> f64| (0..7).map(|_| measure()).fold(0.0, f64::max);
    json!({
        "read": best(&|| Memory::shared().read(&team)),
        "int8": best(&|| rate(&team, isa.int8())),
        "bf16": best(&|| rate(&team, isa.bf16())),
        "f32": best(&|| rate(&team, isa.f32())),
        "isa": isa.name(),
        "threads": threads,
    })
}

/// Bytes a second that are read just now: what a machine's memory gives changes from second to second where others
/// use it, too.
pub fn reading(threads: usize) -> Value {
    let team = Team::new(threads).expect("threads");
    let read = (0..4).map(|_| Memory::shared().read(&team)).fold(0.0, f64::max);
    json!({"rate": read})
}

/// Far more than the caches hold.
struct Memory(Vec<u64>);

impl Memory {
    fn shared() -> &'static Self {
        static MEMORY: OnceLock<Memory> = OnceLock::new();
        MEMORY.get_or_init(|| Memory((0..64 << 20).collect()))
    }

    /// Bytes a second that the team reads from memory.
    fn read(&self, team: &Team) -> f64 {
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

/// A loop of `CHAINS` independent instructions a round, and the operations (multiplications and additions) of one.
type Loop = (unsafe fn(usize), usize);
const CHAINS: usize = 16;

/// Operations a second, all threads together.
fn rate(team: &Team, (body, operations): Loop) -> f64 {
    const ROUNDS: usize = 2_000_000;
    let begin = Instant::now();
    // SAFETY: the loops come from `Isa` methods below, which pick by what the processor has.
    team.run(team.threads(), &|_| unsafe { body(ROUNDS) });
    (team.threads() * ROUNDS * CHAINS * operations) as f64 / begin.elapsed().as_secs_f64()
}

/// The best instruction that an instruction set has for a kind of number.
trait Best {
    fn int8(self) -> Loop;
    fn bf16(self) -> Loop;
    fn f32(self) -> Loop;
}

#[cfg(target_arch = "x86_64")]
impl Best for Isa {
    fn int8(self) -> Loop {
        match self {
            Isa::Avx512Bf16 | Isa::Avx512Vnni => (x86::vnni, 128),
            Isa::Avx2Vnni => (x86::vnni256, 64),
            Isa::Avx2 => (x86::maddubs, 64),
            _ => (x86::scalar, 8),
        }
    }
    fn bf16(self) -> Loop {
        match self {
            Isa::Avx512Bf16 => (x86::bf16, 64),
            other => other.f32(),
        }
    }
    fn f32(self) -> Loop {
        match self {
            Isa::Avx512Bf16 | Isa::Avx512Vnni => (x86::fma512, 32),
            Isa::Avx2 | Isa::Avx2Vnni => (x86::fma256, 16),
            _ => (x86::scalar, 8),
        }
    }
}

#[cfg(not(target_arch = "x86_64"))]
impl Best for Isa {
    fn int8(self) -> Loop {
        (plain, 8)
    }
    fn bf16(self) -> Loop {
        (plain, 8)
    }
    fn f32(self) -> Loop {
        (plain, 8)
    }
}

/// What the compiler makes of four-lane arithmetic.
#[cfg(not(target_arch = "x86_64"))]
unsafe fn plain(rounds: usize) {
    let a = black_box([1e-3f32; 4]);
    let mut accs = [[0f32; 4]; CHAINS];
    for _ in 0..rounds {
        for acc in &mut accs {
            acc.iter_mut().zip(a).for_each(|(acc, a)| *acc = a.mul_add(a, *acc));
        }
    }
    black_box(accs);
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;
    use std::hint::black_box;

    use super::CHAINS;

    macro_rules! chains {
        ($name:ident, $features:literal, $zero:expr, |$acc:ident, $a:ident| $op:expr) => {
            #[target_feature(enable = $features)]
            pub unsafe fn $name(rounds: usize) {
                let $a = black_box($zero);
                let mut accs = [$zero; CHAINS];
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
        let mut accs = [_mm512_setzero_ps(); CHAINS];
        for _ in 0..rounds {
            for acc in &mut accs {
                *acc = _mm512_dpbf16_ps(*acc, a, a);
            }
        }
        black_box(accs);
    }
}
