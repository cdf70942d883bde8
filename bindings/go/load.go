package gomlx

/*
#cgo noescape gomlx_model_options_init
#cgo nocallback gomlx_model_options_init
#cgo noescape gomlx_model_load
#cgo nocallback gomlx_model_load
#include "gomlx.h"
*/
import "C"

import (
	"context"
	"fmt"
	"math"
)

// Backend is what computes.
type Backend int32

const (
	// BackendAuto is the fastest that the library has on this machine.
	BackendAuto = Backend(C.GOMLX_BACKEND_AUTO)
	// BackendCPU is the library's own kernels.
	BackendCPU = Backend(C.GOMLX_BACKEND_CPU)
	// BackendMLX is MLX on Metal or CUDA; ErrUnsupported in builds without it.
	BackendMLX = Backend(C.GOMLX_BACKEND_MLX)
)

// KVType is the element type of the KV cache.
type KVType int32

const (
	// KVAuto is f16, or f32 with PrecisionExact.
	KVAuto = KVType(C.GOMLX_KV_AUTO)
	// KVF32 is exact: four bytes an element.
	KVF32 = KVType(C.GOMLX_KV_F32)
	// KVF16 is two bytes, eleven bits of precision.
	KVF16 = KVType(C.GOMLX_KV_F16)
	// KVBF16 is two bytes, eight bits of precision, the range of f32.
	KVBF16 = KVType(C.GOMLX_KV_BF16)
)

// Weights says how weights reach memory.
type Weights int32

const (
	// WeightsMapped uses the files in place; processes share them. They must stay unchanged.
	WeightsMapped = Weights(C.GOMLX_WEIGHTS_MAPPED)
	// WeightsRead reads them into memory of the library's own.
	WeightsRead = Weights(C.GOMLX_WEIGHTS_READ)
)

// Precision says how the cpu backend multiplies.
type Precision int32

const (
	// PrecisionFast takes activations in 8 bits per group (or bf16) where the weights are narrow.
	PrecisionFast = Precision(C.GOMLX_PRECISION_FAST)
	// PrecisionExact keeps activations in f32, for checking against other implementations.
	PrecisionExact = Precision(C.GOMLX_PRECISION_EXACT)
)

// Sharing says whether a loaded model is shared within the process.
type Sharing int32

const (
	// SharingNone is a model of this caller's own.
	SharingNone = Sharing(C.GOMLX_SHARING_NONE)
	// SharingProcess gives all callers that ask so for the same folder with the same options one model, also while it
	// still loads. It lives until the last of them closes it.
	SharingProcess = Sharing(C.GOMLX_SHARING_PROCESS)
	// SharingKept is SharingProcess, and the model stays until the process ends.
	SharingKept = Sharing(C.GOMLX_SHARING_KEPT)
)

// LoadOption changes how a model is loaded.
type LoadOption func(*loading)

type loading struct {
	options  C.gomlx_model_options
	progress *Progress
	err      error
}

// WithBackend chooses what computes; default BackendAuto.
func WithBackend(b Backend) LoadOption {
	return func(l *loading) { l.options.backend = C.gomlx_backend(b) }
}

// WithContextLength limits a sequence to n tokens, prompt and answer together; default: what the model was made for,
// at most 8,192.
func WithContextLength(n int) LoadOption {
	return func(l *loading) { l.options.context_length = count("WithContextLength", n, &l.err) }
}

// WithThreads sets how many threads compute; default: the physical cores that this process may use.
func WithThreads(n int) LoadOption {
	return func(l *loading) { l.options.threads = count("WithThreads", n, &l.err) }
}

// WithKVType sets the KV cache's element type; default KVAuto.
func WithKVType(t KVType) LoadOption {
	return func(l *loading) { l.options.kv_type = C.gomlx_kv_type(t) }
}

// WithWeights sets how weights reach memory; default WeightsMapped.
func WithWeights(w Weights) LoadOption {
	return func(l *loading) { l.options.weights = C.gomlx_weights(w) }
}

// WithPrecision sets how the cpu backend multiplies; default PrecisionFast.
func WithPrecision(p Precision) LoadOption {
	return func(l *loading) { l.options.precision = C.gomlx_precision(p) }
}

// WithSharing lets others in this process have the same model; default SharingNone. Code in other languages that runs in
// the process is among them.
func WithSharing(s Sharing) LoadOption {
	return func(l *loading) { l.options.sharing = C.gomlx_sharing(s) }
}

// WithMaxSequences sets how many sequences are computed together; default 32.
func WithMaxSequences(n int) LoadOption {
	return func(l *loading) { l.options.max_sequences = count("WithMaxSequences", n, &l.err) }
}

// WithMaxQueue sets how many requests may wait before another gets ErrBusy; default 1,024.
func WithMaxQueue(n int) LoadOption {
	return func(l *loading) { l.options.max_queue = count("WithMaxQueue", n, &l.err) }
}

// WithPrefillChunk sets the most prompt tokens computed in one step; default 512. It never changes an answer.
func WithPrefillChunk(n int) LoadOption {
	return func(l *loading) { l.options.prefill_chunk = count("WithPrefillChunk", n, &l.err) }
}

// WithKVBudget limits the KV cache's bytes; default: a quarter of the machine's memory.
func WithKVBudget(bytes uint64) LoadOption {
	return func(l *loading) { l.options.kv_budget = C.uint64_t(bytes) }
}

// WithPrefixBudget sets the bytes of the KV cache that finished requests leave for later ones with the same beginning;
// default: one full context; 1 keeps nothing.
func WithPrefixBudget(bytes uint64) LoadOption {
	return func(l *loading) { l.options.prefix_budget = C.uint64_t(bytes) }
}

// WithLoadProgress shows how many bytes of the weights are read.
func WithLoadProgress(p *Progress) LoadOption {
	return func(l *loading) { l.progress = p }
}

// Load loads the model in folder path and returns when it can generate. Errors name the file, key or tensor at fault.
func Load(path string, options ...LoadOption) (*Model, error) {
	return LoadContext(context.Background(), path, options...)
}

// LoadContext is [Load]; it stops when ctx ends.
func LoadContext(ctx context.Context, path string, options ...LoadOption) (*Model, error) {
	const op = "load"
	if err := checkABI(); err != nil {
		return nil, err
	}
	var record C.gomlx_error
	var l loading
	if status := C.gomlx_model_options_init(&l.options, C.sizeof_gomlx_model_options, &record); status < 0 {
		return nil, failure(op, status, &record)
	}
	for _, option := range options {
		option(&l)
	}
	if l.err != nil {
		return nil, l.err
	}
	control, end, err := control(op, ctx, l.progress)
	if err != nil {
		return nil, err
	}
	defer end()
	l.options.control = control
	var handle *C.gomlx_model
	data, length := bytesOf(path)
	if status := C.gomlx_model_load(data, length, &l.options, &handle, &record); status < 0 {
		return nil, inContext(ctx, failure(op, status, &record))
	}
	sequences := int(l.options.max_sequences)
	if sequences == 0 {
		sequences = defaultSequences
	}
	return newModel(handle, sequences), nil
}

// defaultSequences is what WithMaxSequences(0) means.
const defaultSequences = 32

// count checks that an option's number fits the library's and notes the first that does not.
func count(option string, n int, err *error) C.uint32_t {
	if n >= 0 && uint64(n) <= math.MaxUint32 {
		return C.uint32_t(n)
	}
	if *err == nil {
		*err = &Error{Op: "options", Status: ErrArgument, Message: fmt.Sprintf("%s(%d) is out of range", option, n)}
	}
	return 0
}
