package gomlx

/*
#cgo noescape gomlx_model_describe
#cgo nocallback gomlx_model_describe
#cgo noescape gomlx_model_free
#cgo nocallback gomlx_model_free
#include "gomlx.h"
*/
import "C"

import (
	"runtime"
	"sync"
)

// Model is a loaded model. Any number of goroutines may use one at once.
type Model struct {
	*owners
	cleanup   runtime.Cleanup
	sequences int // computed together

	lastMu sync.Mutex
	last   Metrics
}

// owners counts the calls that are inside a model's handle, so that Close never frees it under them.
type owners struct {
	mu     sync.Mutex
	handle *C.gomlx_model
	inside int
	closed bool
}

func newModel(handle *C.gomlx_model, sequences int) *Model {
	m := &Model{owners: &owners{handle: handle}, sequences: sequences}
	m.cleanup = runtime.AddCleanup(m, (*owners).close, m.owners)
	return m
}

// enter is the handle for one call, which leave follows.
func (o *owners) enter(op string) (*C.gomlx_model, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return nil, &Error{Op: op, Status: ErrState, Message: "the model is closed"}
	}
	o.inside++
	return o.handle, nil
}

func (o *owners) leave() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.inside--
	o.freeIfUnused()
}

func (o *owners) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
	o.freeIfUnused()
}

func (o *owners) freeIfUnused() {
	if o.closed && o.inside == 0 {
		C.gomlx_model_free(o.handle)
		o.handle = nil // freeing NULL is nothing
	}
}

// Close gives the model back. Answers that are being ranged over end with ErrState after what was already computed;
// other calls that are under way (Classify, Batch, …) go on to their end, and the memory goes with the last of them.
// Later calls get ErrState. Closing again does nothing. The error is always nil: it makes a Model an io.Closer.
func (m *Model) Close() error {
	m.cleanup.Stop()
	m.close()
	runtime.KeepAlive(m)
	return nil
}

// Info describes a model.
type Info struct {
	// Name is the folder's name, or the repository's in a Hugging Face cache.
	Name string
	// Path is the folder.
	Path string
	// Architecture is architectures[0] of its config, Family its model_type.
	Architecture, Family string
	// Layers counts the decoder's layers, Hidden is the width between them, Vocabulary the number of tokens.
	Layers, Hidden, Vocabulary int
	// Context is the positions it was made for, ContextLength those of the loaded model (0 where it is not loaded).
	Context, ContextLength int
	// Parameters counts weights, quantised ones as what they stand for.
	Parameters uint64
	// BytesOnDisk is the size of the weight files.
	BytesOnDisk uint64
	// QuantisationBits and QuantisationGroup are those of most quantised weights; 0 where none are.
	QuantisationBits, QuantisationGroup int
	// QuantisationMode is "affine", or empty where nothing is quantised.
	QuantisationMode string
	// DType is the element type of the weights that are not quantised: bf16, f16, f32.
	DType string
	// HasChatTemplate says whether Chat works.
	HasChatTemplate bool
	// Backend, Device and Threads compute it; empty where it is not loaded.
	Backend, Device string
	Threads         int
	// Err says why a discovered model can't be loaded; nil where it can.
	Err error
}

func infoOf(c *C.gomlx_model_info) Info {
	info := Info{
		Name: goString(c.name), Path: goString(c.path),
		Architecture: goString(c.architecture), Family: goString(c.family),
		Layers: int(c.layers), Hidden: int(c.hidden), Vocabulary: int(c.vocabulary),
		Context: int(c.context), ContextLength: int(c.context_length),
		Parameters: uint64(c.parameters), BytesOnDisk: uint64(c.bytes_on_disk),
		QuantisationBits: int(c.quantisation_bits), QuantisationGroup: int(c.quantisation_group),
		QuantisationMode: goString(c.quantisation_mode), DType: goString(c.dtype),
		HasChatTemplate: c.has_chat_template != 0,
		Backend:         goString(c.backend), Device: goString(c.device), Threads: int(c.threads),
	}
	if c.status < 0 {
		info.Err = &Error{Op: "discover", Status: Status(c.status), Message: goString(c.reason)}
	}
	return info
}

// Info describes the loaded model.
func (m *Model) Info() (Info, error) {
	const op = "info"
	handle, err := m.enter(op)
	if err != nil {
		return Info{}, err
	}
	defer m.leave()
	var record C.gomlx_error
	info := C.gomlx_model_info{struct_size: C.sizeof_gomlx_model_info}
	if status := C.gomlx_model_describe(handle, &info, &record); status < 0 {
		return Info{}, failure(op, status, &record)
	}
	return infoOf(&info), nil
}

// Metrics are the figures of the answer that ended last, whoever asked for it; those of one's own come from
// [WithMetrics].
func (m *Model) Metrics() Metrics {
	m.lastMu.Lock()
	defer m.lastMu.Unlock()
	return m.last
}
