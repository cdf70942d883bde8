<?php

declare(strict_types=1);

namespace Gomlx\Exception;

/** A defect of the library; the message says where. */
final class InternalException extends GomlxException
{
}
