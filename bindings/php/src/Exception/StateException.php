<?php

declare(strict_types=1);

namespace Gomlx\Exception;

/** Right call, wrong moment, such as any call after close(). */
final class StateException extends GomlxException
{
}
