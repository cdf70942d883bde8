import Foundation
import Gomlx
import XCTest

/// An app's actor: a model is a plain property of it.
private actor Storyteller {
    private let model: Model
    private var told = 0

    init(_ model: Model) { self.model = model }

    func tell(_ prompt: String) async throws(GomlxError) -> (String, Int) {
        var text = ""
        for try await chunk in model.generate(prompt, options: .init(maxTokens: 10)) {
            text += chunk.text
            told += chunk.tokens.count
        }
        return (text, told)
    }
}

final class ConcurrencyTests: XCTestCase {
    func testSixteenTasksShareAModel() async throws {
        let prompts = ["Once upon a time", "The dog", "A long time ago, in a far land", "Hi"]
        let requests = (0..<16).map { index in
            Request(
                .text(prompts[index % prompts.count]),
                options: .init(maxTokens: 30, temperature: 0.8, seed: UInt64(index)))
        }
        let model = try await storyTeller()
        var alone: [String] = []
        for request in requests { alone.append(try await model.answer(request).text()) }
        let together = try await withThrowingTaskGroup(of: (Int, String).self) { group in
            for (index, request) in requests.enumerated() {
                group.addTask { (index, try await model.answer(request).text()) }
            }
            return try await group.reduce(into: [Int: String]()) { $0[$1.0] = $1.1 }
        }
        for (index, text) in alone.enumerated() { XCTAssertEqual(together[index], text) }
    }

    func testActors() async throws {
        let model = try await storyTeller()
        let teller = Storyteller(model)
        let (text, told) = try await teller.tell("The cat")
        let alone = try await model.generate("The cat", options: .init(maxTokens: 10)).text()
        XCTAssertEqual(text, alone)
        XCTAssertEqual(told, 10)
        let again = try await teller.tell("The cat")
        XCTAssertEqual(again.1, 20)
    }

    func testTheLoopStaysOnItsActor() async throws {
        let model = try await storyTeller()
        try await Task { @MainActor in
            for try await _ in model.generate("The cat", options: .init(maxTokens: 5)) {
                MainActor.assertIsolated()
            }
        }.value
    }

    func testCancellingTheTask() async throws {
        let model = try await storyTeller()
        let before = try live()
        let (started, signal) = AsyncStream.makeStream(of: Void.self)
        let task = Task {
            let answer = model.generate("Once", options: endless)
            let error = await failure { () throws(GomlxError) in
                for try await _ in answer { signal.yield() }
            }
            return (error, answer.metrics)
        }
        var chunks = started.makeAsyncIterator()
        _ = await chunks.next()
        _ = await chunks.next()
        let began = ContinuousClock.now
        task.cancel()
        let (error, metrics) = await task.value
        XCTAssertEqual(error?.status, .cancelled)
        XCTAssertEqual(metrics?.stopReason, .cancelled)
        XCTAssertLessThan(ContinuousClock.now - began, .seconds(5))
        try await settled(before)
    }

    func testCancelledBeforeTheStart() async throws {
        let model = try await storyTeller()
        let statuses = await Task {
            withUnsafeCurrentTask { $0?.cancel() }
            let generated = await failure { () throws(GomlxError) in try await model.generate("Once").text() }
            let loaded = await failure { () throws(GomlxError) in try await Model.load(path: stories) }
            let scored = await failure { () throws(GomlxError) in try await model.score([" a"], after: "Once") }
            let embedded = await failure { () throws(GomlxError) in try await model.embed(["a"]) }
            return [generated, loaded, scored, embedded].map { $0?.status }
        }.value
        XCTAssertEqual(statuses, [.cancelled, .cancelled, .cancelled, .cancelled])
    }

    func testCancellingTheAnswer() async throws {
        let answer = try await storyTeller().generate("Once", options: endless)
        let error = await failure { () throws(GomlxError) in
            var count = 0
            for try await _ in answer {
                count += 1
                if count == 2 { answer.cancel() }
            }
        }
        XCTAssertEqual(error?.status, .cancelled)
    }

