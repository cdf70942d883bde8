<?php

declare(strict_types=1);

namespace Gomlx;

/** How the cpu backend multiplies. */
enum Precision: int
{
    /** Activations take 8 bits per group (or bf16) where the weights are narrow. */
    case Fast = 0;
    /** Activations stay f32: for checking against other implementations. */
    case Exact = 1;
}
