<?php

declare(strict_types=1);

namespace Gomlx;

/** How probable a continuation is. */
final readonly class Score
{
    /**
     * @param float $logprob natural log-probability of all its tokens together
     * @param int $tokens how many
     */
    public function __construct(public float $logprob, public int $tokens)
    {
    }
}
