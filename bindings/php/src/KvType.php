<?php

declare(strict_types=1);

namespace Gomlx;

/** The element type of the KV cache. */
enum KvType: int
{
    /** f16, or f32 with Precision::Exact. */
    case Auto = 0;
    /** Exact: four bytes an element. */
    case F32 = 1;
    /** Two bytes, eleven bits of precision. */
    case F16 = 2;
    /** Two bytes, eight bits of precision, the range of f32. */
    case Bf16 = 3;
}
