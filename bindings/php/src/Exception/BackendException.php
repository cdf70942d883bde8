<?php

declare(strict_types=1);

namespace Gomlx\Exception;

/** The device that computes failed. */
final class BackendException extends GomlxException
{
}
