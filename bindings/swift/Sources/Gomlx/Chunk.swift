import CGomlx

/// A piece of an answer.
public struct Chunk: Hashable, Sendable {
    /// Whole UTF-8; empty where tokens carry no text of their own.
    public let text: String
    /// Those that the text came from.
    public let tokens: [Token]
    /// The tokens' natural log-probabilities under the model; empty unless asked for.
    public let logprobs: [Float]
    /// The best tokens at each token's place, best first; empty unless asked for.
    public let top: [[TokenLogprob]]

    /// A token with its natural log-probability.
    public struct TokenLogprob: Hashable, Sendable {
        public let token: Token
        public let logprob: Float
    }

    /// Copies a chunk, which the library overwrites at the next call.
    init(_ c: gomlx_chunk) {
        text = String(c.text)
        tokens = Array(UnsafeBufferPointer(start: c.tokens, count: c.token_count))
        logprobs = c.logprobs == nil ? [] : Array(UnsafeBufferPointer(start: c.logprobs, count: c.token_count))
        guard let best = c.top_tokens, let logprobs = c.top_logprobs else {
            top = []
            return
        }
        top = (0..<c.token_count).map { row in
            (row * c.top_count..<(row + 1) * c.top_count).map {
                TokenLogprob(token: best[$0], logprob: logprobs[$0])
            }
        }
    }
}
