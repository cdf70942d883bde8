//go:build gomlx_bench

package gomlx

/*
#include "gomlx.h"

// The loop that answer.next is compared to: what a C program spends on the chunks of a complete answer.
static size_t gomlx_go_drain(gomlx_generation *generation, gomlx_error *error) {
	gomlx_chunk chunk = {.struct_size = sizeof chunk};
	size_t tokens = 0;
	while (gomlx_generation_next(generation, -1, &chunk, error) == GOMLX_OK)
		tokens += chunk.token_count;
	return tokens;
}
*/
import "C"

// drainInC pulls the rest of the answer in C and says how many tokens that were.
func (a *answer) drainInC() int { return int(C.gomlx_go_drain(a.generation, &a.record)) }

// complete says whether all of the answer is computed, though not yet pulled.
func (a *answer) complete() bool {
	figures := C.gomlx_metrics{struct_size: C.sizeof_gomlx_metrics}
	return C.gomlx_generation_metrics(a.generation, &figures, &a.record) < 0 || figures.stop_reason != C.GOMLX_STOP_NONE
}
