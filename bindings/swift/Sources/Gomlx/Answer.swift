import Synchronization

extension Model {
    /// Continues a text.
    public func generate(_ prompt: String, options: GenerationOptions = GenerationOptions()) -> Answer {
        answer(Request(.text(prompt), options: options))
    }

    /// Answers a conversation through the model's chat template.
    public func chat(_ messages: [Message], options: GenerationOptions = GenerationOptions()) -> Answer {
        answer(Request(.messages(messages), options: options))
    }

    /// Continues any kind of prompt.
    public func answer(_ request: Request) -> Answer { Answer(self, request) }
}

/// An answer, in chunks: `for try await chunk in model.generate("…")`. It is asked for when it is iterated over, each
/// time anew; leaving the loop or cancelling the task stops it. An error comes last.
public struct Answer: AsyncSequence, Sendable {
    private let model: Model
    private let request: Request
    private let control = Control()
    private let outcome = Outcome()

    init(_ model: Model, _ request: Request) {
        self.model = model
        self.request = request
    }

    /// The figures, once the answer has ended in whatever way.
    public var metrics: Metrics? { outcome.metrics.withLock { $0 } }

    /// How much of the prompt is computed, in tokens.
    public var progress: Progress { control.progress }

    /// Stops the answer, from anywhere: whoever iterates gets `.cancelled`, now or later.
    public func cancel() { control.cancel() }

    /// The whole text.
    public func text() async throws(GomlxError) -> String {
        var text = ""
        for try await chunk in self { text += chunk.text }
        return text
    }

    public func makeAsyncIterator() -> Iterator { Iterator(self) }

    private final class Outcome: Sendable {
        let metrics = Mutex<Metrics?>(nil)
    }

    /// Belongs to one task.
    public struct Iterator: AsyncIteratorProtocol {
        public typealias Element = Chunk
        public typealias Failure = GomlxError

        private let answer: Answer
        private var state = State.new

        private enum State {
            case new
            case running(Generation)
            case ended
        }

        fileprivate init(_ answer: Answer) { self.answer = answer }

        /// The next chunk; nil after the last. What is computed already comes at once, on the caller's thread; else a
        /// thread of the package waits and the task is suspended.
        public mutating func next(
            isolation: isolated (any Actor)?
        ) async throws(GomlxError) -> Chunk? {
            // The handler below is for a cancel that comes while the task is suspended; this is for an earlier one.
            if Task.isCancelled { answer.control.cancel() }
            do {
                switch try await step(isolation) {
                case .chunk(let chunk):
                    return chunk
                case .pending, .done:
                    finish()
                    return nil
                }
            } catch {
                finish()
                throw error
            }
        }

        /// `next(isolation:)` of a caller that belongs to no actor.
        public mutating func next() async throws(GomlxError) -> Chunk? { try await next(isolation: nil) }

        private mutating func step(_ isolation: isolated (any Actor)?) async throws(GomlxError) -> Generation.Step {
            switch state {
            case .ended:
                return .done
            case .running(let generation):
                let step = try generation.next(timeout: 0)
                guard case .pending = step else { return step }
                return try await offPool(answer.control) { () throws(GomlxError) in
                    try generation.next(timeout: -1)
                }
            case .new:
                let answer = answer
                // A prompt may be long: it is encoded off the pool, too.
                let (generation, step) = try await offPool(answer.control) { () throws(GomlxError) in
                    try answer.start()
                }
                state = .running(generation)
                return try step.get()
            }
        }

        /// Whether all of it is computed, though not yet pulled: what pulling costs is measured then.
        package var isComputed: Bool {
            switch state {
            case .new: false
            case .running(let generation): generation.isComputed
            case .ended: true
            }
        }

        private mutating func finish() {
            if case .running(let generation) = state { generation.end() }
            state = .ended
        }
    }

    private func start() throws(GomlxError) -> (Generation, Result<Generation.Step, GomlxError>) {
        let generation = try Generation(model, request, control) { [model, outcome] metrics in
            outcome.metrics.withLock { $0 = metrics }
            model.ended(metrics)
        }
        return (generation, Result { () throws(GomlxError) in try generation.next(timeout: -1) })
    }
}
