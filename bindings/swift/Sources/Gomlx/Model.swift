import CGomlx
import Synchronization

/// A loaded model. Any number of tasks, actors and threads may use one at once. Its memory goes with its last reference
/// and the last answer that runs.
public final class Model: Sendable {
    let handle: ModelHandle
    /// Sequences computed together.
    let sequences: Int
    private let last = Mutex<Metrics?>(nil)

    private init(_ handle: ModelHandle, sequences: Int) {
        self.handle = handle
        self.sequences = sequences
    }

    /// Loads the model in folder `path` and returns when it can generate. Errors name the file, key or tensor at fault.
    /// Cancelling the task stops the load.
    public static func load(
        path: String, options: LoadOptions = LoadOptions(), progress: ProgressMeter? = nil
    ) async throws(GomlxError) -> Model {
        try checkABI()
        let control = Control()
        progress?.watch(control)
        return try await offPool(control) { () throws(GomlxError) in
            var c = try options.c("load", control)
            var pointer: OpaquePointer?
            var path = path
            try call("load") { record in
                path.withUTF8 { utf8 in
                    utf8.withMemoryRebound(to: CChar.self) {
                        gomlx_model_load($0.baseAddress, $0.count, &c, &pointer, record)
                    }
                }
            }
            guard let pointer else { throw GomlxError(.internal, "load", "no model came back") }
            return Model(ModelHandle(pointer), sequences: c.max_sequences == 0 ? 32 : Int(c.max_sequences))
        }
    }

    /// What the model is.
    public var info: ModelInfo {
        get throws(GomlxError) {
            var info = ModelInfo.empty
            try call("info") { gomlx_model_describe(handle.pointer, &info, $0) }
            return ModelInfo(info)
        }
    }

    /// The figures of the answer that ended last, whoever asked for it; nil before the first.
    public var metrics: Metrics? { last.withLock { $0 } }

    func ended(_ metrics: Metrics) { last.withLock { $0 = metrics } }
}

/// The library's model, given back with its last reference.
final class ModelHandle: @unchecked Sendable {  // Every function that takes it is const: all threads may use it at once.
    let pointer: OpaquePointer

    init(_ pointer: OpaquePointer) { self.pointer = pointer }

    deinit { gomlx_model_free(pointer) }
}
