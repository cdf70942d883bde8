import Gomlx
import XCTest

final class AnswerTests: XCTestCase {
    func testEachIterationAsksAnew() async throws {
        let answer = try await storyTeller().generate("The dog", options: .init(maxTokens: 12))
        XCTAssertNil(answer.metrics)
        let first = try await answer.text()
        let second = try await answer.text()
        XCTAssertFalse(first.isEmpty)
        XCTAssertEqual(first, second)
    }

    func testChunksAreTheText() async throws {
        let model = try await storyTeller()
        var text = ""
        var tokens: [Token] = []
        for try await chunk in model.generate("Once upon a time", options: .init(maxTokens: 20)) {
            text += chunk.text
            tokens += chunk.tokens
            XCTAssert(chunk.logprobs.isEmpty && chunk.top.isEmpty)
        }
        XCTAssertEqual(tokens.count, 20)
        XCTAssertEqual(try model.detokenize(tokens), text)
    }

    func testNothingComesAfterTheEnd() async throws {
        var iterator = try await storyTeller().generate("The dog", options: .init(maxTokens: 2)).makeAsyncIterator()
        while try await iterator.next() != nil {}
        let after = try await iterator.next()
        XCTAssertNil(after)

        var failing = try await storyTeller().generate("").makeAsyncIterator()
        do {
            _ = try await failing.next()
            XCTFail("no error")
        } catch {
            XCTAssertEqual(error.status, .argument)
        }
        let afterFailure = try await failing.next()
        XCTAssertNil(afterFailure)
    }

    func testLeavingTheLoopStops() async throws {
        let model = try await storyTeller()
        let before = try live()
        try await leave(model)
        XCTAssert(try noMore(than: before))
    }

    private func leave(_ model: Model) async throws {
        let answer = model.generate("Once", options: endless)
        var count = 0
        for try await _ in answer {
            count += 1
            if count == 3 { break }
        }
        let metrics = try XCTUnwrap(answer.metrics)
        XCTAssertEqual(metrics.stopReason, .cancelled)
        XCTAssertGreaterThanOrEqual(metrics.generatedTokens, 3)
    }

    func testChatIsItsRenderedPrompt() async throws {
        let model = try await storyTeller()
        let messages = [Message.user("Tell me about the sea.")]
        let chatted = try await model.chat(messages, options: .init(maxTokens: 20)).text()
        let prompt = try model.renderChat(messages)
        XCTAssert(prompt.contains("Tell me about the sea."))
        let tokens = try model.tokenize(prompt, addSpecial: false)
        let again = try await model.answer(Request(.tokens(tokens), options: .init(maxTokens: 20))).text()
        XCTAssertEqual(chatted, again)
        let empty = await failure { () throws(GomlxError) in try await model.chat([]).text() }
        XCTAssertEqual(empty?.status, .argument)
    }

    func testMetrics() async throws {
        let model = try await Model.load(path: stories)
        XCTAssertNil(model.metrics)
        let answer = model.generate("Once upon a time", options: .init(maxTokens: 10))
        _ = try await answer.text()
        let mine = try XCTUnwrap(answer.metrics)
        XCTAssertEqual(mine, model.metrics)
        XCTAssertEqual(mine.stopReason, .maxTokens)
        XCTAssertEqual("\(mine.stopReason)", "max tokens")
        XCTAssertEqual([mine.promptTokens, mine.generatedTokens], [5, 10])
        XCTAssert(mine.prefill > .zero && mine.decode > .zero && mine.firstToken >= mine.prefill)
        XCTAssert(mine.decodeTokensPerSecond > 0 && mine.activeMemory > 0 && mine.peakMemory >= mine.activeMemory)
        XCTAssertEqual([answer.progress.done, answer.progress.total], [5, 5])
    }

