package gomlx

/*
#cgo noescape gomlx_classify_request_init
#cgo nocallback gomlx_classify_request_init
#cgo noescape gomlx_classify
#cgo nocallback gomlx_classify
#cgo noescape gomlx_score
#cgo nocallback gomlx_score
#cgo noescape gomlx_embed
#cgo nocallback gomlx_embed
#include "gomlx.h"
*/
import "C"

import (
	"context"
	"slices"
	"unsafe"
)

// ClassifyRequest asks which of several labels fits each of many texts.
type ClassifyRequest struct {
	// Pattern is plain text around {text}, which stands in it once: "Sentence: {text}\nDomain:".
	Pattern string
	// Messages are a conversation instead, whose contents hold {text} once, rendered by the model's chat template.
	Messages []Message
	// Texts are what is classified.
	Texts []string
	// Labels are the answers to choose from, as they would follow the prompt: mind a leading space.
	Labels []string
	// Logits asks for the logits of the token after each prompt: the model's vocabulary a text.
	Logits bool
}

// Classification is one text's result.
type Classification struct {
	// Label is the most probable label's index; the first of equals.
	Label int
	// LogProb is the natural log-probability of that label's tokens after the prompt, Probability the label's
	// probability among the labels.
	LogProb, Probability float32
	// PromptTokens are the tokens of its prompt.
	PromptTokens int
	// LogProbs and Probabilities are those of all labels.
	LogProbs, Probabilities []float32
	// Logits are those of the token after the prompt; nil unless asked for.
	Logits []float32
}

// Classify labels every text, in prefill only, each as it would be alone. It stops when ctx ends.
func (m *Model) Classify(ctx context.Context, request ClassifyRequest) ([]Classification, error) {
	const op = "classify"
	var p pins
	defer p.Unpin()
	var record C.gomlx_error
	var c C.gomlx_classify_request
	if status := C.gomlx_classify_request_init(&c, C.sizeof_gomlx_classify_request, &record); status < 0 {
		return nil, failure(op, status, &record)
	}
	c.pattern = p.text(request.Pattern)
	c.messages, c.message_count = p.messages(request.Messages)
	c.texts, c.text_count = p.texts(request.Texts)
	c.labels, c.label_count = p.texts(request.Labels)
	c.deadline_ms = C.uint64_t(deadline(ctx))

	texts, labels := len(request.Texts), len(request.Labels)
	results := make([]C.gomlx_classification, texts)
	logprobs, probabilities := make([]float32, texts*labels), make([]float32, texts*labels)
	var logits []float32
	vocabulary := 0
	if request.Logits {
		info, err := m.Info()
		if err != nil {
			return nil, err
		}
		vocabulary = info.Vocabulary
		logits = make([]float32, texts*vocabulary)
	}
	err := m.compute(op, ctx, &record, func(handle *C.gomlx_model, control *C.gomlx_control) C.gomlx_status {
		c.control = control
		return C.gomlx_classify(handle, &c, unsafe.SliceData(results), C.size_t(texts), floats(logprobs),
			floats(probabilities), floats(logits), &record)
	})
	if err != nil {
		return nil, err
	}
	out := make([]Classification, texts)
	for i, r := range results {
		out[i] = Classification{
			Label: int(r.label), LogProb: float32(r.logprob), Probability: float32(r.probability),
			PromptTokens: int(r.prompt_tokens),
			LogProbs:     row(logprobs, i, labels), Probabilities: row(probabilities, i, labels),
		}
		if request.Logits {
			out[i].Logits = row(logits, i, vocabulary)
		}
	}
	return out, nil
}

// Score is how probable a continuation is.
type Score struct {
	// LogProb is the natural log-probability of all its tokens together.
	LogProb float32
	// Tokens are how many.
	Tokens int
}

// Score says how probable each continuation is after the prompt of request, whose options that choose tokens are not
// looked at. Each is tokenized by itself. It stops when ctx ends.
func (m *Model) Score(ctx context.Context, request Request, continuations []string) ([]Score, error) {
	const op = "score"
	var p pins
	defer p.Unpin()
	asked, err := request.toC(op, ctx, &p)
	if err != nil {
		return nil, err
	}
	texts, count := p.texts(continuations)
	logprobs, tokens := make([]float32, len(continuations)), make([]uint32, len(continuations))
	var record C.gomlx_error
	err = m.compute(op, ctx, &record, func(handle *C.gomlx_model, control *C.gomlx_control) C.gomlx_status {
		asked.request.control = control
		return C.gomlx_score(handle, &asked.request, texts, count, floats(logprobs),
			(*C.uint32_t)(unsafe.Pointer(unsafe.SliceData(tokens))), &record)
	})
	if err != nil {
		return nil, err
	}
	out := make([]Score, len(continuations))
	for i := range out {
		out[i] = Score{LogProb: logprobs[i], Tokens: int(tokens[i])}
	}
	return out, nil
}

// Pooling is how a text's hidden states become one vector.
type Pooling int32

const (
	// PoolingMean is the mean over all tokens.
	PoolingMean = Pooling(C.GOMLX_POOLING_MEAN)
	// PoolingLast is the last token's.
	PoolingLast = Pooling(C.GOMLX_POOLING_LAST)
)

// Embed is one vector of length one for each text, as wide as Info.Hidden: the hidden states after the last norm,
// pooled. It stops when ctx ends.
func (m *Model) Embed(ctx context.Context, texts []string, pooling Pooling) ([][]float32, error) {
	const op = "embed"
	info, err := m.Info()
	if err != nil {
		return nil, err
	}
	var p pins
	defer p.Unpin()
	array, count := p.texts(texts)
	vectors := make([]float32, len(texts)*info.Hidden)
	var record C.gomlx_error
	err = m.compute(op, ctx, &record, func(handle *C.gomlx_model, control *C.gomlx_control) C.gomlx_status {
		return C.gomlx_embed(handle, array, count, C.gomlx_pooling(pooling), control, floats(vectors),
			C.size_t(len(vectors)), &record)
	})
	if err != nil {
		return nil, err
	}
	out := make([][]float32, len(texts))
	for i := range out {
		out[i] = row(vectors, i, info.Hidden)
	}
	return out, nil
}

// compute runs one call that ctx can stop.
func (m *Model) compute(op string, ctx context.Context, record *C.gomlx_error,
	call func(*C.gomlx_model, *C.gomlx_control) C.gomlx_status) error {
	control, end, err := control(op, ctx, nil)
	if err != nil {
		return err
	}
	defer end()
	handle, err := m.enter(op)
	if err != nil {
		return err
	}
	defer m.leave()
	if status := call(handle, control); status < 0 {
		return inContext(ctx, failure(op, status, record))
	}
	return nil
}

// row is a copy-free view of row i of a table, which appending to does not run over the next.
func row(table []float32, i, width int) []float32 {
	return slices.Clip(table[i*width : (i+1)*width])
}

// floats is a table as C sees it; NULL where it is empty.
func floats(table []float32) *C.float {
	return (*C.float)(unsafe.Pointer(unsafe.SliceData(table)))
}
