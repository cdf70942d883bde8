<?php

declare(strict_types=1);

namespace Gomlx;

/** A token with its natural log-probability. */
final readonly class TokenLogProb
{
    public function __construct(public int $token, public float $logprob)
    {
    }
}
