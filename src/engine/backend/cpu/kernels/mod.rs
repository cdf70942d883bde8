//! The CPU's inner loops. Algorithms are written once over a vector trait; a file per instruction set supplies the
//! vectors and the few loops that must be written by hand. `naive.rs` is only the tests' oracle.

// One safety rule holds for every unsafe function in here and is stated once: the processor has the instruction set
// that the function's name or type says, and slices are as long as the shapes in the docs.
#![allow(clippy::missing_safety_doc)]
// Loops over registers by index read like the tile they compute; constants keep the digits of their source.
#![allow(clippy::needless_range_loop, clippy::excessive_precision, clippy::type_complexity)]

pub mod activations;
pub mod attention;
// Not under a fuzzer: instrumenting all of these loops takes its compiler half an hour, and they are not what is fuzzed.
#[cfg(all(target_arch = "x86_64", not(fuzzing)))]
mod avx2;
#[cfg(all(target_arch = "x86_64", not(fuzzing)))]
mod avx512;
pub mod elementwise;
pub mod lanes;
pub mod largest;
pub mod math;
#[cfg(test)]
pub mod naive;
#[cfg(target_arch = "aarch64")]
mod neon;
pub mod norm;
mod portable;
pub mod product;
pub mod rope;
pub mod stream;
pub mod table;
pub mod unpack;
pub mod vector;

use crate::engine::error::{Result, fail};

/// Which kernels run. Chosen once per backend from what the processor has; `GOMLX_ISA` forces another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Isa {
    /// Plain Rust: any processor.
    Portable,
    /// x86-64 with AVX2, FMA and F16C.
    Avx2,
    /// The same with AVX-VNNI's 8-bit dot products.
    Avx2Vnni,
    /// AVX-512 (F, BW, VL, DQ) with VNNI.
    Avx512Vnni,
    /// The same with BF16 dot products.
    Avx512Bf16,
    /// 64-bit Arm with NEON.
    Neon,
    /// The same with 8-bit dot products.
    NeonDot,
}

impl Isa {
    /// Every choice with the name that `GOMLX_ISA` takes.
    pub const NAMES: [(&'static str, Isa); 7] = [
        ("portable", Isa::Portable),
        ("avx2", Isa::Avx2),
        ("avx2-vnni", Isa::Avx2Vnni),
        ("avx512-vnni", Isa::Avx512Vnni),
        ("avx512-bf16", Isa::Avx512Bf16),
        ("neon", Isa::Neon),
        ("neon-dotprod", Isa::NeonDot),
    ];

    /// The name.
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, isa)| *isa == self).map_or("portable", |(name, _)| name)
    }

    /// Whether this processor (and operating system) runs it.
    pub fn is_available(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 =
                is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c");
            let avx512 = avx2
                && is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vnni");
            match self {
                Isa::Portable => true,
                Isa::Avx2 => avx2,
                Isa::Avx2Vnni => avx2 && is_x86_feature_detected!("avxvnni"),
                Isa::Avx512Vnni => avx512,
                Isa::Avx512Bf16 => avx512 && is_x86_feature_detected!("avx512bf16"),
                Isa::Neon | Isa::NeonDot => false,
            }
        }
        #[cfg(target_arch = "aarch64")]
        {
            match self {
                Isa::Portable | Isa::Neon => true,
                Isa::NeonDot => std::arch::is_aarch64_feature_detected!("dotprod"),
                _ => false,
            }
        }
        #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
        {
            self == Isa::Portable
        }
    }

    /// The best available, or the one `forced` names (the value of `GOMLX_ISA`).
    pub fn choose(forced: Option<&str>) -> Result<Isa> {
        let Some(name) = forced else {
            return Ok(Self::NAMES
                .iter()
                .rev()
                .map(|(_, isa)| *isa)
                .find(|isa| isa.is_available())
                .unwrap_or(Isa::Portable));
        };
        let Some((_, isa)) = Self::NAMES.iter().find(|(known, _)| *known == name) else {
            let known: Vec<_> = Self::NAMES.iter().map(|(name, _)| *name).collect();
            fail!(Argument, "GOMLX_ISA={name} is none of {}", known.join(", "))
        };
        if !isa.is_available() {
            fail!(Unsupported, "GOMLX_ISA={name}: this processor does not have it")
        }
        Ok(*isa)
    }
}
