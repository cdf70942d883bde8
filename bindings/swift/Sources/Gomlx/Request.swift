import CGomlx

/// A token's number in the model's vocabulary.
public typealias Token = UInt32

/// One turn of a conversation.
public struct Message: Hashable, Sendable, Codable {
    /// Who speaks: `system`, `user`, `assistant`, or whatever else the model's template knows.
    public var role: String
    /// What is said.
    public var content: String

    public init(role: String, content: String) {
        self.role = role
        self.content = content
    }

    /// A turn of the user's.
    public static func user(_ content: String) -> Message { Message(role: "user", content: content) }
    /// A turn of the model's.
    public static func assistant(_ content: String) -> Message { Message(role: "assistant", content: content) }
    /// What comes before the conversation.
    public static func system(_ content: String) -> Message { Message(role: "system", content: content) }
}

/// What an answer continues.
public enum Prompt: Hashable, Sendable, ExpressibleByStringLiteral {
    /// Text, encoded with the tokenizer's own beginning (BOS where the model has one).
    case text(String)
    /// Tokens, as they are.
    case tokens([Token])
    /// A conversation, rendered by the model's chat template.
    case messages([Message])
    /// The same as a JSON array of objects, for templates that read more than role and content.
    case messagesJSON(String)

    public init(stringLiteral text: String) { self = .text(text) }
}

/// A prompt with its options, for batches.
public struct Request: Hashable, Sendable {
    /// What is continued.
    public var prompt: Prompt
    /// How the answer is chosen and when it ends.
    public var options: GenerationOptions

    public init(_ prompt: Prompt, options: GenerationOptions = GenerationOptions()) {
        self.prompt = prompt
        self.options = options
    }

    /// The struct that C takes. What it points to is `arena`'s; `control` must outlive it.
    func c(_ operation: String, _ arena: Arena, _ control: Control?) throws(GomlxError) -> gomlx_request {
        var c = gomlx_request()
        try call(operation) { gomlx_request_init(&c, MemoryLayout<gomlx_request>.size, $0) }
        switch prompt {
        case .text(let text):
            c.prompt = arena.text(text)
        case .tokens(let tokens):
            c.tokens = arena.array(tokens)
            c.token_count = tokens.count
        case .messages(let messages):
            c.messages = arena.messages(messages)
            c.message_count = messages.count
        case .messagesJSON(let json):
            c.messages_json = arena.text(json)
        }
        try options.fill(&c, arena)
        c.control = try control?.pointer(operation)
        return c
    }
}

extension Arena {
    func messages(_ messages: [Message]) -> UnsafePointer<gomlx_message>? {
        array(messages.map { gomlx_message(role: text($0.role), content: text($0.content)) })
    }
}
