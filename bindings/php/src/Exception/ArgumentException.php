<?php

declare(strict_types=1);

namespace Gomlx\Exception;

/** Something that can never be right, such as invalid UTF-8 or a temperature below zero. */
final class ArgumentException extends GomlxException
{
}
