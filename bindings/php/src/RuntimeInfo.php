<?php

declare(strict_types=1);

namespace Gomlx;

/** The machine as the library sees it, and what the library was built with. */
final readonly class RuntimeInfo
{
    /**
     * @param int $threads threads that the cpu backend uses unless told otherwise
     * @param int $memory bytes of main memory
     * @param list<string> $backends in this build, the preferred one first
     * @param string $device what Backend::Auto computes on
     * @param string $isa kernels that the cpu backend uses
     * @param int $liveControls handles in this process that were not freed yet
     * @param int $liveCatalogs as above
     * @param int $liveModels as above
     * @param int $liveGenerations as above
     * @param int $liveRequests requests of any kind that wait or run
     * @param int $liveWorkers models that are in memory: not given back, and not unloaded for being idle
     */
    public function __construct(
        public int $threads,
        public int $memory,
        public array $backends,
        public string $device,
        public string $isa,
        public int $liveControls,
        public int $liveCatalogs,
        public int $liveModels,
        public int $liveGenerations,
        public int $liveRequests,
        public int $liveWorkers,
    ) {
    }
}
