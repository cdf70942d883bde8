<?php

declare(strict_types=1);

namespace Gomlx\Exception;

/** The timeout passed. */
final class DeadlineException extends GomlxException
{
}
