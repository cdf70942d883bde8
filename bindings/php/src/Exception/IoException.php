<?php

declare(strict_types=1);

namespace Gomlx\Exception;

/** The operating system refused: a file is missing or may not be read. */
final class IoException extends GomlxException
{
}
