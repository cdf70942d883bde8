// What the fragments of docs/swift.md stand in.
import Foundation
import Gomlx

@definitions@
do {
    let model = try await Model.load(path: "models/llama-tales-16m-4bit")
    let domains = try await Model.load(path: "models/gemma3-domains-6m-4bit")
@fragments@
} catch {
    FileHandle.standardError.write(Data("\(error)\n".utf8))
    exit(1)
}
