<?php

declare(strict_types=1);

namespace Gomlx\Exception;

/** Some requests of a batch failed; it is thrown after the others are complete, with the first failure's message. */
final class BatchException extends GomlxException
{
    /** @param non-empty-array<array-key, GomlxException> $failures by the requests' keys */
    public function __construct(public readonly array $failures)
    {
        $index = array_key_first($failures);
        $first = $failures[$index];
        $message = "request $index: {$first->getMessage()}";
        parent::__construct($message, $first->status);
    }
}
