<?php

declare(strict_types=1);

namespace Gomlx;

/** What computes. */
enum Backend: int
{
    /** The fastest that the library has on this machine. */
    case Auto = 0;
    /** The library's own kernels. */
    case Cpu = 1;
    /** MLX on Metal or CUDA; UnsupportedException in builds without it. */
    case Mlx = 2;
}
