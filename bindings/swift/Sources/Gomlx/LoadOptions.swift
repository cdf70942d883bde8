import CGomlx

/// How to load a model. What is nil is the library's choice.
public struct LoadOptions: Hashable, Sendable {
    /// What computes.
    public var backend: Backend?
    /// Tokens that a sequence may have, prompt and answer together; nil: what the model was made for, at most 8,192.
    public var contextLength: Int?
    /// Threads that compute; nil: the physical cores that this process may use.
    public var threads: Int?
    /// Element type of the KV cache; nil: f16, or f32 with `Precision.exact`.
    public var kvType: KVType?
    /// How weights reach memory; nil: mapped.
    public var weights: Weights?
    /// How the cpu backend multiplies; nil: fast.
    public var precision: Precision?
    /// Sequences computed together; nil: 32.
    public var maxSequences: Int?
    /// Requests that may wait before another gets `.busy`; nil: 1,024.
    public var maxQueue: Int?
    /// Most prompt tokens computed in one step; nil: 512. Never changes an answer, only who waits for whom.
    public var prefillChunk: Int?
    /// Bytes that the KV cache may take; nil: at most a quarter of the machine's memory.
    public var kvBudget: UInt64?
    /// Bytes of the KV cache that finished requests leave for later ones with the same beginning; nil: one full
    /// context; 1 keeps nothing.
    public var prefixBudget: UInt64?

    /// The options named; the rest is the library's choice.
    public init(
        backend: Backend? = nil, contextLength: Int? = nil, threads: Int? = nil, kvType: KVType? = nil,
        weights: Weights? = nil, precision: Precision? = nil, maxSequences: Int? = nil, maxQueue: Int? = nil,
        prefillChunk: Int? = nil, kvBudget: UInt64? = nil, prefixBudget: UInt64? = nil
    ) {
        self.backend = backend
        self.contextLength = contextLength
        self.threads = threads
        self.kvType = kvType
        self.weights = weights
        self.precision = precision
        self.maxSequences = maxSequences
        self.maxQueue = maxQueue
        self.prefillChunk = prefillChunk
        self.kvBudget = kvBudget
        self.prefixBudget = prefixBudget
    }

    /// What computes.
    public enum Backend: Sendable {
        /// The fastest that the library has on this machine.
        case auto
        /// The library's own kernels.
        case cpu
        /// MLX on Metal or CUDA; `.unsupported` in builds without it.
        case mlx

        var value: gomlx_backend_value {
            switch self {
            case .auto: GOMLX_BACKEND_AUTO
            case .cpu: GOMLX_BACKEND_CPU
            case .mlx: GOMLX_BACKEND_MLX
            }
        }
    }

    /// Element type of the KV cache.
    public enum KVType: Sendable {
        /// Exact, four bytes an element.
        case f32
        /// Two bytes, eleven bits of precision.
        case f16
        /// Two bytes, eight bits of precision, the range of f32.
        case bf16

        var value: gomlx_kv_type_value {
            switch self {
            case .f32: GOMLX_KV_F32
            case .f16: GOMLX_KV_F16
            case .bf16: GOMLX_KV_BF16
            }
        }
    }

    /// How weights reach memory.
    public enum Weights: Sendable {
        /// Mapped and used in place; processes that load the same files share them. The files must stay unchanged.
        case mapped
        /// Read into memory of the library's own.
        case read

        var value: gomlx_weights_value {
            switch self {
            case .mapped: GOMLX_WEIGHTS_MAPPED
            case .read: GOMLX_WEIGHTS_READ
            }
        }
    }

    /// How the cpu backend multiplies.
    public enum Precision: Sendable {
        /// Activations take 8 bits per group (or bf16) where the weights are narrow.
        case fast
        /// Activations stay f32, for checking against other implementations.
        case exact

        var value: gomlx_precision_value {
            switch self {
            case .fast: GOMLX_PRECISION_FAST
            case .exact: GOMLX_PRECISION_EXACT
            }
        }
    }

    /// The struct that C takes.
    func c(_ operation: String, _ control: Control) throws(GomlxError) -> gomlx_model_options {
        var c = gomlx_model_options()
        try call(operation) { gomlx_model_options_init(&c, MemoryLayout<gomlx_model_options>.size, $0) }
        if let backend { c.backend = Int32(backend.value.rawValue) }
        if let kvType { c.kv_type = Int32(kvType.value.rawValue) }
        if let weights { c.weights = Int32(weights.value.rawValue) }
        if let precision { c.precision = Int32(precision.value.rawValue) }
        try count("contextLength", contextLength, &c.context_length)
        try count("threads", threads, &c.threads)
        try count("maxSequences", maxSequences, &c.max_sequences)
        try count("maxQueue", maxQueue, &c.max_queue)
        try count("prefillChunk", prefillChunk, &c.prefill_chunk)
        if let kvBudget { c.kv_budget = kvBudget }
        if let prefixBudget { c.prefix_budget = prefixBudget }
        c.control = try control.pointer(operation)
        return c
    }
}

/// Puts an option, where it is set, into the field of a C struct.
func count<Field: FixedWidthInteger>(_ name: String, _ value: Int?, _ field: inout Field) throws(GomlxError) {
    guard let value else { return }
    guard let fits = Field(exactly: value) else {
        throw GomlxError(.argument, "options", "\(name): \(value) is out of range")
    }
    field = fits
}

/// A time limit in milliseconds, rounded up: 0 would be none.
func milliseconds(_ limit: Duration) -> UInt64 {
    let (seconds, attoseconds) = limit.components
    guard limit > .zero else { return 1 }
    return UInt64(clamping: seconds).multipliedReportingOverflow(by: 1000).overflow
        ? UInt64.max : UInt64(seconds) * 1000 + UInt64((attoseconds + 999_999_999_999_999) / 1_000_000_000_000_000)
}