    func testLogprobs() async throws {
        var seen = 0
        let options = GenerationOptions(maxTokens: 6, logprobs: 3)
        for try await chunk in try await storyTeller().generate("Once upon a", options: options) {
            XCTAssertEqual([chunk.logprobs.count, chunk.top.count], [chunk.tokens.count, chunk.tokens.count])
            for (index, token) in chunk.tokens.enumerated() {
                seen += 1
                let top = chunk.top[index]
                XCTAssertEqual(top.count, 3)
                // Greedy takes the best.
                XCTAssertEqual(top[0].token, token)
                XCTAssertEqual(top[0].logprob, chunk.logprobs[index])
                XCTAssert(0 >= top[0].logprob && top[0].logprob >= top[1].logprob && top[1].logprob >= top[2].logprob)
            }
        }
        XCTAssertEqual(seen, 6)
    }

    func testOptionsOutOfRange() async throws {
        let wrong: [String: GenerationOptions] = [
            "max tokens": .init(maxTokens: -1), "no tokens": .init(maxTokens: 0), "top k": .init(topK: .min),
            "temperature": .init(temperature: .nan), "top p": .init(topP: 2), "min p": .init(minP: -1),
            "typical p": .init(typicalP: 7), "repetition": .init(repetitionPenalty: -1),
            "presence": .init(presencePenalty: .infinity), "frequency": .init(frequencyPenalty: .nan),
            "window": .init(penaltyWindow: -5), "bias": .init(logitBias: [1 << 31: 1]),
            "stop": .init(stop: [""]), "stop token": .init(stopTokens: [1 << 31]), "priority": .init(priority: .max),
            "template": .init(templateVariables: "["), "unknown flag": .init(flags: .init(rawValue: 1 << 31)),
        ]
        let model = try await storyTeller()
        for (name, options) in wrong {
            let error = await failure { () throws(GomlxError) in
                try await model.chat([.user("Hi")], options: options).text()
            }
            XCTAssertEqual(error?.status, .argument, name)
        }
        let threads = await failure { () throws(GomlxError) in
            try await Model.load(path: stories, options: .init(threads: -1))
        }
        XCTAssertEqual(threads?.description, "gomlx: options: threads: -1 is out of range")
    }

    func testBatch() async throws {
        let prompts = ["Once upon a time", "The cat", "One day", "", "The sea", "Tom"]
        let requests = (0..<40).map { index in
            Request(.text(prompts[index % prompts.count]), options: .init(maxTokens: 3 + index % 7))
        }
        var texts = [String](repeating: "", count: requests.count)
        var metrics: [Int: Metrics] = [:]
        var failures: [Int: GomlxError] = [:]
        let model = try await Model.load(path: stories, options: .init(maxSequences: 4))
        for await event in model.generateBatch(requests) {
            switch event.kind {
            case .chunk(let chunk): texts[event.request] += chunk.text
            case .ended(let figures): metrics[event.request] = figures
            case .failed(let error): failures[event.request] = error
            }
        }
        for (index, request) in requests.enumerated() {
            guard request.prompt != .text("") else {
                XCTAssertEqual(failures[index]?.status, .argument)
                continue
            }
            let alone = try await storyTeller().answer(request).text()
            XCTAssertEqual(texts[index], alone)
            XCTAssertNil(failures[index])
            XCTAssertEqual(metrics[index]?.generatedTokens, 3 + index % 7)
        }
        for await _ in model.generateBatch([]) { XCTFail("an event of nothing") }
    }

    func testBatchEndsEarly() async throws {
        let model = try await storyTeller()
        let before = try live()
        let requests = [Request](repeating: Request("Once", options: endless), count: 100)
        for await event in model.generateBatch(requests) {
            guard case .chunk = event.kind else { return XCTFail("\(event)") }
            break
        }
        try await settled(before)

        let (started, signal) = AsyncStream.makeStream(of: Void.self)
        let task = Task { for await _ in model.generateBatch(requests) { signal.yield() } }
        var events = started.makeAsyncIterator()
        _ = await events.next()
        task.cancel()
        await task.value
        try await settled(before)
    }
}
