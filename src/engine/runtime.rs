//! What can compute here.


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
