<?php

declare(strict_types=1);

namespace Gomlx\Exception;

use Gomlx\Status;

/** libgomlx is missing, has another ABI, or PHP may not load it. The message says where was looked. */
final class LibraryException extends GomlxException
{
    public function __construct(string $message)
    {
        parent::__construct($message, Status::Unsupported);
    }
}
