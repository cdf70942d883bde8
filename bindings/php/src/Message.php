<?php

declare(strict_types=1);

namespace Gomlx;

/** One turn of a conversation. */
final readonly class Message
{
    /**
     * @param string $role who speaks: system, user, assistant, or whatever else the model's template knows
     * @param string $content what is said
     */
    public function __construct(public string $role, public string $content)
    {
    }
}
