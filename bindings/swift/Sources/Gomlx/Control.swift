import CGomlx
import Synchronization

/// Stops an operation and shows how far it is, from any thread. Freed with its last reference.
final class Control: @unchecked Sendable {  // Every function that takes it is const: all threads may use it at once.
    private let pointer: OpaquePointer?

    init() { pointer = gomlx_control_new() }

    deinit { gomlx_control_free(pointer) }

    /// What `operation` is given.
    func pointer(_ operation: String) throws(GomlxError) -> OpaquePointer {
        guard let pointer else { throw GomlxError(.memory, operation, "no control could be made") }
        return pointer
    }

    func cancel() { gomlx_control_cancel(pointer) }

    var progress: Progress {
        var done: UInt64 = 0
        var total: UInt64 = 0
        if let pointer { gomlx_control_progress(pointer, &done, &total, nil) }
        return Progress(done: done, total: total)
    }
}

/// How far something is: bytes of a load, tokens of a prompt, texts of a classification. Both are 0 before it begins.
public struct Progress: Hashable, Sendable {
    /// How much is done.
    public let done: UInt64
    /// How much there is to do.
    public let total: UInt64
}

/// Give it to a call that takes long, then ask it from any task how far that is.
public final class ProgressMeter: Sendable {
    private let watched = Mutex<Control?>(nil)

    /// A meter that shows nothing yet.
    public init() {}

    /// How far the call is that it was given to last.
    public var now: Progress { watched.withLock { $0?.progress } ?? Progress(done: 0, total: 0) }

    func watch(_ control: Control) { watched.withLock { $0 = control } }
}
