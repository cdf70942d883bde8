import CGomlx
import Synchronization

/// One answer of the library's in progress: pulled by whoever iterates, stopped and freed with its last reference.
final class Generation: @unchecked Sendable {  // `pointer` is used by one thread at a time: under `inside`.
    private let pointer: OpaquePointer
    private let inside = Mutex<Void>(())
    private let onEnd: @Sendable (Metrics) -> Void

    /// What there is of the answer.
    enum Step: Sendable {
        case chunk(Chunk)
        /// Nothing within the time given.
        case pending
        /// The answer is complete.
        case done
    }

    /// Hands `request` to the library, which computes it from now on. `onEnd` gets the figures when the answer is
    /// complete, has failed, or is left.
    init(
        _ model: Model, _ request: Request, _ control: Control, onEnd: @escaping @Sendable (Metrics) -> Void
    ) throws(GomlxError) {
        let arena = Arena()
        defer { withExtendedLifetime(arena) {} }
        var c = try request.c("generate", arena, control)
        var pointer: OpaquePointer?
        try call("generate") { gomlx_generation_start(model.handle.pointer, &c, &pointer, $0) }
        guard let pointer else { throw GomlxError(.internal, "generate", "no generation came back") }
        self.pointer = pointer
        self.onEnd = onEnd
    }

    deinit {
        if let metrics = figures(left: true) { onEnd(metrics) }
        gomlx_generation_free(pointer)
    }

    /// The next piece. Waits at most `timeout` milliseconds; below 0: until there is one.
    func next(timeout: Int32) throws(GomlxError) -> Step {
        let step = try inside.withLockIfAvailable { (_) throws(GomlxError) -> Step in
            var chunk = gomlx_chunk()
            chunk.struct_size = UInt32(MemoryLayout<gomlx_chunk>.size)
            let status = try call("generate") { gomlx_generation_next(pointer, timeout, &chunk, $0) }
            return switch status {
            case Int32(GOMLX_DONE.rawValue): .done
            case Int32(GOMLX_PENDING.rawValue): .pending
            default: .chunk(Chunk(chunk))
            }
        }
        guard let step else { throw GomlxError(.state, "generate", "two tasks are inside one iterator") }
        return step
    }

    /// Hands the figures over: the answer is complete or failed.
    func end() {
        if let metrics = inside.withLockIfAvailable({ _ in figures(left: false) }), let metrics { onEnd(metrics) }
    }

    /// Whether it is complete or failed, though perhaps not yet pulled.
    var isComputed: Bool {
        inside.withLockIfAvailable { _ in figures(left: false).map { $0.stopReason != .none } ?? true } ?? false
    }

    private func figures(left: Bool) -> Metrics? {
        var metrics = gomlx_metrics()
        metrics.struct_size = UInt32(MemoryLayout<gomlx_metrics>.size)
        return gomlx_generation_metrics(pointer, &metrics, nil) < 0 ? nil : Metrics(metrics, left: left)
    }
}
