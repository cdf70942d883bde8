import Foundation
import Gomlx
import XCTest

let root = URL(fileURLWithPath: #filePath)
    .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent().deletingLastPathComponent()
let models = root.appendingPathComponent("models").path
let stories = models + "/llama-tales-16m-4bit"
let domains = models + "/gemma3-domains-6m-4bit"

/// One model for all tests that only read.
func storyTeller() async throws -> Model { try await shared.value }
private let shared = Task { try await Model.load(path: stories) }

/// Options of an answer that nobody waits for to end.
let endless = GenerationOptions(flags: .ignoreEnd)

func story(_ prompt: String, _ options: GenerationOptions) async throws -> String {
    try await storyTeller().generate(prompt, options: options).text()
}

/// The error that `body` throws.
func failure<T>(
    of body: () async throws(GomlxError) -> T, file: StaticString = #filePath, line: UInt = #line
) async -> GomlxError? {
    do throws(GomlxError) {
        _ = try await body()
        XCTFail("no error", file: file, line: line)
        return nil
    } catch {
        return error
    }
}

/// Handles that the library gave out: controls, models, generations.
func live() throws -> [Int] {
    let now = try Runtime.describe()
    return [now.liveControls, now.liveModels, now.liveGenerations]
}

/// Whether no more handles are out than `before`; something of an earlier test may have gone meanwhile.
func noMore(than before: [Int]) throws -> Bool { try zip(live(), before).allSatisfy { $0 <= $1 } }

/// Waits until no more handles are out than `before`: tasks that were cancelled end by themselves.
func settled(_ before: [Int], file: StaticString = #filePath, line: UInt = #line) async throws {
    let end = ContinuousClock.now + .seconds(10)
    while try !noMore(than: before) {
        if ContinuousClock.now > end {
            return XCTFail("handles \(try live()), before \(before)", file: file, line: line)
        }
        try await Task.sleep(for: .milliseconds(2))
    }
}
