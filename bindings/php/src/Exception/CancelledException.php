<?php

declare(strict_types=1);

namespace Gomlx\Exception;

/** Cancelled by its Control. */
final class CancelledException extends GomlxException
{
}
