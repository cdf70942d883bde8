import CGomlx

extension Model {
    /// Text to tokens. `addSpecial` adds what the tokenizer puts around a text, such as a BOS token.
    public func tokenize(_ text: String, addSpecial: Bool = true) throws(GomlxError) -> [Token] {
        var text = text
        text.makeContiguousUTF8()
        return try filled("tokenize", guess: text.utf8.count / 3 + 8, zero: 0) { out, capacity, needed, record in
            text.withUTF8 { utf8 in
                utf8.withMemoryRebound(to: CChar.self) {
                    gomlx_model_tokenize(
                        handle.pointer, $0.baseAddress, $0.count, addSpecial ? 1 : 0, out, capacity, &needed, record)
                }
            }
        }
    }

    /// Tokens to text. `skipSpecial` leaves special tokens out.
    public func detokenize(_ tokens: [Token], skipSpecial: Bool = true) throws(GomlxError) -> String {
        let text: [CChar] = try filled("detokenize", guess: tokens.count * 8 + 1, zero: 0) {
            out, capacity, needed, record in
            gomlx_model_detokenize(
                handle.pointer, tokens, tokens.count, skipSpecial ? 1 : 0, out, capacity, &needed, record)
        }
        return String(decoding: text.map(UInt8.init(bitPattern:)), as: UTF8.self)
    }

    /// The prompt that the model's chat template makes of a conversation; `.unsupported` for a model without one.
    /// Of the options, `templateVariables` and the flag `continueFinal` matter.
    public func renderChat(
        _ messages: [Message], options: GenerationOptions = GenerationOptions()
    ) throws(GomlxError) -> String {
        try render(Request(.messages(messages), options: options))
    }

    /// `renderChat` of a request whose prompt is messages or their JSON.
    public func render(_ request: Request) throws(GomlxError) -> String {
        let arena = Arena()
        defer { withExtendedLifetime(arena) {} }
        var c = try request.c("render chat", arena, nil)
        let text: [CChar] = try filled("render chat", guess: 1024, zero: 0) { out, capacity, needed, record in
            gomlx_model_render_chat(handle.pointer, &c, out, capacity, &needed, record)
        }
        return String(decoding: text.map(UInt8.init(bitPattern:)), as: UTF8.self)
    }
}
