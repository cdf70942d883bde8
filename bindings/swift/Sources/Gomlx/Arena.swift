import CGomlx

/// Copies of texts and arrays that a C struct points to; they last as long as the arena.
final class Arena {
    private var blocks: [UnsafeMutableRawPointer] = []

    deinit { blocks.forEach { $0.deallocate() } }

    /// A copy of `values`; NULL where there are none.
    func array<T: BitwiseCopyable>(_ values: [T]) -> UnsafePointer<T>? {
        guard !values.isEmpty else { return nil }
        let copy = UnsafeMutablePointer<T>.allocate(capacity: values.count)
        copy.initialize(from: values, count: values.count)
        blocks.append(copy)
        return UnsafePointer(copy)
    }

    func text(_ text: String) -> gomlx_string {
        var text = text
        return text.withUTF8 { utf8 in
            guard !utf8.isEmpty else { return gomlx_string() }
            let copy = UnsafeMutableRawBufferPointer.allocate(byteCount: utf8.count, alignment: 1)
            copy.copyMemory(from: UnsafeRawBufferPointer(utf8))
            blocks.append(copy.baseAddress!)
            return gomlx_string(data: copy.baseAddress!.assumingMemoryBound(to: CChar.self), len: utf8.count)
        }
    }

    func texts(_ texts: [String]) -> UnsafePointer<gomlx_string>? { array(texts.map(text)) }
}

extension String {
    /// A copy of a text of the library's.
    init(_ text: gomlx_string) {
        let bytes = UnsafeRawBufferPointer(start: text.data, count: text.len)
        self.init(decoding: bytes, as: UTF8.self)
    }
}

/// An array as long as the library says: `fill` gets room for `guess` elements, once more where those were too few.
func filled<T: BitwiseCopyable>(
    _ operation: String, guess: Int, zero: T,
    _ fill: (UnsafeMutablePointer<T>?, Int, inout Int, UnsafeMutablePointer<gomlx_error>) -> gomlx_status
) throws(GomlxError) -> [T] {
    var values = [T](repeating: zero, count: guess)
    while true {
        var needed = 0
        do {
            let capacity = values.count
            try call(operation) { record in
                values.withUnsafeMutableBufferPointer { fill($0.baseAddress, capacity, &needed, record) }
            }
            values.removeLast(values.count - needed)
            return values
        } catch where error.status == .buffer {
            // A text's NUL is not counted.
            values = [T](repeating: zero, count: needed + 1)
        }
    }
}
