<?php

declare(strict_types=1);

namespace Gomlx\Exception;

/** A file was read but does not hold what its format promises. */
final class FormatException extends GomlxException
{
}
