import CGomlx

/// What every failing call of this package throws.
public struct GomlxError: Error, Hashable, Sendable {
    /// The kind of failure.
    public let status: Status
    /// What was asked for: load, generate, tokenize, ….
    public let operation: String
    /// One line: which file, key, tensor or value.
    public let message: String

    /// The kinds of failure: `catch where error.status == .busy`. Later versions of the library may have more of them.
    public struct Status: RawRepresentable, Hashable, Sendable {
        /// The number in the C header.
        public let rawValue: Int32

        public init(rawValue: Int32) { self.rawValue = rawValue }
        init(_ value: gomlx_status_value) { rawValue = Int32(value.rawValue) }

        /// Something that can never be right: an empty prompt, a NaN, a number out of range.
        public static let argument = Status(GOMLX_ERR_ARGUMENT)
        /// Right call, wrong moment: two tasks inside one iterator.
        public static let state = Status(GOMLX_ERR_STATE)
        /// The operating system refused: a file is missing or may not be read.
        public static let io = Status(GOMLX_ERR_IO)
        /// A file was read but does not hold what its format promises.
        public static let format = Status(GOMLX_ERR_FORMAT)
        /// Well-formed, but not something this library can run.
        public static let unsupported = Status(GOMLX_ERR_UNSUPPORTED)
        /// The memory limit, or the machine's memory, does not allow it.
        public static let memory = Status(GOMLX_ERR_MEMORY)
        /// The prompt does not fit the context.
        public static let contextFull = Status(GOMLX_ERR_CONTEXT_FULL)
        /// The task was cancelled.
        public static let cancelled = Status(GOMLX_ERR_CANCELLED)
        /// The device that computes failed.
        public static let backend = Status(GOMLX_ERR_BACKEND)
        /// A defect of the library; the message says where.
        public static let `internal` = Status(GOMLX_ERR_INTERNAL)
        /// Too many requests wait already.
        public static let busy = Status(GOMLX_ERR_BUSY)
        /// The process forked after the model was loaded; load it again in the child.
        public static let forked = Status(GOMLX_ERR_FORKED)
        /// The request's deadline passed.
        public static let deadline = Status(GOMLX_ERR_DEADLINE)

        /// Never leaves this package: the call is made again with a larger buffer.
        static let buffer = Status(GOMLX_ERR_BUFFER)
    }

    init(_ status: Status, _ operation: String, _ message: String) {
        self.status = status
        self.operation = operation
        self.message = message
    }
}

extension GomlxError: CustomStringConvertible {
    /// The message with what was asked for.
    public var description: String { "gomlx: \(operation): \(message)" }
}

/// Makes one call into the library. A failure becomes an error with the record that the call filled, which is this
/// call's own: tasks move between threads, so nothing is read from a thread's latest failure.
@discardableResult
func call(
    _ operation: String, _ body: (UnsafeMutablePointer<gomlx_error>) -> gomlx_status
) throws(GomlxError) -> gomlx_status {
    var record = gomlx_error()
    let status = body(&record)
    if status < 0 {
        let message = withUnsafeBytes(of: &record.message) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
        throw GomlxError(GomlxError.Status(rawValue: status), operation, message)
    }
    return status
}
