package gomlx

/*
#include "gomlx.h"
*/
import "C"

import "time"

// StopReason is why an answer ended.
type StopReason int32

const (
	// StopNone: it has not ended.
	StopNone = StopReason(C.GOMLX_STOP_NONE)
	// StopEndToken: the model's own end token.
	StopEndToken = StopReason(C.GOMLX_STOP_END_TOKEN)
	// StopStop: a stop text or stop token of the request.
	StopStop = StopReason(C.GOMLX_STOP_STOP)
	// StopMaxTokens: as many tokens as were asked for.
	StopMaxTokens = StopReason(C.GOMLX_STOP_MAX_TOKENS)
	// StopContextFull: the context is full.
	StopContextFull = StopReason(C.GOMLX_STOP_CONTEXT_FULL)
	// StopCancelled: the context was cancelled or the loop left.
	StopCancelled = StopReason(C.GOMLX_STOP_CANCELLED)
	// StopDeadline: the deadline passed.
	StopDeadline = StopReason(C.GOMLX_STOP_DEADLINE)
	// StopError: it failed.
	StopError = StopReason(C.GOMLX_STOP_ERROR)
)

var stopNames = [...]string{
	StopNone: "none", StopEndToken: "end_token", StopStop: "stop", StopMaxTokens: "max_tokens",
	StopContextFull: "context_full", StopCancelled: "cancelled", StopDeadline: "deadline", StopError: "error",
}

// String is the reason's name: end_token, stop, max_tokens, ….
func (r StopReason) String() string {
	if r < 0 || int(r) >= len(stopNames) {
		return "unknown"
	}
	return stopNames[r]
}

// Metrics are one answer's figures. Durations are wall-clock; 0 until known.
type Metrics struct {
	// StopReason is why it ended.
	StopReason StopReason
	// PromptTokens are those of the prompt, CachedTokens those of them taken from the prefix cache instead of being
	// computed, GeneratedTokens those of the answer.
	PromptTokens, CachedTokens, GeneratedTokens int
	// RolledTokens were dropped from the middle because the context was full ([WithRoll]).
	RolledTokens int
	// Queue is the time from the request until it was first scheduled, Prefill from then until the prompt's last token
	// was computed, Decode from then until the last token, FirstToken from the request until the first token was known.
	Queue, Prefill, Decode, FirstToken time.Duration
	// PrefillTokensPerSecond are prompt tokens computed a second of prefill, DecodeTokensPerSecond tokens after the
	// first a second of decode.
	PrefillTokensPerSecond, DecodeTokensPerSecond float64
	// PeakMemory is the most bytes the library held while this answer ran, other models included; ActiveMemory what
	// it held when the figures were taken.
	PeakMemory, ActiveMemory uint64
}

func metricsOf(c *C.gomlx_metrics) Metrics {
	return Metrics{
		StopReason:      StopReason(c.stop_reason),
		PromptTokens:    int(c.prompt_tokens),
		CachedTokens:    int(c.cached_tokens),
		GeneratedTokens: int(c.generated_tokens),
		RolledTokens:    int(c.rolled_tokens),
		Queue:           seconds(c.queue_seconds),
		Prefill:         seconds(c.prefill_seconds),
		Decode:          seconds(c.decode_seconds),
		FirstToken:      seconds(c.first_token_seconds),

		PrefillTokensPerSecond: float64(c.prefill_tokens_per_second),
		DecodeTokensPerSecond:  float64(c.decode_tokens_per_second),
		PeakMemory:             uint64(c.peak_memory),
		ActiveMemory:           uint64(c.active_memory),
	}
}

func seconds(s C.double) time.Duration { return time.Duration(float64(s) * float64(time.Second)) }
