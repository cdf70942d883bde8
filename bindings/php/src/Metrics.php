<?php

declare(strict_types=1);

namespace Gomlx;

/** One answer's figures. Times are seconds by the wall clock. */
final readonly class Metrics
{
    /**
     * @param StopReason $stopReason why it ended
     * @param int $promptTokens tokens of the prompt
     * @param int $cachedTokens those of them taken from the prefix cache instead of being computed
     * @param int $generatedTokens tokens generated
     * @param float $queueSeconds from the request until it was first scheduled
     * @param float $prefillSeconds from then until the prompt's last token was computed
     * @param float $decodeSeconds from then until the last token
     * @param float $firstTokenSeconds from the request until the first token was known
     * @param float $prefillTokensPerSecond prompt tokens computed a second of prefill
     * @param float $decodeTokensPerSecond tokens after the first a second of decode
     * @param int $peakMemory most bytes the library held while this answer ran, other models included
     * @param int $activeMemory bytes the library held when the figures were taken
     * @param int $rolledTokens tokens dropped from the middle because the context was full (WhenFull::Roll)
     */
    public function __construct(
        public StopReason $stopReason,
        public int $promptTokens,
        public int $cachedTokens,
        public int $generatedTokens,
        public float $queueSeconds,
        public float $prefillSeconds,
        public float $decodeSeconds,
        public float $firstTokenSeconds,
        public float $prefillTokensPerSecond,
        public float $decodeTokensPerSecond,
        public int $peakMemory,
        public int $activeMemory,
        public int $rolledTokens,
    ) {
    }
}
