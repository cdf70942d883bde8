<?php

declare(strict_types=1);

namespace Gomlx;

/** Why an answer ended. */
enum StopReason: int
{
    /** It has not ended. */
    case None = 0;
    /** The model's own end token. */
    case EndToken = 1;
    /** A stop text or stop token of the request. */
    case Stop = 2;
    /** As many tokens as were asked for. */
    case MaxTokens = 3;
    /** The context is full. */
    case ContextFull = 4;
    /** Cancelled, or its generator was left. */
    case Cancelled = 5;
    /** The timeout passed. */
    case Deadline = 6;
    /** It failed; the exception said why. */
    case Error = 7;
}
