package gomlx

/*
#cgo noescape gomlx_request_init
#cgo nocallback gomlx_request_init
#include "gomlx.h"
*/
import "C"

import (
	"context"
	"time"
)

// Message is one turn of a conversation.
type Message struct {
	// Role is who speaks: system, user, assistant, or whatever else the model's template knows.
	Role string `json:"role"`
	// Content is what is said.
	Content string `json:"content"`
}

// Request is one request for text: exactly one of Prompt, Tokens, Messages and MessagesJSON, and options.
type Request struct {
	// Prompt is text to continue, encoded with the tokenizer's own beginning (BOS where the model has one).
	Prompt string
	// Tokens are continued as they are.
	Tokens []uint32
	// Messages are a conversation, rendered by the model's chat template.
	Messages []Message
	// MessagesJSON is the same as a JSON array of objects, for templates that read more than role and content.
	MessagesJSON string
	// Options say how the answer is chosen and when it ends.
	Options []Option
}

// Option changes how an answer is chosen and when it ends.
type Option func(*asking)

// asking is a request on its way to C, with what stays in Go.
type asking struct {
	request  C.gomlx_request
	pins     *pins
	err      error
	metrics  *Metrics
	progress *Progress
	timeout  time.Duration
	limited  bool
}

// WithMaxTokens ends the answer after n tokens, at least 1; default: when the context is full, or never where it rolls.
func WithMaxTokens(n int) Option {
	return func(a *asking) { a.request.max_tokens = count("WithMaxTokens", n, &a.err) }
}

// WithTemperature samples: 1 as the model says, less is bolder; 0 (the default) takes the most probable token.
func WithTemperature(t float32) Option {
	return func(a *asking) { a.request.temperature = C.float(t) }
}

// WithTopK samples among the k most probable tokens; 0 (the default): among all.
func WithTopK(k int) Option {
	return func(a *asking) { a.request.top_k = count("WithTopK", k, &a.err) }
}

// WithTopP samples among the most probable tokens that together have probability p; 1 (the default): among all.
func WithTopP(p float32) Option {
	return func(a *asking) { a.request.top_p = C.float(p) }
}

// WithMinP leaves out tokens less probable than part p of the best one's probability; default 0.
func WithMinP(p float32) Option {
	return func(a *asking) { a.request.min_p = C.float(p) }
}

// WithTypicalP samples among the most typical tokens that together have probability p; 1 (the default): among all.
func WithTypicalP(p float32) Option {
	return func(a *asking) { a.request.typical_p = C.float(p) }
}

// WithRepetitionPenalty divides the logits of tokens seen before (multiplies negative ones); 1 (the default) changes
// nothing.
func WithRepetitionPenalty(p float32) Option {
	return func(a *asking) { a.request.repetition_penalty = C.float(p) }
}

// WithPresencePenalty is subtracted from the logits of tokens generated before; default 0.
func WithPresencePenalty(p float32) Option {
	return func(a *asking) { a.request.presence_penalty = C.float(p) }
}

// WithFrequencyPenalty is subtracted as many times as the token was generated before; default 0.
func WithFrequencyPenalty(p float32) Option {
	return func(a *asking) { a.request.frequency_penalty = C.float(p) }
}

// WithPenaltyWindow limits the penalties to the latest n tokens; 0 (the default): all of them.
func WithPenaltyWindow(n int) Option {
	return func(a *asking) { a.request.penalty_window = count("WithPenaltyWindow", n, &a.err) }
}

// WithSeed makes sampling repeatable: same seed, same text. Without it each request draws its own.
func WithSeed(seed uint64) Option {
	return func(a *asking) {
		a.request.seed = C.uint64_t(seed)
		a.request.flags |= C.GOMLX_REQUEST_SEED
	}
}

// WithLogProbs reports, with each token, its log-probability and those of the n best ones.
func WithLogProbs(n int) Option {
	return func(a *asking) { a.request.logprobs = count("WithLogProbs", n, &a.err) }
}

// WithLogitBias adds numbers to the logits of single tokens; minus infinity bans one.
func WithLogitBias(bias map[uint32]float32) Option {
	return func(a *asking) {
		array := make([]C.gomlx_logit_bias, 0, len(bias))
		for token, added := range bias {
			array = append(array, C.gomlx_logit_bias{token: C.uint32_t(token), bias: C.float(added)})
		}
		a.request.logit_bias, a.request.logit_bias_count = pinned(a.pins, array), C.size_t(len(array))
	}
}

