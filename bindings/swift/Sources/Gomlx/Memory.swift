import CGomlx

/// What the library holds in this process, in bytes.
public struct Memory: Hashable, Sendable {
    /// In use: weights (mapped ones included), KV cache, activations.
    public let active: UInt64
    /// The largest `active` since the start or the last `resetPeak`.
    public let peak: UInt64
    /// Kept for reuse.
    public let cached: UInt64
    /// The part of `active` that is mapped files, shared with every process that maps the same ones.
    public let mapped: UInt64
    /// What `active` may not pass.
    public let limit: UInt64
    /// What `cached` may not pass.
    public let cacheLimit: UInt64

    /// The limit that is none.
    public static let noLimit = UInt64.max

    /// The figures now.
    public static func describe() throws(GomlxError) -> Memory {
        try checkABI()
        var info = gomlx_memory_info()
        info.struct_size = UInt32(MemoryLayout<gomlx_memory_info>.size)
        try call("memory") { gomlx_memory_describe(&info, $0) }
        return Memory(
            active: info.active, peak: info.peak, cached: info.cached, mapped: info.mapped, limit: info.limit,
            cacheLimit: info.cache_limit)
    }

    /// Limits what the library may hold. What it holds stays; whatever would pass the limit from now on fails with
    /// `.memory`.
    public static func setLimit(_ bytes: UInt64) throws(GomlxError) {
        try checkABI()
        try call("set memory limit") { gomlx_memory_set_limit(bytes, $0) }
    }

    /// Limits what the library keeps for reuse; 0 keeps nothing.
    public static func setCacheLimit(_ bytes: UInt64) throws(GomlxError) {
        try checkABI()
        try call("set cache limit") { gomlx_memory_set_cache_limit(bytes, $0) }
    }

    /// Returns what is kept for reuse to the system: idle models do so at once, busy ones when nothing runs.
    public static func clearCache() { gomlx_memory_clear_cache() }

    /// Starts `peak` again from what is active now.
    public static func resetPeak() { gomlx_memory_reset_peak() }
}
