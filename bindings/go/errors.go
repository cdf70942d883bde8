package gomlx

/*
#include "gomlx.h"
*/
import "C"

import (
	"context"
	"errors"
)

// Status is the kind of a failure. Each is an error of its own, for errors.Is.
type Status int32

// What can go wrong. An error of this package matches exactly one of them.
const (
	// ErrArgument: something that can never be right, such as invalid UTF-8 or a temperature below zero.
	ErrArgument = Status(C.GOMLX_ERR_ARGUMENT)
	// ErrState: right call, wrong moment, such as any call after [Model.Close].
	ErrState = Status(C.GOMLX_ERR_STATE)
	// ErrIO: the operating system refused; a file is missing or may not be read.
	ErrIO = Status(C.GOMLX_ERR_IO)
	// ErrFormat: a file was read but does not hold what its format promises.
	ErrFormat = Status(C.GOMLX_ERR_FORMAT)
	// ErrUnsupported: well-formed, but not something the library can run.
	ErrUnsupported = Status(C.GOMLX_ERR_UNSUPPORTED)
	// ErrMemory: the memory limit, or the machine's memory, does not allow it.
	ErrMemory = Status(C.GOMLX_ERR_MEMORY)
	// ErrContextFull: the prompt does not fit the context.
	ErrContextFull = Status(C.GOMLX_ERR_CONTEXT_FULL)
	// ErrCancelled: the context was cancelled. Also matches [context.Canceled].
	ErrCancelled = Status(C.GOMLX_ERR_CANCELLED)
	// ErrBackend: the device that computes failed.
	ErrBackend = Status(C.GOMLX_ERR_BACKEND)
	// ErrInternal: a defect of the library; the message says where.
	ErrInternal = Status(C.GOMLX_ERR_INTERNAL)
	// ErrBusy: too many requests wait already.
	ErrBusy = Status(C.GOMLX_ERR_BUSY)
	// ErrForked: the process forked after the model was loaded.
	ErrForked = Status(C.GOMLX_ERR_FORKED)
	// ErrDeadline: the deadline passed. Also matches [context.DeadlineExceeded].
	ErrDeadline = Status(C.GOMLX_ERR_DEADLINE)
)

// errBuffer never leaves this package: the call is made again with a larger buffer.
const errBuffer = Status(C.GOMLX_ERR_BUFFER)

var statusNames = map[Status]string{
	ErrArgument: "bad argument", ErrState: "wrong state", ErrIO: "input/output", ErrFormat: "bad format",
	ErrUnsupported: "unsupported", ErrMemory: "out of memory", ErrContextFull: "context full",
	errBuffer: "buffer too small", ErrCancelled: "cancelled", ErrBackend: "backend failed",
	ErrInternal: "internal defect", ErrBusy: "busy", ErrForked: "forked", ErrDeadline: "deadline passed",
}

// Error says the kind in words.
func (s Status) Error() string {
	if name, ok := statusNames[s]; ok {
		return "gomlx: " + name
	}
	return "gomlx: unknown status"
}

// Error is what every failing call of this package returns.
type Error struct {
	// Op is what was asked for: load, generate, tokenize, ….
	Op string
	// Status is the kind of failure.
	Status Status
	// Message is the library's, one line: which file, key, tensor or value.
	Message string

	cause error
}

// Error is the message with what was asked for.
func (e *Error) Error() string { return "gomlx: " + e.Op + ": " + e.Message }

// Unwrap makes errors.Is find the status and, where a context ended it, the context's error and its cause.
func (e *Error) Unwrap() []error {
	switch {
	case e.cause != nil:
		return []error{e.Status, e.cause}
	case e.Status == ErrDeadline:
		return []error{e.Status, context.DeadlineExceeded}
	default:
		return []error{e.Status}
	}
}

// failure turns the record that a failed call filled into an error.
func failure(op string, status C.gomlx_status, record *C.gomlx_error) error {
	return &Error{Op: op, Status: Status(status), Message: C.GoString(&record.message[0])}
}

// inContext says of a cancelled operation how its context ended: by whom or that its deadline passed.
func inContext(ctx context.Context, err error) error {
	ended := ctx.Err()
	e, ok := err.(*Error)
	if !ok || ended == nil || (e.Status != ErrCancelled && e.Status != ErrDeadline) {
		return err
	}
	return contextError(e.Op, ctx)
}

// contextError is the error of an operation whose context is over.
func contextError(op string, ctx context.Context) error {
	e := &Error{Op: op, Status: ErrCancelled, cause: ctx.Err()}
	if errors.Is(e.cause, context.DeadlineExceeded) {
		e.Status = ErrDeadline
	}
	e.Message = e.cause.Error()
	if cause := context.Cause(ctx); cause != e.cause {
		e.Message += ": " + cause.Error()
		e.cause = errors.Join(e.cause, cause)
	}
	return e
}
