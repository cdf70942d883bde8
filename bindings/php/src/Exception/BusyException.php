<?php

declare(strict_types=1);

namespace Gomlx\Exception;

/** Too many requests wait already: try again later. */
final class BusyException extends GomlxException
{
}
