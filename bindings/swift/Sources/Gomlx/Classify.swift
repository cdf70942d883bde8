import CGomlx

/// What stands around each text that is classified: `{text}` stands in it once.
public enum Pattern: Hashable, Sendable, ExpressibleByStringLiteral {
    /// Plain text: `"Sentence: {text}\nDomain:"`.
    case text(String)
    /// A conversation, rendered by the model's chat template.
    case messages([Message])

    public init(stringLiteral text: String) { self = .text(text) }
}

/// One text's result.
public struct Classification: Hashable, Sendable {
    /// The most probable label's index; the first of equals.
    public let label: Int
    /// Natural log-probability of that label's tokens after the prompt.
    public let logprob: Float
    /// Its probability among the labels.
    public let probability: Float
    /// Tokens of its prompt.
    public let promptTokens: Int
    /// The log-probabilities of all labels.
    public let logprobs: [Float]
    /// The probabilities of all labels; their sum is one.
    public let probabilities: [Float]
    /// The logits of the token after the prompt, the model's vocabulary; empty unless asked for.
    public let logits: [Float]
}

/// How probable a continuation is.
public struct Score: Hashable, Sendable {
    /// Natural log-probability of all its tokens together.
    public let logprob: Float
    /// How many tokens that are.
    public let tokens: Int
}

/// How a text's hidden states become one vector.
public enum Pooling: Sendable {
    /// The mean over all tokens.
    case mean
    /// The last token's.
    case last

    var value: gomlx_pooling_value {
        switch self {
        case .mean: GOMLX_POOLING_MEAN
        case .last: GOMLX_POOLING_LAST
        }
    }
}

extension Model {
    /// Which of `labels` fits each of `texts`, in prefill only, each as it would be alone. Labels follow the prompt as
    /// they are: mind a leading space. `bestOnly`: only the winner must be known exactly, which is quicker where labels
    /// have several tokens; the others' figures may be upper bounds.
    public func classify(
        _ texts: [String], labels: [String], pattern: Pattern, bestOnly: Bool = false, logits: Bool = false,
        deadline: Duration? = nil, progress: ProgressMeter? = nil
    ) async throws(GomlxError) -> [Classification] {
        let vocabulary = logits ? try info.vocabulary : 0
        let control = Control()
        progress?.watch(control)
        return try await offPool(control) { [self] () throws(GomlxError) in
            let arena = Arena()
            defer { withExtendedLifetime(arena) {} }
            var c = gomlx_classify_request()
            try call("classify") {
                gomlx_classify_request_init(&c, MemoryLayout<gomlx_classify_request>.size, $0)
            }
            switch pattern {
            case .text(let text): c.pattern = arena.text(text)
            case .messages(let messages):
                c.messages = arena.messages(messages)
                c.message_count = messages.count
            }
            (c.texts, c.text_count) = (arena.texts(texts), texts.count)
            (c.labels, c.label_count) = (arena.texts(labels), labels.count)
            if bestOnly { c.flags = UInt32(GOMLX_CLASSIFY_BEST_ONLY.rawValue) }
            if let deadline { c.deadline_ms = milliseconds(deadline) }
            c.control = try control.pointer("classify")

            var results = [gomlx_classification](repeating: gomlx_classification(), count: texts.count)
            var logprobs = [Float](repeating: 0, count: texts.count * labels.count)
            var probabilities = logprobs
            var table = [Float](repeating: 0, count: texts.count * vocabulary)
            try call("classify") { record in
                table.withUnsafeMutableBufferPointer {
                    gomlx_classify(
                        handle.pointer, &c, &results, texts.count, &logprobs, &probabilities,
                        logits ? $0.baseAddress : nil, record)
                }
            }
            return results.enumerated().map { index, result in
                Classification(
                    label: Int(result.label), logprob: result.logprob, probability: result.probability,
                    promptTokens: Int(result.prompt_tokens), logprobs: logprobs.row(index, labels.count),
                    probabilities: probabilities.row(index, labels.count), logits: table.row(index, vocabulary))
            }
        }
    }

    /// How probable each continuation is after the prompt. Each is tokenized by itself.
    public func score(_ continuations: [String], after prompt: Prompt) async throws(GomlxError) -> [Score] {
        let control = Control()
        return try await offPool(control) { [self] () throws(GomlxError) in
            let arena = Arena()
            defer { withExtendedLifetime(arena) {} }
            var c = try Request(prompt).c("score", arena, control)
            var logprobs = [Float](repeating: 0, count: continuations.count)
            var tokens = [UInt32](repeating: 0, count: continuations.count)
            try call("score") {
                gomlx_score(
                    handle.pointer, &c, arena.texts(continuations), continuations.count, &logprobs, &tokens, $0)
            }
            return zip(logprobs, tokens).map { Score(logprob: $0, tokens: Int($1)) }
        }
    }

    /// One vector of length one for each of `texts`, as wide as `ModelInfo.hidden`: the hidden states after the last
    /// norm, pooled.
    public func embed(
        _ texts: [String], pooling: Pooling = .mean, progress: ProgressMeter? = nil
    ) async throws(GomlxError) -> [[Float]] {
        let hidden = try info.hidden
        let control = Control()
        progress?.watch(control)
        return try await offPool(control) { [self] () throws(GomlxError) in
            let arena = Arena()
            defer { withExtendedLifetime(arena) {} }
            let pointer = try control.pointer("embed")
            var vectors = [Float](repeating: 0, count: texts.count * hidden)
            let capacity = vectors.count
            try call("embed") {
                gomlx_embed(
                    handle.pointer, arena.texts(texts), texts.count, Int32(pooling.value.rawValue), pointer, &vectors,
                    capacity, $0)
            }
            return texts.indices.map { vectors.row($0, hidden) }
        }
    }
}

extension [Float] {
    /// Row `index` of a table.
    fileprivate func row(_ index: Int, _ width: Int) -> [Float] { Array(self[index * width..<(index + 1) * width]) }
}
