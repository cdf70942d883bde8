<?php

declare(strict_types=1);

namespace Gomlx\Exception;

/** The prompt does not fit the context. */
final class ContextFullException extends GomlxException
{
}
