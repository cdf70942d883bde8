<?php

declare(strict_types=1);

namespace Gomlx\Internal;

use Gomlx\Metrics;

/**
 * The figures of the answer that ended last.
 *
 * @internal
 */
final class Figures
{
    public ?Metrics $metrics = null;
}
