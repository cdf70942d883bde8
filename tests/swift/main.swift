// A program of somebody who has the Swift sources and an installed prefix: scripts/swift-tests builds it.
import Gomlx

let model = try await Model.load(path: CommandLine.arguments[1])
for try await chunk in model.generate("Once upon a time", options: GenerationOptions(maxTokens: 11)) {
    print(chunk.text, terminator: "")
}
print()
