<?php

declare(strict_types=1);

namespace Gomlx;

/** What happens when prompt and answer fill the context. The prompt alone must fit it in any case. */
enum WhenFull: int
{
    /** The answer ends with StopReason::ContextFull. */
    case Stop = 0;
    /** The first tokens are kept, of the others the older half is dropped, and the answer goes on. */
    case Roll = 1;
}
