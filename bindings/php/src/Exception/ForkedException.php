<?php

declare(strict_types=1);

namespace Gomlx\Exception;

/** The process forked after the model was loaded: load it again in the child. */
final class ForkedException extends GomlxException
{
}