    func testDeadline() async throws {
        let model = try await storyTeller()
        for limit in [Duration.milliseconds(20), .nanoseconds(1), .zero, .seconds(-1)] {
            let answer = model.generate("Once", options: .init(deadline: limit, flags: .ignoreEnd))
            let error = await failure { () throws(GomlxError) in try await answer.text() }
            XCTAssertEqual(error?.status, .deadline)
        }
        let enough = try await model.generate("Once", options: .init(maxTokens: 3, deadline: .seconds(1 << 60))).text()
        XCTAssertFalse(enough.isEmpty)
    }

    func testBusy() async throws {
        let model = try await Model.load(path: stories, options: .init(threads: 1, maxSequences: 1, maxQueue: 1))
        let (computed, waiting) = (model.generate("Once", options: endless), model.generate("Once", options: endless))
        var chunks = computed.makeAsyncIterator()
        _ = try await chunks.next()
        let queued = try Runtime.describe().liveGenerations + 1
        let task = Task { await failure { () throws(GomlxError) in try await waiting.text() }?.status }
        while try Runtime.describe().liveGenerations < queued { try await Task.sleep(for: .milliseconds(1)) }
        for _ in 0..<6 {
            let refused = await failure { () throws(GomlxError) in
                try await model.generate("Once", options: endless).text()
            }
            XCTAssertEqual(refused?.status, .busy)
        }
        waiting.cancel()
        let status = await task.value
        XCTAssertEqual(status, .cancelled)
    }

    /// Swift has as many cooperative threads as processors: many more answers that wait must leave them to others.
    func testWaitingHoldsNoCooperativeThread() async throws {
        let model = try await Model.load(path: stories, options: .init(maxSequences: 1))
        let running = model.generate("Once", options: endless)
        let waiting = (0..<ProcessInfo.processInfo.activeProcessorCount * 4 + 8).map { _ in
            model.generate("Once", options: endless)
        }
        let answers = [running] + waiting
        // Were the threads held, nothing of this test would ever run again: a thread of another kind ends it then.
        let over = DispatchSemaphore(value: 0)
        Thread.detachNewThread {
            if over.wait(timeout: .now() + 20) == .timedOut { answers.forEach { $0.cancel() } }
        }
        let began = ContinuousClock.now
        try await withThrowingTaskGroup(of: Void.self) { group in
            for answer in answers {
                group.addTask { _ = await failure { () throws(GomlxError) in try await answer.text() } }
            }
            while try Runtime.describe().liveGenerations <= waiting.count, ContinuousClock.now - began < .seconds(30) {
                try await Task.sleep(for: .milliseconds(1))
            }
            for _ in 0..<100 { await Task.detached {}.value }
            XCTAssertLessThan(ContinuousClock.now - began, .seconds(15))
            answers.forEach { $0.cancel() }
            try await group.waitForAll()
        }
        over.signal()
    }

    func testAnyOrderOfFreeing() async throws {
        let before = try live()
        let want = try await story("The king", .init(maxTokens: 40))
        var model: Model? = try await Model.load(path: stories)
        var answer = model?.generate("The king", options: .init(maxTokens: 40))
        var iterator = answer?.makeAsyncIterator()
        var text = try await iterator?.next()?.text ?? ""
        model = nil
        answer = nil
        while let chunk = try await iterator?.next() { text += chunk.text }
        iterator = nil
        XCTAssertEqual(text, want)
        try await settled(before)

        for _ in 0..<5 {
            try await withThrowingTaskGroup(of: Void.self) { group in
                let model = try await Model.load(path: domains)
                for _ in 0..<8 {
                    group.addTask {
                        _ = try model.tokenize("some text")
                        _ = try await model.generate("a", options: .init(maxTokens: 2)).text()
                    }
                }
                group.cancelAll()
                while let result = await group.nextResult() {
                    if case .failure(let error) = result {
                        XCTAssertEqual((error as? GomlxError)?.status, .cancelled)
                    }
                }
            }
        }
        try await settled(before)
    }
}
