// What pulling a token costs by `for try await` and by the calls that a C program makes; the difference is the boundary.
// Once all tokens are computed already, and while they are: then it is a whole answer's time, waiting included.
// make bench-swift
import CGomlx
import Foundation
import Gomlx

let path = CommandLine.arguments.dropFirst().first ?? "../../models/llama-tales-16m-4bit"
let (length, rounds, limit) = (1000, 7, 5.0)
let prompt = "Once upon a time"

/// Microseconds a token, by Swift. The first chunk, which is waited for, is not in the figure.
@MainActor func bySwift(_ model: Model, computed: Bool) async throws -> Double {
    let options = GenerationOptions(maxTokens: length, flags: .ignoreEnd)
    var iterator = model.generate(prompt, options: options).makeAsyncIterator()
    _ = try await iterator.next(isolation: #isolation)
    while computed, !iterator.isComputed { try await Task.sleep(for: .milliseconds(1)) }
    var (tokens, bytes) = (0, 0)
    let began = ContinuousClock.now
    while let chunk = try await iterator.next(isolation: #isolation) {
        tokens += chunk.tokens.count
        bytes += chunk.text.utf8.count
    }
    return perToken(since: began, tokens, bytes)
}

/// Microseconds a token, by the calls that C makes.
@MainActor func byC(_ model: OpaquePointer, computed: Bool) async throws -> Double {
    var (request, chunk, metrics) = (gomlx_request(), gomlx_chunk(), gomlx_metrics())
    gomlx_request_init(&request, MemoryLayout<gomlx_request>.size, nil)
    chunk.struct_size = UInt32(MemoryLayout<gomlx_chunk>.size)
    metrics.struct_size = UInt32(MemoryLayout<gomlx_metrics>.size)
    request.max_tokens = UInt32(length)
    request.flags = UInt32(GOMLX_REQUEST_IGNORE_END.rawValue)
    var generation: OpaquePointer?
    var text = prompt
    let started = text.withUTF8 { utf8 in
        utf8.withMemoryRebound(to: CChar.self) {
            request.prompt = gomlx_string(data: $0.baseAddress, len: $0.count)
            return gomlx_generation_start(model, &request, &generation, nil)
        }
    }
    precondition(started == 0)
    defer { gomlx_generation_free(generation) }
    precondition(gomlx_generation_next(generation, -1, &chunk, nil) == 0)
    while computed, metrics.stop_reason == 0 {
        try await Task.sleep(for: .milliseconds(1))
        precondition(gomlx_generation_metrics(generation, &metrics, nil) == 0)
    }
    var (tokens, bytes) = (0, 0)
    let began = ContinuousClock.now
    while gomlx_generation_next(generation, -1, &chunk, nil) == 0 {
        tokens += chunk.token_count
        bytes += chunk.text.len
    }
    return perToken(since: began, tokens, bytes)
}

func perToken(since began: ContinuousClock.Instant, _ tokens: Int, _ bytes: Int) -> Double {
    let took = ContinuousClock.now - began
    precondition(tokens > length / 2 && bytes > tokens)
    let seconds = Double(took.components.seconds) + Double(took.components.attoseconds) / 1e18
    return seconds * 1e6 / Double(tokens)
}

func median(_ figures: [Double]) -> Double { figures.sorted()[figures.count / 2] }

let model = try await Model.load(path: path)
var inC: OpaquePointer?
var folder = path
precondition(
    folder.withUTF8 { utf8 in
        utf8.withMemoryRebound(to: CChar.self) { gomlx_model_load($0.baseAddress, $0.count, nil, &inC, nil) }
    } == 0)

func figure(_ x: Double) -> String { String((x * 100).rounded() / 100) }

/// Both by turns; the median of what Swift takes more.
@MainActor func compare(_ what: String, computed: Bool) async throws -> Double {
    var (swift, c): ([Double], [Double]) = ([], [])
    for round in 0...rounds {
        let pair = (try await bySwift(model, computed: computed), try await byC(inC!, computed: computed))
        if round > 0 {  // the first warms up
            swift.append(pair.0)
            c.append(pair.1)
        }
    }
    let more = zip(swift, c).map { $0 - $1 }
    print(
        "\(what): Swift \(figure(median(swift))) us a token, C \(figure(median(c))) us; the boundary",
        "\(figure(median(more))) us (\(figure(more.min()!)) to \(figure(more.max()!)), \(rounds) rounds)")
    return median(more)
}

let boundary = try await compare("computed already", computed: true)
_ = try await compare("while it is computed", computed: false)
gomlx_model_free(inC)
if boundary >= limit {
    print("that is not below \(limit) us")
    exit(1)
}
