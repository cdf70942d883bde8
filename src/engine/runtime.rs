//! What can compute here.

use super::backend::MlxDevice;
use super::backend::cpu::kernels::Isa;
use super::backend::cpu::{processor, team};
use super::error::Result;

/// The process's view of the machine and the build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuntimeInfo {
    /// Backends compiled in, the one that `Auto` picks first.
    pub backends: Vec<&'static str>,
    /// What `Auto` computes on.
    pub device: String,
    /// Kernels that the cpu backend will use, `GOMLX_ISA` considered.
    pub isa: &'static str,
    /// Threads that the cpu backend uses unless told otherwise.
    pub threads: usize,
    /// Bytes of main memory.
    pub memory: u64,
}

/// What this process can compute on. `Argument` or `Unsupported` where `GOMLX_ISA` names what is not there.
pub fn describe() -> Result<RuntimeInfo> {
    let isa = Isa::choose(std::env::var("GOMLX_ISA").ok().as_deref())?;
    let (backends, device) = match mlx() {
        Some(Ok(mlx)) if mlx.gpu => (vec!["mlx", "cpu"], mlx.name),
        Some(Ok(_)) => (vec!["cpu", "mlx"], processor::name()),
        _ => (vec!["cpu"], processor::name()),
    };
    Ok(RuntimeInfo { backends, device, isa: isa.name(), threads: team::default_threads(), memory: main_memory() })
}

/// MLX's device: `None` in a build without the mlx backend, else what MLX computes on or why it cannot.
pub fn mlx() -> Option<Result<MlxDevice>> {
    #[cfg(mlx)]
    return Some(super::backend::mlx::device::place());
    #[cfg(not(mlx))]
    None
}

/// Bytes of main memory.
pub fn main_memory() -> u64 {
    // /proc instead of sysconf: unsafe code stays in three places, and this is none of them.
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = total.and_then(|rest| rest.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
    // Elsewhere (macOS, a container without /proc): a figure that only sizes defaults.
    kib.map_or(8 << 30, |kib| kib * 1024)
}
