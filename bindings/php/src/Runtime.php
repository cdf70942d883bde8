<?php

declare(strict_types=1);

namespace Gomlx;

use FFI;
use Gomlx\Exception\GomlxException;
use Gomlx\Internal\Arena;
use Gomlx\Internal\Handle;
use Gomlx\Internal\Library;
use Gomlx\Internal\Read;

/** The library itself: machine, memory, and which models there are. */
final class Runtime
{
    /** The version of the library, such as 0.1.0. */
    public static function version(): string
    {
        return Library::ffi()->gomlx_version();
    }

    /** Machine, build and live handles. */
    public static function info(): RuntimeInfo
    {
        $ffi = Library::ffi();
        $c = Library::sized('gomlx_runtime_info');
        Library::check($ffi->gomlx_runtime_describe(FFI::addr($c), Library::error()));
        return new RuntimeInfo(
            $c->threads,
            $c->memory,
            explode(',', Read::text($ffi, $c->backends)),
            Read::text($ffi, $c->device),
            Read::text($ffi, $c->isa),
            $c->live_controls,
            $c->live_catalogs,
            $c->live_models,
            $c->live_generations,
            $c->live_requests,
            $c->live_workers,
        );
    }

    /** What the library holds in this process. */
    public static function memory(): MemoryInfo
    {
        $c = Library::sized('gomlx_memory_info');
        Library::check(Library::ffi()->gomlx_memory_describe(FFI::addr($c), Library::error()));
        // What is no limit is UINT64_MAX, which PHP reads as -1.
        $limit = static fn (int $bytes): ?int => $bytes < 0 ? null : $bytes;
        return new MemoryInfo(
            $c->active,
            $c->peak,
            $c->cached,
            $c->mapped,
            $limit($c->limit),
            $limit($c->cache_limit),
            $c->idle,
            $limit($c->idle_limit),
        );
    }

    /** Limits what the library may hold; null is no limit. What would pass it from now on is a MemoryException. */
    public static function setMemoryLimit(?int $bytes): void
    {
        $bytes = $bytes === null ? -1 : Arena::bytes('the memory limit', $bytes);
        Library::check(Library::ffi()->gomlx_memory_set_limit($bytes, Library::error()));
    }

    /** Limits what the library keeps for reuse; 0 keeps nothing, null is no limit. */
    public static function setCacheLimit(?int $bytes): void
    {
        $bytes = $bytes === null ? -1 : Arena::bytes('the cache limit', $bytes);
        Library::check(Library::ffi()->gomlx_memory_set_cache_limit($bytes, Library::error()));
    }

    /**
     * Limits what models hold on which nothing runs; null (at first) is no limit, 0 unloads each as soon as it is idle.
     * Beyond it, those that were not used for longest let go of their memory, and their next use loads them again.
     */
    public static function setIdleLimit(?int $bytes): void
    {
        $bytes = $bytes === null ? -1 : Arena::bytes('the idle limit', $bytes);
        Library::check(Library::ffi()->gomlx_memory_set_idle_limit($bytes, Library::error()));
    }

    /** Returns what is kept for reuse to the system, prefix caches included. */
    public static function clearCache(): void
    {
        Library::ffi()->gomlx_memory_clear_cache();
    }

    /** Starts MemoryInfo::$peak again from what is active now. */
    public static function resetPeak(): void
    {
        Library::ffi()->gomlx_memory_reset_peak();
    }

    /**
     * Looks through a folder and those below it, also a Hugging Face cache, for models. Those that can't be loaded have
     * Info::$error. Reads configs and headers, never weights.
     *
     * @return list<Info> in the order of paths
     * @throws GomlxException where $folder itself can't be read
     */
    public static function discover(string $folder): array
    {
        $ffi = Library::ffi();
        $pointer = $ffi->new('gomlx_catalog *');
        Library::check($ffi->gomlx_discover($folder, strlen($folder), FFI::addr($pointer), Library::error()));
        $catalog = new Handle($pointer, 'catalog', 'gomlx_catalog_free');
        $found = [];
        $count = $ffi->gomlx_catalog_count($catalog->get());
        for ($index = 0; $index < $count; $index++) {
            $c = Library::sized('gomlx_model_info');
            Library::check($ffi->gomlx_catalog_get($catalog->get(), $index, FFI::addr($c), Library::error()));
            $found[] = Read::info($ffi, $c);
        }
        return $found;
    }
}
