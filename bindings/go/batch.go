package gomlx

import (
	"context"
	"iter"
	"sync"
)

// GenerateBatch computes several answers together. Chunks come as they are known; their Request says whose they are.
// A request that fails leaves the others alone: its error comes with a Chunk that holds nothing but Request. Each
// answer is what it would be alone. Leaving the loop stops all of them.
func (m *Model) GenerateBatch(ctx context.Context, requests []Request) iter.Seq2[Chunk, error] {
	type event struct {
		chunk Chunk
		err   error
	}
	return func(yield func(Chunk, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		events, left := make(chan event), make(chan struct{})
		var workers sync.WaitGroup
		// When the loop is left, nobody receives any more. The workers are waited for, so that nothing of the batch
		// goes on behind the caller's back.
		defer workers.Wait()
		defer close(left)
		defer cancel()

		next := make(chan int)
		// As many at a time as are computed together, and some more so that none of those places waits for Go.
		for range min(len(requests), m.sequences+m.sequences/2+1) {
			workers.Add(1)
			go func() {
				defer workers.Done()
				for index := range next {
					for chunk, err := range m.Run(ctx, requests[index]) {
						chunk.Request = index
						select {
						case events <- event{chunk, err}:
						case <-left:
						}
					}
				}
			}()
		}
		go func() {
			defer close(events)
			defer workers.Wait()
			defer close(next)
			for index := range requests {
				next <- index
			}
		}()
		for e := range events {
			if !yield(e.chunk, e.err) {
				return
			}
		}
	}
}
