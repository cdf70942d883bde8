import Foundation

/// Runs a call that waits for the model or for a disk on a thread of its own kind, and suspends the task meanwhile:
/// Swift's cooperative threads are as few as the processors and must not be held. Cancelling the task cancels
/// `control`.
func offPool<T: Sendable>(
    _ control: Control, isolation: isolated (any Actor)? = #isolation,
    _ body: @escaping @Sendable () throws(GomlxError) -> T
) async throws(GomlxError) -> T {
    try await withTaskCancellationHandler {
        await withCheckedContinuation { (continuation: CheckedContinuation<Result<T, GomlxError>, Never>) in
            WaitingThreads.shared.run { continuation.resume(returning: Result(catching: body)) }
        }
    } onCancel: {
        control.cancel()
    }.get()
}

/// As many threads as there are calls that wait at once. One that has nothing to do is kept for the next call, and ends
/// after a while.
private final class WaitingThreads: @unchecked Sendable {  // `jobs` and `idle` are touched under `condition` only.
    static let shared = WaitingThreads()

    private let condition = NSCondition()
    private var jobs: [@Sendable () -> Void] = []
    private var idle = 0

    func run(_ job: @escaping @Sendable () -> Void) {
        condition.lock()
        defer { condition.unlock() }
        jobs.append(job)
        if jobs.count <= idle {
            condition.signal()
            return
        }
        let thread = Thread { self.work() }
        thread.name = "gomlx waiting"
        thread.stackSize = 512 << 10
        thread.start()
    }

    private func work() {
        while let job = take() {
            // Darwin's threads have no pool of their own for what Foundation autoreleases.
            #if canImport(ObjectiveC)
                autoreleasepool { job() }
            #else
                job()
            #endif
        }
    }

    /// The next job; nil when there was none for a while.
    private func take() -> (@Sendable () -> Void)? {
        condition.lock()
        defer { condition.unlock() }
        idle += 1
        defer { idle -= 1 }
        let end = Date(timeIntervalSinceNow: 10)
        while jobs.isEmpty {
            if !condition.wait(until: end) { break }
        }
        return jobs.isEmpty ? nil : jobs.removeFirst()
    }
}
