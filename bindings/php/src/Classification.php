<?php

declare(strict_types=1);

namespace Gomlx;

/** Which label fits a text. */
final readonly class Classification
{
    /**
     * @param string $label the most probable label, the first of equals
     * @param int $index its place among the labels
     * @param float $probability its probability among the labels
     * @param float $logprob natural log-probability of its tokens after the prompt
     * @param list<float> $probabilities those of all labels; they sum to one
     * @param list<float> $logprobs those of all labels
     * @param int $promptTokens tokens of the prompt
     * @param ?list<float> $logits those of the token after the prompt; null unless asked for
     */
    public function __construct(
        public string $label,
        public int $index,
        public float $probability,
        public float $logprob,
        public array $probabilities,
        public array $logprobs,
        public int $promptTokens,
        public ?array $logits,
    ) {
    }
}
