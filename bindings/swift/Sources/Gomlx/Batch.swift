extension Model {
    /// Computes several answers together, each as it would be alone. One that fails leaves the others alone. Leaving
    /// the loop stops all of them; cancelling the task ends the loop.
    public func generateBatch(_ requests: [Request]) -> Batch { Batch(model: self, requests: requests) }
}

/// Several answers, as they come. They are asked for when this is iterated over, each time anew.
public struct Batch: AsyncSequence, Sendable {
    let model: Model
    let requests: [Request]

    /// Something that happened to one request.
    public struct Event: Hashable, Sendable {
        /// Its index.
        public let request: Int
        /// What happened.
        public let kind: Kind

        public enum Kind: Hashable, Sendable {
            /// A piece of its answer.
            case chunk(Chunk)
            /// Its answer is complete.
            case ended(Metrics)
            /// It failed.
            case failed(GomlxError)
        }
    }

    public func makeAsyncIterator() -> AsyncStream<Event>.Iterator {
        let (stream, continuation) = AsyncStream.makeStream(of: Event.self)
        // As many at a time as are computed together, and some more so that no place waits for a task.
        let width = model.sequences + model.sequences / 2 + 1
        let work = Task { [model, requests] in
            await withTaskGroup(of: Void.self) { group in
                for (index, request) in requests.enumerated() {
                    if index >= width { await group.next() }
                    group.addTask { await Batch.run(model.answer(request), index, continuation) }
                }
            }
            continuation.finish()
        }
        continuation.onTermination = { _ in work.cancel() }
        return stream.makeAsyncIterator()
    }

    private static func run(_ answer: Answer, _ index: Int, _ events: AsyncStream<Event>.Continuation) async {
        do throws(GomlxError) {
            for try await chunk in answer { events.yield(Event(request: index, kind: .chunk(chunk))) }
            if let metrics = answer.metrics { events.yield(Event(request: index, kind: .ended(metrics))) }
        } catch {
            events.yield(Event(request: index, kind: .failed(error)))
        }
    }
}
