// Package gomlx runs language models inside your own process, through libgomlx.
//
//	model, err := gomlx.Load("models/llama-tales-16m-4bit", gomlx.WithContextLength(1024))
//	if err != nil {
//		return err
//	}
//	defer model.Close()
//	for chunk, err := range model.Generate(ctx, "Once upon a time", gomlx.WithMaxTokens(64)) {
//		if err != nil {
//			return err
//		}
//		fmt.Print(chunk.Text)
//	}
//
// # Goroutines
//
// A [Model] may be used by any number of goroutines at once; what they ask for is computed together. An iterator
// belongs to the loop that ranges over it. No goroutine of the caller is ever entered from C: answers are pulled.
//
// # Contexts
//
// A context that ends stops its load, answer or classification within one step of the model. The error then matches
// both [ErrCancelled] or [ErrDeadline] and the context's own [context.Canceled] or [context.DeadlineExceeded].
//
// # Memory
//
// Nothing that the library keeps points into Go's memory, and nothing that this package returns points into C's.
// [Model.Close] gives a model back; a model that is forgotten instead is given back by the garbage collector.
//
// # Linking
//
// The static library is linked by default: from the checkout that this package lies in (after `make library`), else
// from the prefix it was installed to, /usr/local or /usr. Build tags choose otherwise: gomlx_dynamic links the shared
// library from the same places, gomlx_pkgconfig takes whatever `pkg-config gomlx` names. CGO_CFLAGS=-I… and
// CGO_LDFLAGS=-L… are looked through before any of these.
package gomlx