// WithStop ends the answer at any of these texts; none of them, nor the beginning of one, is ever part of it.
func WithStop(texts ...string) Option {
	return func(a *asking) { a.request.stop, a.request.stop_count = a.pins.texts(texts) }
}

// WithStopTokens ends the answer at any of these tokens, beside the model's own.
func WithStopTokens(tokens ...uint32) Option {
	return func(a *asking) { a.request.stop_tokens, a.request.stop_token_count = a.pins.tokens(tokens) }
}

// WithRoll goes on when prompt and answer fill the context: the first keep tokens are kept (at most half the context; 0:
// the prompt, as far as that goes), of the others the older half is dropped, and what is left is computed again as if it
// had been the prompt.
func WithRoll(keep int) Option {
	return func(a *asking) {
		a.request.when_full = C.GOMLX_FULL_ROLL
		a.request.keep_tokens = count("WithRoll", keep, &a.err)
	}
}

// WithPriority is admitted before requests of lower priority; default 0.
func WithPriority(priority int) Option {
	return func(a *asking) {
		a.request.priority = C.int32_t(max(-1<<31, min(priority, 1<<31-1)))
	}
}

// WithTimeout fails with ErrDeadline when the answer takes longer, waiting included. A context's deadline does, too.
func WithTimeout(d time.Duration) Option {
	return func(a *asking) { a.timeout, a.limited = d, true }
}

// WithTemplateVariables gives the chat template more variables, as one JSON object: tools, enable_thinking, ….
func WithTemplateVariables(json string) Option {
	return func(a *asking) { a.request.template_variables = a.pins.text(json) }
}

// WithContinueFinal leaves the last message open: the answer continues it.
func WithContinueFinal() Option {
	return func(a *asking) { a.request.flags |= C.GOMLX_REQUEST_CONTINUE_FINAL }
}

// WithIgnoreEnd goes on past the model's own end tokens, for measurements.
func WithIgnoreEnd() Option {
	return func(a *asking) { a.request.flags |= C.GOMLX_REQUEST_IGNORE_END }
}

// WithSpecialInText shows special tokens in the text.
func WithSpecialInText() Option {
	return func(a *asking) { a.request.flags |= C.GOMLX_REQUEST_SPECIAL_IN_TEXT }
}

// WithEcho gives the prompt's text back as the first chunk.
func WithEcho() Option {
	return func(a *asking) { a.request.flags |= C.GOMLX_REQUEST_ECHO }
}

// WithMetrics fills m when the answer ends, also when the loop is left early.
func WithMetrics(m *Metrics) Option {
	return func(a *asking) { a.metrics = m }
}

// WithProgress shows how many tokens of the prompt are computed.
func WithProgress(p *Progress) Option {
	return func(a *asking) { a.progress = p }
}

// toC fills C's struct. What it points to is p's. ctx, which may be nil, gives its deadline.
func (r *Request) toC(op string, ctx context.Context, p *pins) (*asking, error) {
	a := &asking{pins: p}
	var record C.gomlx_error
	if status := C.gomlx_request_init(&a.request, C.sizeof_gomlx_request, &record); status < 0 {
		return nil, failure(op, status, &record)
	}
	c := &a.request
	if len(r.Messages) > 0 {
		c.messages, c.message_count = p.messages(r.Messages)
	}
	if r.MessagesJSON != "" {
		c.messages_json = p.text(r.MessagesJSON)
	}
	c.tokens, c.token_count = p.tokens(r.Tokens)
	if r.Prompt != "" || (c.message_count == 0 && c.token_count == 0 && r.MessagesJSON == "") {
		c.prompt = p.text(r.Prompt)
	}
	for _, option := range r.Options {
		option(a)
	}
	if a.err != nil {
		return nil, a.err
	}
	if ctx != nil {
		c.deadline_ms = C.uint64_t(deadline(ctx))
	}
	if a.limited {
		limit := C.uint64_t(milliseconds(max(a.timeout, time.Nanosecond)))
		if c.deadline_ms == 0 || limit < c.deadline_ms {
			c.deadline_ms = limit
		}
	}
	return a, nil
}
