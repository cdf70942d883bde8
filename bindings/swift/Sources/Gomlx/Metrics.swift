import CGomlx

/// One answer's figures. Durations are wall-clock; zero until known.
public struct Metrics: Hashable, Sendable {
    /// Why it ended.
    public let stopReason: StopReason
    /// Tokens of the prompt.
    public let promptTokens: Int
    /// Those of them taken from the prefix cache instead of being computed.
    public let cachedTokens: Int
    /// Tokens generated.
    public let generatedTokens: Int
    /// From the request until it was first scheduled.
    public let queue: Duration
    /// From then until the prompt's last token was computed.
    public let prefill: Duration
    /// From then until the last token.
    public let decode: Duration
    /// From the request until the first token was known.
    public let firstToken: Duration
    /// Prompt tokens computed a second of prefill.
    public let prefillTokensPerSecond: Double
    /// Tokens after the first a second of decode.
    public let decodeTokensPerSecond: Double
    /// Most bytes the library held while this answer ran, other models included.
    public let peakMemory: UInt64
    /// Bytes the library held when the figures were taken.
    public let activeMemory: UInt64

    /// Why an answer ended. Later versions of the library may have more reasons.
    public struct StopReason: RawRepresentable, Hashable, Sendable {
        /// The number in the C header.
        public let rawValue: Int32

        public init(rawValue: Int32) { self.rawValue = rawValue }
        private init(_ value: gomlx_stop_reason_value) { rawValue = Int32(value.rawValue) }

        /// It has not ended.
        public static let none = StopReason(GOMLX_STOP_NONE)
        /// The model's own end token.
        public static let endToken = StopReason(GOMLX_STOP_END_TOKEN)
        /// A stop text or stop token of the request.
        public static let stop = StopReason(GOMLX_STOP_STOP)
        /// As many tokens as were asked for.
        public static let maxTokens = StopReason(GOMLX_STOP_MAX_TOKENS)
        /// The context is full.
        public static let contextFull = StopReason(GOMLX_STOP_CONTEXT_FULL)
        /// The task was cancelled or the loop left.
        public static let cancelled = StopReason(GOMLX_STOP_CANCELLED)
        /// The deadline passed.
        public static let deadline = StopReason(GOMLX_STOP_DEADLINE)
        /// It failed.
        public static let error = StopReason(GOMLX_STOP_ERROR)
    }

    /// `left`: nobody will ask for more, so what has not ended is cancelled.
    init(_ c: gomlx_metrics, left: Bool) {
        let reason = StopReason(rawValue: c.stop_reason)
        stopReason = left && reason == .none ? .cancelled : reason
        promptTokens = Int(c.prompt_tokens)
        cachedTokens = Int(c.cached_tokens)
        generatedTokens = Int(c.generated_tokens)
        queue = .seconds(c.queue_seconds)
        prefill = .seconds(c.prefill_seconds)
        decode = .seconds(c.decode_seconds)
        firstToken = .seconds(c.first_token_seconds)
        prefillTokensPerSecond = c.prefill_tokens_per_second
        decodeTokensPerSecond = c.decode_tokens_per_second
        peakMemory = c.peak_memory
        activeMemory = c.active_memory
    }
}

extension Metrics.StopReason: CustomStringConvertible {
    /// The reason in words.
    public var description: String {
        switch self {
        case .none: "not ended"
        case .endToken: "end token"
        case .stop: "stop"
        case .maxTokens: "max tokens"
        case .contextFull: "context full"
        case .cancelled: "cancelled"
        case .deadline: "deadline"
        case .error: "error"
        default: "reason \(rawValue)"
        }
    }
}
