<?php

declare(strict_types=1);

namespace Gomlx;

/** How a text's hidden states become one vector. */
enum Pooling: int
{
    /** The mean over all tokens. */
    case Mean = 0;
    /** The last token's. */
    case Last = 1;
}
