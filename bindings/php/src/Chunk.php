<?php

declare(strict_types=1);

namespace Gomlx;

/** A piece of an answer; as a string, its text. */
final readonly class Chunk implements \Stringable
{
    /**
     * @param string $text whole UTF-8; empty where tokens carry no text of their own
     * @param list<int> $tokens those that the text came from
     * @param ?list<float> $logprobs their natural log-probabilities; null unless Options::$logprobs asks for them
     * @param ?list<list<TokenLogProb>> $top the best tokens at each token's place, best first; null as above
     */
    public function __construct(
        public string $text,
        public array $tokens,
        public ?array $logprobs = null,
        public ?array $top = null,
    ) {
    }

    public function __toString(): string
    {
        return $this->text;
    }
}
