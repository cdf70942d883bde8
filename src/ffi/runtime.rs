//! What this process can compute on.

use once_cell::sync::OnceCell;

use super::error::{gomlx_error, gomlx_status};
use super::guard;
use super::handle::Kind;
use super::input::gomlx_string;
use super::options::{Out, versioned};
use super::output::Kept;
use crate::engine::{memory, runtime};

/// The machine as the library sees it, and what the library was built with. Its texts are valid for ever.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct gomlx_runtime_info {
    /// `sizeof(gomlx_runtime_info)`, set by the caller.
    pub struct_size: u32,
    /// Threads that the cpu backend uses unless told otherwise.
    pub threads: u32,
    /// Bytes of main memory.
    pub memory: u64,
    /// Backends in this build, the preferred one first, separated by commas: `cpu`, `mlx,cpu`.
    pub backends: gomlx_string,
    /// What `GOMLX_BACKEND_AUTO` computes on.
    pub device: gomlx_string,
    /// Kernels that the cpu backend uses: the best that the processor has, or what `GOMLX_ISA` asks for.
    pub isa: gomlx_string,
    /// Handles of each type that were given out and not freed yet.
    pub live_controls: u64,
    /// As above.
    pub live_catalogs: u64,
    /// As above.
    pub live_models: u64,
    /// As above.
    pub live_generations: u64,
    /// Requests of any kind that wait or run.
    pub live_requests: u64,
    /// Models that are in memory: loaded, not freed and not unloaded for being idle.
    pub live_workers: u64,
}
versioned!(gomlx_runtime_info);

/// What does not change while the process lives.
struct Fixed {
    threads: u32,
    memory: u64,
    backends: Kept,
    device: Kept,
    isa: Kept,
}

/// Looks at the machine once; a failure (an unknown `GOMLX_ISA`) is looked at again.
fn fixed() -> crate::engine::Result<&'static Fixed> {
    static FIXED: OnceCell<Fixed> = OnceCell::new();
    FIXED.get_or_try_init(|| {
        let info = runtime::describe()?;
        Ok(Fixed {
            threads: u32::try_from(info.threads).unwrap_or(u32::MAX),
            memory: info.memory,
            backends: Kept::new(info.backends.join(",")),
            device: Kept::new(info.device),
            isa: Kept::new(info.isa),
        })
    })
}

/// Describes machine, build and live handles. `GOMLX_ERR_ARGUMENT` or `GOMLX_ERR_UNSUPPORTED` where the environment's
/// `GOMLX_ISA` names kernels that do not exist or do not run here.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gomlx_runtime_describe(
    out_info: *mut gomlx_runtime_info,
    error: *mut gomlx_error,
) -> gomlx_status {
    guard::status(error, || {
        let out = Out::new(out_info)?;
        let fixed = fixed()?;
        let (live_requests, live_workers) = memory::Alive::figures();
        out.write(gomlx_runtime_info {
            struct_size: 0, // the caller's stays
            threads: fixed.threads,
            memory: fixed.memory,
            backends: fixed.backends.view(),
            device: fixed.device.view(),
            isa: fixed.isa.view(),
            live_controls: Kind::Control.live(),
            live_catalogs: Kind::Catalog.live(),
            live_models: Kind::Model.live(),
            live_generations: Kind::Generation.live(),
            live_requests,
            live_workers,
        });
        Ok(())
    })
}
