<?php

declare(strict_types=1);

namespace Gomlx\Exception;

use Gomlx\Status;

/** What every failing call of this package throws. The message is one line; the code is the status as a number. */
abstract class GomlxException extends \RuntimeException
{
    public function __construct(string $message, public readonly Status $status)
    {
        parent::__construct($message, $status->value);
    }
}
