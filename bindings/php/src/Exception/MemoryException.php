<?php

declare(strict_types=1);

namespace Gomlx\Exception;

/** The memory limit, or the machine's memory, does not allow it. */
final class MemoryException extends GomlxException
{
}
