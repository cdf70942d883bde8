//! How much memory the library holds, and how much it may.

use super::error::{gomlx_error, gomlx_status};
use super::guard;
use super::options::{Out, versioned};
use crate::engine::memory;

/// What the library holds in this process, in bytes.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct gomlx_memory_info {
    /// `sizeof(gomlx_memory_info)`, set by the caller.
    pub struct_size: u32,
    /// 0.
    pub reserved: u32,
    /// In use: weights (mapped ones included), KV cache, activations; with the mlx backend all that MLX's allocator holds.
    pub active: u64,
    /// The largest `active` since the start or the last `gomlx_memory_reset_peak`.
    pub peak: u64,
    /// Kept for reuse; `gomlx_memory_clear_cache` returns it to the system.
    pub cached: u64,
    /// The part of `active` that is mapped files, shared with every process that maps the same ones.
    pub mapped: u64,
    /// What `active` may not pass; `UINT64_MAX` is no limit.
    pub limit: u64,
    /// What `cached` may not pass; `UINT64_MAX` is no limit.
    pub cache_limit: u64,
    /// The part of `active` that models hold on which nothing runs: weights and KV pages.
    pub idle: u64,
    /// What `idle` may not pass for long; `UINT64_MAX` is no limit.
    pub idle_limit: u64,
}
versioned!(gomlx_memory_info);

/// The figures now.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gomlx_memory_describe(
    out_info: *mut gomlx_memory_info,
    error: *mut gomlx_error,
) -> gomlx_status {
    guard::status(error, || {
        let out = Out::new(out_info)?;
        let memory::Usage { active, peak, cached, mapped, limit, cache_limit, idle, idle_limit } = memory::usage();
        out.write(gomlx_memory_info {
            struct_size: 0, // the caller's stays
            reserved: 0,
            active,
            peak,
            cached,
            mapped,
            limit,
            cache_limit,
            idle,
            idle_limit,
        });
        Ok(())
    })
}

/// Limits what the library may hold; `UINT64_MAX` is no limit. What it holds stays; whatever would pass the limit from
/// now on fails with `GOMLX_ERR_MEMORY`.
#[unsafe(no_mangle)]
pub extern "C" fn gomlx_memory_set_limit(bytes: u64, error: *mut gomlx_error) -> gomlx_status {
    guard::status(error, || {
        memory::set_limit(bytes);
        Ok(())
    })
}

/// Limits what the library keeps for reuse; 0 keeps nothing, `UINT64_MAX` is no limit.
#[unsafe(no_mangle)]
pub extern "C" fn gomlx_memory_set_cache_limit(bytes: u64, error: *mut gomlx_error) -> gomlx_status {
    guard::status(error, || {
        memory::set_cache_limit(bytes);
        Ok(())
    })
}

/// Limits what models hold on which nothing runs; `UINT64_MAX` (at first) is no limit, 0 unloads each as soon as it is
/// idle. Beyond it, those that were not used for longest let go of weights, KV pages and prefix caches. Their handles
/// stay right, and their next use loads them again from the same files, which may then fail as a load does.
#[unsafe(no_mangle)]
pub extern "C" fn gomlx_memory_set_idle_limit(bytes: u64, error: *mut gomlx_error) -> gomlx_status {
    guard::status(error, || {
        memory::set_idle_limit(bytes);
        Ok(())
    })
}

/// Returns what is kept for reuse to the system, prefix caches included: idle models do so at once, busy ones when
/// nothing runs.
#[unsafe(no_mangle)]
pub extern "C" fn gomlx_memory_clear_cache() {
    guard::value((), || {
        memory::clear_cache();
        Ok(())
    });
}

/// Starts `peak` again from what is active now.
#[unsafe(no_mangle)]
pub extern "C" fn gomlx_memory_reset_peak() {
    guard::value((), || {
        memory::reset_peak();
        Ok(())
    });
}
