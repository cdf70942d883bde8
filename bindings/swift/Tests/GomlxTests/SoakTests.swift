import Foundation
import Gomlx
import XCTest

final class SoakTests: XCTestCase {
    /// Resident memory is flat after the warm-up, whichever way an answer ends. GOMLX_SOAK says how many answers.
    func testResidentMemoryIsFlat() async throws {
        let total = Int(ProcessInfo.processInfo.environment["GOMLX_SOAK"] ?? "") ?? 600
        let warm = min(total / 3, 2000)
        guard try resident() != nil else { throw XCTSkip("skipped: resident memory is read from /proc") }
        let model = try await Model.load(path: domains)
        let before = try live()
        var baseline = 0
        for index in 0..<total {
            if index == warm { baseline = try resident() ?? 0 }
            try await generate(model, index)
            if total >= 10_000, index % 2000 == 1999 { print("\(index + 1) generations: \(try resident() ?? 0) KiB") }
        }
        try await settled(before)
        let grown = try XCTUnwrap(resident()) - baseline
        XCTAssertLessThan(grown, 4096, "KiB in \(total - warm) generations")
    }

    /// One in ten is cancelled by its task, one in ten left; the others end by themselves.
    private func generate(_ model: Model, _ index: Int) async throws {
        let options = GenerationOptions(maxTokens: 8, stop: ["never said"], flags: .ignoreEnd)
        let answer = model.generate("Sentence: item \(index % 500)\nDomain:", options: options)
        let task = Task {
            var count = 0
            for try await _ in answer {
                count += 1
                if count == 2, index % 10 == 0 { withUnsafeCurrentTask { $0?.cancel() } }
                if count == 2, index % 10 == 1 { break }
            }
        }
        do {
            try await task.value
        } catch let error as GomlxError where error.status == .cancelled && index % 10 == 0 {
            return
        }
    }

    /// This process's memory that is not shared with a file, in KiB: leaks are private.
    private func resident() throws -> Int? {
        guard let status = try? String(contentsOfFile: "/proc/self/status", encoding: .utf8) else { return nil }
        let line = status.split(separator: "\n").first { $0.hasPrefix("RssAnon:") }
        return try XCTUnwrap(line.flatMap { Int($0.split(whereSeparator: { $0 == " " || $0 == "\t" })[1]) })
    }
}
