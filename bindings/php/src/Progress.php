<?php

declare(strict_types=1);

namespace Gomlx;

/** How far the work is: bytes of a load, tokens of a prompt, texts of a classification; both 0 before it begins. */
final readonly class Progress
{
    public function __construct(public int $done, public int $total)
    {
    }
}
