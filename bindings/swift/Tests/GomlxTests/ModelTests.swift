import Foundation
import Gomlx
import XCTest

final class ModelTests: XCTestCase {
    func testInfoIsTheConfigs() async throws {
        struct Config: Decodable {
            let model_type: String
            let num_hidden_layers, hidden_size, vocab_size, max_position_embeddings: Int
        }
        let file = URL(fileURLWithPath: stories + "/config.json")
        let config = try JSONDecoder().decode(Config.self, from: Data(contentsOf: file))
        let model = try await Model.load(path: stories, options: .init(contextLength: 512, threads: 1))
        let info = try model.info
        XCTAssertEqual(info.family, config.model_type)
        XCTAssertEqual(
            [info.layers, info.hidden, info.vocabulary, info.context],
            [config.num_hidden_layers, config.hidden_size, config.vocab_size, config.max_position_embeddings])
        XCTAssertEqual([info.contextLength, info.threads], [512, 1])
        XCTAssertEqual([info.quantisationBits, info.quantisationGroup], [4, 64])
        XCTAssertEqual([info.quantisationMode, info.name, info.path], ["affine", "llama-tales-16m-4bit", stories])
        XCTAssert(info.hasChatTemplate && info.error == nil && info.parameters > 15_000_000 && info.bytesOnDisk > 0)
        XCTAssert([info.backend, info.device, info.dtype, info.architecture].allSatisfy { !$0.isEmpty })
    }

    func testEveryLoadOption() async throws {
        let meter = ProgressMeter()
        XCTAssertEqual(meter.now, ProgressMeter().now)
        let model = try await Model.load(
            path: stories,
            options: .init(
                backend: .cpu, contextLength: 64, threads: 1, kvType: .f32, weights: .read, precision: .exact,
                maxSequences: 2, maxQueue: 3, prefillChunk: 16, kvBudget: 1 << 26, prefixBudget: 1),
            progress: meter)
        XCTAssertEqual(meter.now.done, meter.now.total)
        XCTAssertGreaterThan(meter.now.total, 0)
        let text = try await model.generate("Once upon a time", options: .init(maxTokens: 5)).text()
        XCTAssertEqual(text, ", there was a little")
        let mlx = await failure { () throws(GomlxError) in
            try await Model.load(path: stories, options: .init(backend: .mlx))
        }
        if try !Runtime.describe().backends.contains("mlx") { XCTAssertEqual(mlx?.status, .unsupported) }
    }

    func testTokenizeRoundTrip() async throws {
        let model = try await storyTeller()
        let long = String(repeating: "the cat ", count: 3000)
        for text in ["", "a", "Once upon a time", "Grüße, 世界 🌍", long, "a\0b"] {
            let tokens = try model.tokenize(text, addSpecial: false)
            XCTAssertEqual(try model.detokenize(tokens, skipSpecial: false), text)
            let special = try model.tokenize(text)
            XCTAssertGreaterThan(special.count, tokens.count)
            XCTAssertEqual(try model.detokenize(special), text)
        }
        XCTAssertThrowsError(try model.detokenize([1 << 30])) {
            XCTAssertEqual(($0 as? GomlxError)?.status, .argument)
        }
    }

    func testRenderChat() async throws {
        let model = try await storyTeller()
        // The long one is more than the first buffer holds.
        for content in ["Hello", String(repeating: "long ", count: 1000) + "end"] {
            let text = try model.renderChat([.user(content)])
            let json = try String(decoding: JSONEncoder().encode([Message.user(content)]), as: UTF8.self)
            XCTAssertEqual(text, try model.render(Request(.messagesJSON(json))))
            XCTAssert(text.contains(content))
        }
        let open = try model.renderChat(
            [.system("Be brief."), .user("Hello"), .assistant("Well")], options: .init(flags: .continueFinal))
        XCTAssert(open.hasSuffix("Well"), open)
        XCTAssert(open.contains("Be brief."), open)
    }

    func testDiscover() async throws {
        let found = try await Model.discover(in: models)
        for path in [stories, domains] {
            let info = try XCTUnwrap(found.first { $0.path == path })
            XCTAssert(info.error == nil && info.layers > 0 && info.contextLength == 0)
            _ = try await Model.load(path: info.path)
        }
        let broken = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
        try FileManager.default.createDirectory(at: broken, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: broken) }
        try Data("{".utf8).write(to: broken.appendingPathComponent("config.json"))
        try Data().write(to: broken.appendingPathComponent("model.safetensors"))
        let refused = try await Model.discover(in: broken.path)
        XCTAssertEqual(refused.map(\.error?.status), [.format])
        let nowhere = await failure { () throws(GomlxError) in try await Model.discover(in: models + "/nowhere") }
        XCTAssertEqual(nowhere?.status, .io)
    }

    func testRuntimeAndMemory() async throws {
        let runtime = try Runtime.describe()
        XCTAssert(runtime.threads > 0 && runtime.memory > 0 && !runtime.device.isEmpty && !runtime.isa.isEmpty)
        XCTAssert(runtime.backends.contains("cpu"))
        XCTAssertFalse(Runtime.version.isEmpty)

        _ = try await storyTeller()
        let memory = try Memory.describe()
        XCTAssert(memory.active > 0 && memory.peak >= memory.active && memory.mapped <= memory.active)
        try Memory.setLimit(memory.active)
        XCTAssertEqual(try Memory.describe().limit, memory.active)
        let over = await failure { () throws(GomlxError) in try await Model.load(path: domains) }
        try Memory.setLimit(Memory.noLimit)
        XCTAssertEqual(over?.status, .memory)
        try Memory.setCacheLimit(0)
        XCTAssertEqual(try Memory.describe().cacheLimit, 0)
        try Memory.setCacheLimit(memory.cacheLimit)
        Memory.clearCache()
        Memory.resetPeak()
        XCTAssertEqual(try Memory.describe().limit, Memory.noLimit)
    }
}
