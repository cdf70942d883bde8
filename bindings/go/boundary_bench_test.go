//go:build gomlx_bench

package gomlx

import (
	"context"
	"testing"
	"time"
)

// BenchmarkPull is what pulling one token costs once it is computed: by Go's iterator and by a loop in C. The difference
// is the boundary. `go test -tags gomlx_bench -bench Pull -count 10 | benchstat -col /from -`.
func BenchmarkPull(b *testing.B) {
	b.Run("from=go", func(b *testing.B) {
		pull(b, context.Background(), func(a *answer) (tokens int) {
			for {
				chunk, done, err := a.next()
				if done {
					if err != nil {
						b.Error(err)
					}
					return tokens
				}
				tokens += len(chunk.Tokens)
			}
		})
	})
	b.Run("from=c", func(b *testing.B) {
		pull(b, context.Background(), (*answer).drainInC)
	})
}

func pull(b *testing.B, ctx context.Context, drain func(*answer) int) {
	model, err := Load("../../models/llama-tales-16m-4bit")
	if err != nil {
		b.Fatal(err)
	}
	defer model.Close()
	const length = 1000
	request := Request{Prompt: "Once upon a time", Options: []Option{WithMaxTokens(length), WithIgnoreEnd()}}
	b.ReportAllocs()
	b.ResetTimer()
	b.StopTimer()
	for pulled := 0; pulled < b.N; {
		a, err := model.start(ctx, &request)
		if err != nil {
			b.Fatal(err)
		}
		// Computed whether or not anybody asks: then waiting for the model is not in the figure.
		for !a.complete() {
			time.Sleep(time.Millisecond)
		}
		b.StartTimer()
		tokens := drain(a)
		b.StopTimer()
		if tokens != length {
			b.Fatalf("%d tokens", tokens)
		}
		pulled += tokens
		a.end()
	}
}
