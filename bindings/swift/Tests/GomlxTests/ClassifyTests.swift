import Gomlx
import XCTest

final class ClassifyTests: XCTestCase {
    private let texts = ["what is my balance at the bank", "book a flight to paris", "how long do i cook rice"]
    private let labels = [" banking", " travel", " kitchen and dining", " work"]
    private let pattern: Pattern = "Sentence: {text}\nDomain:"

    func testClassify() async throws {
        let model = try await Model.load(path: domains)
        let meter = ProgressMeter()
        let results = try await model.classify(texts, labels: labels, pattern: pattern, logits: true, progress: meter)
        XCTAssertEqual([meter.now.done, meter.now.total], [3, 3])
        XCTAssertEqual(results.map(\.label), [0, 1, 2])
        for (index, result) in results.enumerated() {
            XCTAssertGreaterThan(result.probability, 0.5)
            XCTAssertEqual(result.probability, result.probabilities[index])
            XCTAssertEqual(result.logprob, result.logprobs[index])
            XCTAssertEqual(result.probabilities.reduce(0, +), 1, accuracy: 1e-5)
            XCTAssertEqual(result.logits.count, try model.info.vocabulary)
            let prompt = Prompt.text("Sentence: \(texts[index])\nDomain:")
            // The best logit is what the model says next.
            var said: [Token] = []
            for try await chunk in model.answer(Request(prompt, options: .init(maxTokens: 1))) { said += chunk.tokens }
            let best = result.logits.indices.max { result.logits[$0] < result.logits[$1] }
            XCTAssertEqual(said.first.map(Int.init), best)
            let scores = try await model.score(labels, after: prompt)
            XCTAssertEqual(scores.map(\.logprob), result.logprobs)
            XCTAssert(scores.allSatisfy { $0.tokens > 0 })
        }
        let quick = try await model.classify(texts, labels: labels, pattern: pattern, bestOnly: true)
        XCTAssertEqual(quick.map(\.label), [0, 1, 2])
        XCTAssert(quick.allSatisfy { $0.logits.isEmpty })
        let none = try? await model.classify([], labels: labels, pattern: pattern)
        XCTAssertEqual(none?.count ?? 0, 0)
    }

    func testBadInput() async throws {
        let model = try await Model.load(path: domains)
        for (labels, pattern) in [(labels, "no slot"), (labels, ""), ([], self.pattern), (["a", ""], self.pattern)] {
            let error = await failure { () throws(GomlxError) in
                try await model.classify(texts, labels: labels, pattern: pattern)
            }
            XCTAssertEqual(error?.status, .argument, "\(labels) \(pattern)")
        }
    }

    func testClassifyStops() async throws {
        let model = try await Model.load(path: domains, options: .init(threads: 1))
        let many = (0..<30_000).map { "how long do i cook rice \($0)" }  // many seconds of work
        let (labels, pattern) = (labels, pattern)
        let late = await failure { () throws(GomlxError) in
            try await model.classify(many, labels: labels, pattern: pattern, deadline: .milliseconds(100))
        }
        XCTAssertEqual(late?.status, .deadline)
        let task = Task {
            await failure { () throws(GomlxError) in try await model.classify(many, labels: labels, pattern: pattern) }
        }
        try await Task.sleep(for: .milliseconds(100))
        let began = ContinuousClock.now
        task.cancel()
        let cancelled = await task.value
        XCTAssertEqual(cancelled?.status, .cancelled)
        XCTAssertLessThan(ContinuousClock.now - began, .seconds(5))
    }

    func testEmbed() async throws {
        let model = try await storyTeller()
        let texts = ["The dog ran in the garden.", "A dog was running in the garden.", "The price of gold fell."]
        for pooling in [Pooling.mean, .last] {
            let vectors = try await model.embed(texts, pooling: pooling)
            for (index, vector) in vectors.enumerated() {
                XCTAssertEqual(dot(vector, vector), 1, accuracy: 1e-4)
                let alone = try await model.embed([texts[index]], pooling: pooling)
                XCTAssertEqual(alone, [vector])
            }
            XCTAssertGreaterThan(dot(vectors[0], vectors[1]), dot(vectors[0], vectors[2]))
        }
    }

    private func dot(_ a: [Float], _ b: [Float]) -> Float { zip(a, b).reduce(0) { $0 + $1.0 * $1.1 } }
}
