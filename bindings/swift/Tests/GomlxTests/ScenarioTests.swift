import Foundation
import Gomlx
import XCTest

/// An entry of tests/scenarios/*.json, whose README says what the fields mean.
private struct Scenario: Decodable {
    struct Options: Decodable {
        var precision: String?
        var context_length: Int?
    }
    struct Bias: Decodable {
        let token: Token
        let bias: Float
    }
    struct Told: Decodable {
        var prompt: String?
        var tokens: [Token]?
        var messages: [Message]?
        var messages_json: String?
        var template_variables: String?
        var max_tokens: Int?
        var temperature, top_p, min_p, repetition_penalty: Float?
        var top_k: Int?
        var seed: UInt64?
        var stop: [String]?
        var stop_tokens: [Token]?
        var logit_bias: [Bias]?
        var deadline_ms: Int?
        var flags: [String]?
    }
    struct Expect: Decodable {
        var status, message, text, text_begins, stop_reason: String?
        var prompt_tokens, generated_tokens: Int?
    }
    let name, model: String
    var options: Options?
    let request: Told
    let expect: Expect

    static let statuses: [String: GomlxError.Status] = [
        "argument": .argument, "state": .state, "io": .io, "format": .format, "unsupported": .unsupported,
        "memory": .memory, "context_full": .contextFull, "cancelled": .cancelled, "busy": .busy, "deadline": .deadline,
    ]
    static let reasons: [String: Metrics.StopReason] = [
        "end_token": .endToken, "stop": .stop, "max_tokens": .maxTokens, "context_full": .contextFull,
    ]
    static let flags: [String: GenerationOptions.Flags] = [
        "ignore_end": .ignoreEnd, "special_in_text": .specialInText, "echo": .echo, "continue_final": .continueFinal,
    ]

    var loading: LoadOptions {
        LoadOptions(
            contextLength: options?.context_length, precision: options?.precision == "exact" ? .exact : nil)
    }

    /// nil: a request that can't be written in Swift, where a prompt is of one kind.
    func asked() throws -> Request? {
        let prompts = [
            request.prompt.map(Prompt.text), request.tokens.map(Prompt.tokens), request.messages.map(Prompt.messages),
            request.messages_json.map(Prompt.messagesJSON),
        ].compactMap { $0 }
        if prompts.count > 1 { return nil }
        var flags: GenerationOptions.Flags = []
        for flag in request.flags ?? [] { flags.formUnion(try XCTUnwrap(Self.flags[flag], "no such flag: \(flag)")) }
        let bias = (request.logit_bias ?? []).map { ($0.token, $0.bias) }
        return Request(
            prompts.first ?? .text(""),
            options: GenerationOptions(
                maxTokens: request.max_tokens, temperature: request.temperature, topK: request.top_k,
                topP: request.top_p, minP: request.min_p, repetitionPenalty: request.repetition_penalty,
                seed: request.seed, logitBias: Dictionary(uniqueKeysWithValues: bias), stop: request.stop ?? [],
                stopTokens: request.stop_tokens ?? [], deadline: request.deadline_ms.map { .milliseconds($0) },
                templateVariables: request.template_variables, flags: flags))
    }
}

final class ScenarioTests: XCTestCase {
    /// What every surface of the library must do, told once as data.
    func testScenarios() async throws {
        let folder = root.appendingPathComponent("tests/scenarios")
        let files = try FileManager.default.contentsOfDirectory(at: folder, includingPropertiesForKeys: nil)
            .filter { $0.pathExtension == "json" }
        XCTAssertFalse(files.isEmpty)
        var unwritable: [String] = []
        for file in files {
            let scenarios = try JSONDecoder().decode([Scenario].self, from: Data(contentsOf: file))
            XCTAssertFalse(scenarios.isEmpty, file.lastPathComponent)
            for scenario in scenarios {
                guard let request = try scenario.asked() else {
                    unwritable.append(scenario.name)
                    continue
                }
                try await run(scenario, request)
            }
        }
        XCTAssertEqual(unwritable, ["two prompts"])
    }

    private func run(_ told: Scenario, _ request: Request) async throws {
        let expect = told.expect
        let (name, status) = (told.name, expect.status ?? "ok")
        var answer: Answer?
        do throws(GomlxError) {
            let model = try await Model.load(path: "\(models)/\(told.model)", options: told.loading)
            answer = model.answer(request)
            let text = try await answer?.text() ?? ""
            XCTAssertEqual("ok", status, name)
            if let whole = expect.text { XCTAssertEqual(text, whole, name) }
            if let begin = expect.text_begins { XCTAssert(text.hasPrefix(begin), "\(name): \(text)") }
        } catch {
            guard status != "ok" else { return XCTFail("\(name): \(error)") }
            XCTAssertEqual(error.status, try XCTUnwrap(Scenario.statuses[status], status), name)
            XCTAssert(error.message.contains(expect.message ?? ""), "\(name): \(error)")
        }
        if let reason = expect.stop_reason {
            XCTAssertEqual(answer?.metrics?.stopReason, try XCTUnwrap(Scenario.reasons[reason], reason), name)
        }
        if let count = expect.prompt_tokens { XCTAssertEqual(answer?.metrics?.promptTokens, count, name) }
        if let count = expect.generated_tokens { XCTAssertEqual(answer?.metrics?.generatedTokens, count, name) }
    }
}
