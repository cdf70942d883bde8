import CGomlx

/// What a model is.
public struct ModelInfo: Hashable, Sendable {
    /// The folder's name, or the repository's in a Hugging Face cache.
    public let name: String
    /// The folder.
    public let path: String
    /// `architectures[0]` of its config.
    public let architecture: String
    /// Its `model_type`.
    public let family: String
    /// Decoder layers.
    public let layers: Int
    /// Width of the residual stream.
    public let hidden: Int
    /// Rows of the embedding table.
    public let vocabulary: Int
    /// Positions it was made for.
    public let context: Int
    /// Positions a sequence may take in this loaded model; 0 where it is not loaded.
    public let contextLength: Int
    /// Weights, quantised ones counted as what they stand for.
    public let parameters: UInt64
    /// Size of the weight files.
    public let bytesOnDisk: UInt64
    /// Bits of most quantised weights; 0 where none are quantised.
    public let quantisationBits: Int
    /// Weights that share a scale; 0 where none are quantised.
    public let quantisationGroup: Int
    /// `affine`, or empty where nothing is quantised.
    public let quantisationMode: String
    /// Element type of the weights that are not quantised: `bf16`, `f16`, `f32`.
    public let dtype: String
    /// Whether `Model.chat` works.
    public let hasChatTemplate: Bool
    /// `cpu` or `mlx`; empty where it is not loaded.
    public let backend: String
    /// The device that computes it; empty where it is not loaded.
    public let device: String
    /// Threads that compute it; 0 where it is not loaded.
    public let threads: Int
    /// Why a discovered model can't be loaded; nil where it can.
    public let error: GomlxError?

    /// The struct for C to fill.
    static var empty: gomlx_model_info {
        var info = gomlx_model_info()
        info.struct_size = UInt32(MemoryLayout<gomlx_model_info>.size)
        return info
    }

    init(_ c: gomlx_model_info) {
        name = String(c.name)
        path = String(c.path)
        architecture = String(c.architecture)
        family = String(c.family)
        layers = Int(c.layers)
        hidden = Int(c.hidden)
        vocabulary = Int(c.vocabulary)
        context = Int(c.context)
        contextLength = Int(c.context_length)
        parameters = c.parameters
        bytesOnDisk = c.bytes_on_disk
        quantisationBits = Int(c.quantisation_bits)
        quantisationGroup = Int(c.quantisation_group)
        quantisationMode = String(c.quantisation_mode)
        dtype = String(c.dtype)
        hasChatTemplate = c.has_chat_template != 0
        backend = String(c.backend)
        device = String(c.device)
        threads = Int(c.threads)
        error = c.status < 0 ? GomlxError(.init(rawValue: c.status), "discover", String(c.reason)) : nil
    }
}

extension Model {
    /// Looks through `folder` and the folders below it, also a Hugging Face cache, for models, in the order of their
    /// paths. Those that `load` would refuse have an `error` that says why. Reads configs and headers, never weights.
    public static func discover(in folder: String) async throws(GomlxError) -> [ModelInfo] {
        try checkABI()
        // The walk itself can't be stopped; it takes no control.
        return try await offPool(Control()) { () throws(GomlxError) in
            var catalog: OpaquePointer?
            var folder = folder
            try call("discover") { record in
                folder.withUTF8 { utf8 in
                    utf8.withMemoryRebound(to: CChar.self) {
                        gomlx_discover($0.baseAddress, $0.count, &catalog, record)
                    }
                }
            }
            defer { gomlx_catalog_free(catalog) }
            var found: [ModelInfo] = []
            for index in 0..<gomlx_catalog_count(catalog) {
                var info = ModelInfo.empty
                try call("discover") { gomlx_catalog_get(catalog, index, &info, $0) }
                found.append(ModelInfo(info))
            }
            return found
        }
    }
}
