<?php

declare(strict_types=1);

namespace Gomlx;

/** How an answer is chosen and when it ends. What is null is left to the library. */
final readonly class Options
{
    /**
     * @param ?int $maxTokens ends the answer after as many tokens, at least 1; default: when the context is full
     * @param ?float $temperature 0 (the default) takes the most probable token every time; 1 samples as the model says
     * @param ?int $topK samples among the most probable tokens; 0 (the default): among all
     * @param ?float $topP samples among the most probable tokens that together have this probability; default 1
     * @param ?float $minP leaves out tokens less probable than this part of the best one's probability; default 0
     * @param ?float $typicalP samples among the most typical tokens that together have this probability; default 1
     * @param ?float $repetitionPenalty divides the logits of tokens seen before; default 1
     * @param ?float $presencePenalty subtracted from the logits of tokens generated before; default 0
     * @param ?float $frequencyPenalty subtracted as many times as the token was generated before; default 0
     * @param ?int $penaltyWindow latest tokens that the penalties look at; 0 (the default): all of them
     * @param ?int $seed same seed, same text; default: each request draws its own
     * @param ?int $logprobs reports, with each token, its log-probability and those of as many best ones
     * @param array<int, float> $logitBias token => number added to its logit; -INF bans it
     * @param list<string> $stop texts that end the answer; none of them is ever part of it
     * @param list<int> $stopTokens tokens that end the answer, beside the model's own
     * @param int $priority admitted before requests of lower priority
     * @param ?float $timeout seconds; a longer answer, waiting included, ends with DeadlineException
     * @param string|array<string, mixed> $templateVariables more variables of the chat template (tools,
     *     enable_thinking, …), as an array or as one JSON object
     * @param bool $continueFinal the last message is left open and the answer continues it
     * @param bool $ignoreEnd goes on past the model's own end tokens: for measurements
     * @param bool $specialInText special tokens show in the text
     * @param bool $echo the prompt's text comes back as the first chunk
     * @param WhenFull $whenFull what happens when the context is full
     * @param ?int $keepTokens with WhenFull::Roll: tokens of the beginning to keep, at most half the context; default:
     *     the prompt, as far as that goes
     * @param ?Control $control stops the answer and shows how much of the prompt is computed
     */
    public function __construct(
        public ?int $maxTokens = null,
        public ?float $temperature = null,
        public ?int $topK = null,
        public ?float $topP = null,
        public ?float $minP = null,
        public ?float $typicalP = null,
        public ?float $repetitionPenalty = null,
        public ?float $presencePenalty = null,
        public ?float $frequencyPenalty = null,
        public ?int $penaltyWindow = null,
        public ?int $seed = null,
        public ?int $logprobs = null,
        public array $logitBias = [],
        public array $stop = [],
        public array $stopTokens = [],
        public int $priority = 0,
        public ?float $timeout = null,
        public string|array $templateVariables = '',
        public bool $continueFinal = false,
        public bool $ignoreEnd = false,
        public bool $specialInText = false,
        public bool $echo = false,
        public WhenFull $whenFull = WhenFull::Stop,
        public ?int $keepTokens = null,
        public ?Control $control = null,
    ) {
    }
}
