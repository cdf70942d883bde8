package gomlx

/*
#cgo noescape gomlx_runtime_describe
#cgo nocallback gomlx_runtime_describe
#cgo noescape gomlx_memory_describe
#cgo nocallback gomlx_memory_describe
#cgo noescape gomlx_memory_set_limit
#cgo nocallback gomlx_memory_set_limit
#cgo noescape gomlx_memory_set_cache_limit
#cgo nocallback gomlx_memory_set_cache_limit
#cgo noescape gomlx_memory_set_idle_limit
#cgo nocallback gomlx_memory_set_idle_limit
#cgo nocallback gomlx_memory_clear_cache
#cgo nocallback gomlx_memory_reset_peak
#include "gomlx.h"
*/
import "C"

import "strings"

// NoLimit is no limit of memory.
const NoLimit = ^uint64(0)

// RuntimeInfo is the machine as the library sees it, and what the library was built with.
type RuntimeInfo struct {
	// Threads is how many the cpu backend uses unless told otherwise.
	Threads int
	// Memory is the machine's, in bytes.
	Memory uint64
	// Backends are those of this build, the preferred one first.
	Backends []string
	// Device is what BackendAuto computes on, ISA the kernels that the cpu backend uses.
	Device, ISA string
	// LiveControls and the others are handles that were given out and not freed yet.
	LiveControls, LiveCatalogs, LiveModels, LiveGenerations int
	// LiveRequests wait or run; LiveWorkers are models in memory: not closed, and not unloaded for being idle.
	LiveRequests, LiveWorkers int
}

// Runtime describes machine, build and live handles.
func Runtime() (RuntimeInfo, error) {
	if err := checkABI(); err != nil {
		return RuntimeInfo{}, err
	}
	var record C.gomlx_error
	c := C.gomlx_runtime_info{struct_size: C.sizeof_gomlx_runtime_info}
	if status := C.gomlx_runtime_describe(&c, &record); status < 0 {
		return RuntimeInfo{}, failure("runtime", status, &record)
	}
	return RuntimeInfo{
		Threads: int(c.threads), Memory: uint64(c.memory), Backends: strings.Split(goString(c.backends), ","),
		Device: goString(c.device), ISA: goString(c.isa),
		LiveControls: int(c.live_controls), LiveCatalogs: int(c.live_catalogs),
		LiveModels: int(c.live_models), LiveGenerations: int(c.live_generations),
		LiveRequests: int(c.live_requests), LiveWorkers: int(c.live_workers),
	}, nil
}

// MemoryInfo is what the library holds in this process, in bytes.
type MemoryInfo struct {
	// Active is in use: weights (mapped ones included), KV cache, activations. Peak is the largest Active so far.
	Active, Peak uint64
	// Cached is kept for reuse.
	Cached uint64
	// Mapped is the part of Active that is mapped files, shared with every process that maps the same ones.
	Mapped uint64
	// Limit and CacheLimit are what Active and Cached may not pass; NoLimit is none.
	Limit, CacheLimit uint64
	// Idle is the part of Active that models hold on which nothing runs; IdleLimit is what it may not pass for long.
	Idle, IdleLimit uint64
}

// Memory is what the library holds now.
func Memory() (MemoryInfo, error) {
	if err := checkABI(); err != nil {
		return MemoryInfo{}, err
	}
	var record C.gomlx_error
	c := C.gomlx_memory_info{struct_size: C.sizeof_gomlx_memory_info}
	if status := C.gomlx_memory_describe(&c, &record); status < 0 {
		return MemoryInfo{}, failure("memory", status, &record)
	}
	return MemoryInfo{
		Active: uint64(c.active), Peak: uint64(c.peak), Cached: uint64(c.cached), Mapped: uint64(c.mapped),
		Limit: uint64(c.limit), CacheLimit: uint64(c.cache_limit),
		Idle: uint64(c.idle), IdleLimit: uint64(c.idle_limit),
	}, nil
}

// SetMemoryLimit limits what the library may hold. What it holds stays; whatever would pass the limit from now on
// fails with ErrMemory.
func SetMemoryLimit(bytes uint64) error {
	var record C.gomlx_error
	if status := C.gomlx_memory_set_limit(C.uint64_t(bytes), &record); status < 0 {
		return failure("set memory limit", status, &record)
	}
	return nil
}

// SetCacheLimit limits what the library keeps for reuse; 0 keeps nothing.
func SetCacheLimit(bytes uint64) error {
	var record C.gomlx_error
	if status := C.gomlx_memory_set_cache_limit(C.uint64_t(bytes), &record); status < 0 {
		return failure("set cache limit", status, &record)
	}
	return nil
}

// SetIdleLimit limits what models hold on which nothing runs; 0 unloads each as soon as it is idle. Beyond it, those not
// used for longest let go of weights, KV pages and prefix caches; their next use loads them again from the same files.
func SetIdleLimit(bytes uint64) error {
	var record C.gomlx_error
	if status := C.gomlx_memory_set_idle_limit(C.uint64_t(bytes), &record); status < 0 {
		return failure("set idle limit", status, &record)
	}
	return nil
}

// ClearCache returns what is kept for reuse to the system; each model does so at its next step.
func ClearCache() { C.gomlx_memory_clear_cache() }

// ResetPeak starts MemoryInfo.Peak again from what is active now.
func ResetPeak() { C.gomlx_memory_reset_peak() }
