import CGomlx

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// The machine as the library sees it, and what the library was built with.
public struct Runtime: Hashable, Sendable {
    /// Threads that the cpu backend uses unless told otherwise.
    public let threads: Int
    /// Bytes of main memory.
    public let memory: UInt64
    /// Backends in this build, the preferred one first: `cpu`, `mlx`.
    public let backends: [String]
    /// What `Backend.auto` computes on.
    public let device: String
    /// Kernels that the cpu backend uses.
    public let isa: String
    /// Handles of each type that the library gave out and that were not freed yet.
    public let liveControls, liveCatalogs, liveModels, liveGenerations: Int

    /// The loaded library's version, such as `0.1.0`.
    public static var version: String { String(cString: gomlx_version()) }

    /// How things are now.
    public static func describe() throws(GomlxError) -> Runtime {
        try checkABI()
        var info = gomlx_runtime_info()
        info.struct_size = UInt32(MemoryLayout<gomlx_runtime_info>.size)
        try call("runtime") { gomlx_runtime_describe(&info, $0) }
        return Runtime(
            threads: Int(info.threads), memory: info.memory,
            backends: String(info.backends).split(separator: ",").map(String.init),
            device: String(info.device), isa: String(info.isa),
            liveControls: Int(info.live_controls), liveCatalogs: Int(info.live_catalogs),
            liveModels: Int(info.live_models), liveGenerations: Int(info.live_generations))
    }
}

/// Refuses a library whose structs and functions may differ from those that this package was built for.
func checkABI() throws(GomlxError) {
    if let abiMismatch { throw abiMismatch }
}

private let abiMismatch: GomlxError? = {
    let built = UInt32(GOMLX_ABI_VERSION.rawValue)
    let found = gomlx_abi_version()
    if found == built { return nil }
    return GomlxError(
        .unsupported, "link", "libgomlx in \(libraryFile()) has ABI \(found), this program was built for \(built)")
}()

/// The file that the library's code was loaded from, as dladdr says, which glibc's module hides from Swift.
private func libraryFile() -> String {
    typealias Address = @convention(c) (UnsafeRawPointer, UnsafeMutableRawPointer) -> Int32
    guard let program = dlopen(nil, RTLD_NOW), let symbol = dlsym(program, "dladdr") else { return "this program" }
    let dladdr = unsafeBitCast(symbol, to: Address.self)
    let function: @convention(c) () -> UInt32 = gomlx_abi_version
    // Dl_info: the file's name, its base, the symbol's name, its address.
    var info: (UnsafePointer<CChar>?, UInt, UInt, UInt) = (nil, 0, 0, 0)
    let known = dladdr(unsafeBitCast(function, to: UnsafeRawPointer.self), &info) != 0
    return known ? info.0.map { String(cString: $0) } ?? "this program" : "this program"
}
