<?php

declare(strict_types=1);

namespace Gomlx\Exception;

/** Well-formed, but not something the library can run. */
final class UnsupportedException extends GomlxException
{
}
