<?php

declare(strict_types=1);

namespace Gomlx;

/** How weights reach memory. */
enum Weights: int
{
    /** The files are used in place; processes share them. They must stay unchanged. */
    case Mapped = 0;
    /** Read into memory of the library's own. */
    case Read = 1;
}
