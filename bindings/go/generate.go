package gomlx

/*
#cgo noescape gomlx_generation_start
#cgo nocallback gomlx_generation_start
#cgo noescape gomlx_generation_next
#cgo nocallback gomlx_generation_next
#cgo noescape gomlx_generation_metrics
#cgo nocallback gomlx_generation_metrics
#cgo noescape gomlx_generation_free
#cgo nocallback gomlx_generation_free
#include "gomlx.h"
*/
import "C"

import (
	"context"
	"iter"
	"slices"
	"unsafe"
)

// Chunk is a piece of an answer.
type Chunk struct {
	// Text is whole UTF-8; empty where tokens carry no text of their own.
	Text string
	// Tokens are those that the text came from.
	Tokens []uint32
	// LogProbs are the tokens' natural log-probabilities under the model; nil without [WithLogProbs].
	LogProbs []float32
	// Top are the best tokens at each token's place, best first; nil without [WithLogProbs].
	Top [][]TokenLogProb
	// Request is the index of the request in a batch that this belongs to; 0 for a single one.
	Request int
}

// TokenLogProb is a token with its natural log-probability.
type TokenLogProb struct {
	Token   uint32
	LogProb float32
}

// Generate continues a text. Each range over the result is a new answer; an error, if any, comes last. Leaving the
// loop stops the answer.
func (m *Model) Generate(ctx context.Context, prompt string, options ...Option) iter.Seq2[Chunk, error] {
	return m.Run(ctx, Request{Prompt: prompt, Options: options})
}

// Chat answers a conversation through the model's chat template; otherwise it is [Model.Generate].
func (m *Model) Chat(ctx context.Context, messages []Message, options ...Option) iter.Seq2[Chunk, error] {
	if len(messages) == 0 {
		return func(yield func(Chunk, error) bool) {
			yield(Chunk{}, &Error{Op: "chat", Status: ErrArgument, Message: "messages are empty"})
		}
	}
	return m.Run(ctx, Request{Messages: messages, Options: options})
}

// Run is [Model.Generate] for any kind of request.
func (m *Model) Run(ctx context.Context, request Request) iter.Seq2[Chunk, error] {
	return func(yield func(Chunk, error) bool) {
		answer, err := m.start(ctx, &request)
		if err != nil {
			yield(Chunk{}, err)
			return
		}
		defer answer.end()
		for {
			chunk, done, err := answer.next()
			if err != nil {
				yield(Chunk{}, err)
				return
			}
			if done || !yield(chunk, nil) {
				return
			}
		}
	}
}

// answer is one generation in progress; one goroutine at a time is inside.
type answer struct {
	generation *C.gomlx_generation
	model      *Model
	ctx        context.Context
	endControl func()
	out        *Metrics
	chunk      C.gomlx_chunk
	record     C.gomlx_error
}

const opGenerate = "generate"

// start hands a request to the library, which computes it from now on.
func (m *Model) start(ctx context.Context, request *Request) (*answer, error) {
	var p pins
	defer p.Unpin()
	asked, err := request.toC(opGenerate, ctx, &p)
	if err != nil {
		return nil, err
	}
	control, end, err := control(opGenerate, ctx, asked.progress)
	if err != nil {
		return nil, err
	}
	asked.request.control = control
	handle, err := m.enter(opGenerate)
	if err != nil {
		end()
		return nil, err
	}
	defer m.leave() // closing the model ends the generation, which stays a valid handle
	a := &answer{model: m, ctx: ctx, endControl: end, out: asked.metrics}
	a.chunk.struct_size = C.sizeof_gomlx_chunk
	if status := C.gomlx_generation_start(handle, &asked.request, &a.generation, &a.record); status < 0 {
		end()
		return nil, inContext(ctx, failure(opGenerate, status, &a.record))
	}
	return a, nil
}

// next waits for the next chunk.
func (a *answer) next() (chunk Chunk, done bool, err error) {
	status := C.gomlx_generation_next(a.generation, -1, &a.chunk, &a.record)
	switch {
	case status < 0:
		return Chunk{}, true, inContext(a.ctx, failure(opGenerate, status, &a.record))
	case status == C.GOMLX_DONE:
		return Chunk{}, true, nil
	}
	return chunkOf(&a.chunk), false, nil
}

// end stops the answer if it is not complete and notes its figures.
func (a *answer) end() {
	figures := C.gomlx_metrics{struct_size: C.sizeof_gomlx_metrics}
	if C.gomlx_generation_metrics(a.generation, &figures, &a.record) >= 0 {
		metrics := metricsOf(&figures)
		if metrics.StopReason == StopNone {
			metrics.StopReason = StopCancelled // the loop was left
		}
		if a.out != nil {
			*a.out = metrics
		}
		a.model.lastMu.Lock()
		a.model.last = metrics
		a.model.lastMu.Unlock()
	}
	C.gomlx_generation_free(a.generation)
	a.endControl()
}

// chunkOf copies a chunk, which the library overwrites at the next call.
func chunkOf(c *C.gomlx_chunk) Chunk {
	n := int(c.token_count)
	chunk := Chunk{Text: goString(c.text), Request: int(c.request_index)}
	if n == 0 {
		return chunk
	}
	chunk.Tokens = slices.Clone(unsafe.Slice((*uint32)(unsafe.Pointer(c.tokens)), n))
	if c.logprobs != nil {
		chunk.LogProbs = slices.Clone(unsafe.Slice((*float32)(unsafe.Pointer(c.logprobs)), n))
	}
	if c.top_tokens != nil && c.top_logprobs != nil {
		chunk.Top = topOf(c, n)
	}
	return chunk
}

// topOf copies the table of best tokens, a row a token.
func topOf(c *C.gomlx_chunk, rows int) [][]TokenLogProb {
	width := int(c.top_count)
	tokens := unsafe.Slice((*uint32)(unsafe.Pointer(c.top_tokens)), rows*width)
	logprobs := unsafe.Slice((*float32)(unsafe.Pointer(c.top_logprobs)), rows*width)
	all := make([]TokenLogProb, rows*width)
	for i := range all {
		all[i] = TokenLogProb{tokens[i], logprobs[i]}
	}
	return slices.Collect(slices.Chunk(all, max(width, 1)))
}
