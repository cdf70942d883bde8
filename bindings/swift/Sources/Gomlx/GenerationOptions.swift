import CGomlx

/// How an answer is chosen and when it ends. What is nil is the library's default.
public struct GenerationOptions: Hashable, Sendable {
    /// Most tokens to generate, at least 1; nil: until the context is full.
    public var maxTokens: Int?
    /// 0 (the default) takes the most probable token every time; 1 samples as the model says; more is bolder.
    public var temperature: Float?
    /// Samples among so many of the most probable tokens; 0 (the default): among all.
    public var topK: Int?
    /// Samples among the most probable tokens that together have this probability; 1 (the default): among all.
    public var topP: Float?
    /// Leaves out tokens less probable than this part of the best one's probability; default 0.
    public var minP: Float?
    /// Samples among the most typical tokens that together have this probability; 1 (the default): among all.
    public var typicalP: Float?
    /// Divides the logits of tokens seen before (multiplies negative ones); 1 (the default) changes nothing.
    public var repetitionPenalty: Float?
    /// Subtracted from the logits of tokens generated before; default 0.
    public var presencePenalty: Float?
    /// Subtracted as many times as the token was generated before; default 0.
    public var frequencyPenalty: Float?
    /// Latest tokens that the penalties look at; 0 (the default): all of them.
    public var penaltyWindow: Int?
    /// Same seed, same text; nil: each request draws its own.
    public var seed: UInt64?
    /// Reports, with each token, its log-probability and those of as many best ones; nil: none.
    public var logprobs: Int?
    /// Numbers added to the logits of single tokens; minus infinity bans one.
    public var logitBias: [Token: Float]
    /// Texts that end the answer; none of them, nor the beginning of one, is ever part of it.
    public var stop: [String]
    /// Tokens that end the answer, beside the model's own.
    public var stopTokens: [Token]
    /// Fails with `.deadline` when the answer takes longer, waiting included; nil: no limit.
    public var deadline: Duration?
    /// Admitted before requests of lower priority; default 0.
    public var priority: Int?
    /// More template variables as one JSON object: `tools`, `enable_thinking`, ….
    public var templateVariables: String?
    /// Switches.
    public var flags: Flags

    /// The options named; the rest is the library's default.
    public init(
        maxTokens: Int? = nil, temperature: Float? = nil, topK: Int? = nil, topP: Float? = nil, minP: Float? = nil,
        typicalP: Float? = nil, repetitionPenalty: Float? = nil, presencePenalty: Float? = nil,
        frequencyPenalty: Float? = nil, penaltyWindow: Int? = nil, seed: UInt64? = nil, logprobs: Int? = nil,
        logitBias: [Token: Float] = [:], stop: [String] = [], stopTokens: [Token] = [], deadline: Duration? = nil,
        priority: Int? = nil, templateVariables: String? = nil, flags: Flags = []
    ) {
        self.maxTokens = maxTokens
        self.temperature = temperature
        self.topK = topK
        self.topP = topP
        self.minP = minP
        self.typicalP = typicalP
        self.repetitionPenalty = repetitionPenalty
        self.presencePenalty = presencePenalty
        self.frequencyPenalty = frequencyPenalty
        self.penaltyWindow = penaltyWindow
        self.seed = seed
        self.logprobs = logprobs
        self.logitBias = logitBias
        self.stop = stop
        self.stopTokens = stopTokens
        self.deadline = deadline
        self.priority = priority
        self.templateVariables = templateVariables
        self.flags = flags
    }

    /// Switches of a request.
    public struct Flags: OptionSet, Hashable, Sendable {
        /// The bits in the C header.
        public let rawValue: UInt32

        public init(rawValue: UInt32) { self.rawValue = rawValue }
        private init(_ flag: gomlx_request_flag) { rawValue = UInt32(flag.rawValue) }

        /// Goes on past the model's own end tokens: for measurements.
        public static let ignoreEnd = Flags(GOMLX_REQUEST_IGNORE_END)
        /// Special tokens show in the text.
        public static let specialInText = Flags(GOMLX_REQUEST_SPECIAL_IN_TEXT)
        /// The prompt's text comes back as the first chunk.
        public static let echo = Flags(GOMLX_REQUEST_ECHO)
        /// The last message is left open and the answer continues it, instead of opening the assistant's turn.
        public static let continueFinal = Flags(GOMLX_REQUEST_CONTINUE_FINAL)
    }

    /// Puts what is set into C's struct, which has the defaults. What it then points to is `arena`'s.
    func fill(_ c: inout gomlx_request, _ arena: Arena) throws(GomlxError) {
        try count("maxTokens", maxTokens, &c.max_tokens)
        try count("topK", topK, &c.top_k)
        try count("penaltyWindow", penaltyWindow, &c.penalty_window)
        try count("logprobs", logprobs, &c.logprobs)
        try count("priority", priority, &c.priority)
        if let temperature { c.temperature = temperature }
        if let topP { c.top_p = topP }
        if let minP { c.min_p = minP }
        if let typicalP { c.typical_p = typicalP }
        if let repetitionPenalty { c.repetition_penalty = repetitionPenalty }
        if let presencePenalty { c.presence_penalty = presencePenalty }
        if let frequencyPenalty { c.frequency_penalty = frequencyPenalty }
        if let deadline { c.deadline_ms = milliseconds(deadline) }
        if let templateVariables { c.template_variables = arena.text(templateVariables) }
        c.logit_bias = arena.array(logitBias.map { gomlx_logit_bias(token: $0.key, bias: $0.value) })
        c.logit_bias_count = logitBias.count
        c.stop = arena.texts(stop)
        c.stop_count = stop.count
        c.stop_tokens = arena.array(stopTokens)
        c.stop_token_count = stopTokens.count
        c.flags = flags.rawValue
        if let seed {
            c.seed = seed
            c.flags |= UInt32(GOMLX_REQUEST_SEED.rawValue)
        }
    }
}
