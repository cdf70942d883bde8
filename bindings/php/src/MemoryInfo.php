<?php

declare(strict_types=1);

namespace Gomlx;

/** What the library holds in this process, in bytes. */
final readonly class MemoryInfo
{
    /**
     * @param int $active in use: weights (mapped ones included), KV cache, activations
     * @param int $peak the largest $active since the start or the last Runtime::resetPeak()
     * @param int $cached kept for reuse
     * @param int $mapped the part of $active that is mapped files, shared with every process that maps the same ones
     * @param ?int $limit what $active may not pass; null is no limit
     * @param ?int $cacheLimit what $cached may not pass; null is no limit
     * @param int $idle the part of $active that models hold on which nothing runs
     * @param ?int $idleLimit what $idle may not pass for long; null is no limit
     */
    public function __construct(
        public int $active,
        public int $peak,
        public int $cached,
        public int $mapped,
        public ?int $limit,
        public ?int $cacheLimit,
        public int $idle,
        public ?int $idleLimit,
    ) {
    }
}
