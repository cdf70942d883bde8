<?php

declare(strict_types=1);

namespace Gomlx;

/** Whether a loaded model is shared within the process. */
enum Sharing: int
{
    /** A model of this caller's own. */
    case None = 0;
    /** Who asks for the same folder with the same options gets the model that is there; it goes with its last owner. */
    case Process = 1;
    /** As above, and it stays until the process ends: for scripts that run once a request, as under php-fpm. */
    case Kept = 2;
}
