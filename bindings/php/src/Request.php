<?php

declare(strict_types=1);

namespace Gomlx;

/** One request for text: exactly one of prompt, tokens, messages and messagesJson, and options. */
final readonly class Request
{
    /**
     * @param ?string $prompt text to continue, encoded with the tokenizer's own beginning (BOS where there is one)
     * @param list<int> $tokens token ids, continued as they are
     * @param list<Message|array<string, mixed>> $messages a conversation, rendered by the model's chat template; an
     *     array may have more keys than role and content (tool_calls, …)
     * @param string $messagesJson a conversation as a JSON array of objects
     * @param Options $options how the answer is chosen and when it ends
     */
    public function __construct(
        public ?string $prompt = null,
        public array $tokens = [],
        public array $messages = [],
        public string $messagesJson = '',
        public Options $options = new Options(),
    ) {
    }
}
