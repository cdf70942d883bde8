package gomlx

/*
#cgo noescape gomlx_control_new
#cgo nocallback gomlx_control_new
#cgo noescape gomlx_control_clone
#cgo nocallback gomlx_control_clone
#cgo noescape gomlx_control_cancel
#cgo nocallback gomlx_control_cancel
#cgo noescape gomlx_control_progress
#cgo nocallback gomlx_control_progress
#cgo noescape gomlx_control_free
#cgo nocallback gomlx_control_free
#include "gomlx.h"
*/
import "C"

import (
	"context"
	"runtime"
	"sync/atomic"
	"time"
)

// Progress shows how far a load or a prompt is. Give it to [WithLoadProgress] or [WithProgress] and ask it from any
// goroutine. The zero value is ready. It shows the operation that it was given to last.
type Progress struct {
	watched atomic.Pointer[ownedControl]
}

// ownedControl is a control that the garbage collector frees.
type ownedControl struct{ c *C.gomlx_control }

// Done is how much is done and of how much: bytes of a load, tokens of a prompt. Both are 0 before it begins.
func (p *Progress) Done() (done, total uint64) {
	owned := p.watched.Load()
	if owned == nil {
		return 0, 0
	}
	var d, t C.uint64_t
	C.gomlx_control_progress(owned.c, &d, &t, nil)
	runtime.KeepAlive(owned)
	return uint64(d), uint64(t)
}

// watch makes p show what control is given to.
func (p *Progress) watch(control *C.gomlx_control) {
	owned := &ownedControl{C.gomlx_control_clone(control)}
	runtime.AddCleanup(owned, func(c *C.gomlx_control) { C.gomlx_control_free(c) }, owned.c)
	p.watched.Store(owned)
}

// nothing is the end of an operation that no context can end.
func nothing() {}

// control makes what stops an operation when ctx ends and shows its progress; NULL where neither is wanted. The
// operation calls end when it is over.
func control(op string, ctx context.Context, progress *Progress) (c *C.gomlx_control, end func(), err error) {
	if ctx.Err() != nil {
		return nil, nil, contextError(op, ctx)
	}
	if ctx.Done() == nil && progress == nil {
		return nil, nothing, nil
	}
	c = C.gomlx_control_new()
	if c == nil {
		return nil, nil, &Error{Op: op, Status: ErrInternal, Message: "no control could be made"}
	}
	if progress != nil {
		progress.watch(c)
	}
	if ctx.Done() == nil {
		return c, func() { C.gomlx_control_free(c) }, nil
	}
	// It runs on a goroutine of its own, perhaps after the operation's end: it owns a clone.
	clone := C.gomlx_control_clone(c)
	stop := context.AfterFunc(ctx, func() {
		C.gomlx_control_cancel(clone)
		C.gomlx_control_free(clone)
	})
	return c, func() {
		if stop() {
			C.gomlx_control_free(clone)
		}
		C.gomlx_control_free(c)
	}, nil
}

// deadline is the time that ctx leaves, in milliseconds rounded up; 0 where it sets none. The library needs it as well
// as the cancel: it refuses what waits in its queue for too long.
func deadline(ctx context.Context) uint64 {
	at, ok := ctx.Deadline()
	if !ok {
		return 0
	}
	return milliseconds(max(time.Until(at), time.Nanosecond))
}

// milliseconds rounds up; a duration above zero never becomes 0, which means no limit.
func milliseconds(d time.Duration) uint64 {
	return (uint64(d) + uint64(time.Millisecond) - 1) / uint64(time.Millisecond)
}
