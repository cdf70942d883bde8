//! How a model is loaded.

use super::backend::KvType;
use super::control::Control;
pub use super::weights::WeightsMode;

/// What computes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BackendChoice {
    /// The fastest that this build has on this machine.
    #[default]
    Auto,
    /// The library's own kernels.
    Cpu,
    /// MLX: Metal, CUDA or its CPU device, in builds with the `mlx` feature.
    Mlx,
}

/// How the CPU multiplies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// Activations quantised to 8 bits per group (or bf16) where the weights are narrow.
    #[default]
    Fast,
    /// Activations stay f32: for checking against other implementations.
    Exact,
}

/// Options of [`Model::load`](super::Model::load).
#[derive(Clone, Debug, Default)]
pub struct ModelOptions {
    /// What computes.
    pub backend: BackendChoice,
    /// Positions a sequence may take, prompt and answer together; `None`: what the model was made for, at most 8,192.
    pub context_length: Option<usize>,
    /// Threads that compute; `None`: the physical cores this process may use.
    pub threads: Option<usize>,
    /// Element type of the KV cache; `None`: f16 (bf16 on a GPU unless the checkpoint is f16), or f32 with
    /// exact arithmetic.
    pub kv_type: Option<KvType>,
    /// Mapped or read in.
    pub weights: WeightsMode,
    /// Fast or exact arithmetic.
    pub precision: Precision,
    /// Sequences computed together; `None`: 32.
    pub max_sequences: Option<usize>,
    /// Requests that may wait for a place before another is refused with `Busy`; `None`: 1,024.
    pub max_queue: Option<usize>,
    /// Bytes the KV cache may take; `None`: enough for `max_sequences` contexts, at most a quarter of the machine's
    /// memory, at least one context.
    pub kv_budget: Option<u64>,
    /// Bytes of the KV cache that finished requests leave for later ones with the same beginning; `None`: one full
    /// context; 0: none.
    pub prefix_budget: Option<u64>,
    /// Most prompt tokens computed in one step; `None`: 512, on a GPU 8,192. Never changes an answer, only who waits for whom.
    pub prefill_chunk: Option<usize>,
    /// Progress of loading (bytes), and a way to stop it.
    pub control: Option<Control>,
}
