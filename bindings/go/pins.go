package gomlx

/*
#include "gomlx.h"
*/
import "C"

import (
	"runtime"
	"strings"
	"unsafe"
)

// pins lends Go's memory to one C call: the structs of the call may point to what is pinned. The library keeps none of
// these pointers, so they are let go when the call returns.
type pins struct{ runtime.Pinner }

// notNull is what empty texts point to: NULL means "not given" in a request.
var notNull = new(C.char)

// text lends a string without copying it.
func (p *pins) text(s string) C.gomlx_string {
	if s == "" {
		p.Pin(notNull)
		return C.gomlx_string{data: notNull}
	}
	data := unsafe.StringData(s)
	p.Pin(data)
	return C.gomlx_string{data: (*C.char)(unsafe.Pointer(data)), len: C.size_t(len(s))}
}

// texts lends several strings and the array of them.
func (p *pins) texts(all []string) (*C.gomlx_string, C.size_t) {
	array := make([]C.gomlx_string, len(all))
	for i, s := range all {
		array[i] = p.text(s)
	}
	return pinned(p, array), C.size_t(len(all))
}

// messages lends a conversation.
func (p *pins) messages(all []Message) (*C.gomlx_message, C.size_t) {
	array := make([]C.gomlx_message, len(all))
	for i, m := range all {
		array[i] = C.gomlx_message{role: p.text(m.Role), content: p.text(m.Content)}
	}
	return pinned(p, array), C.size_t(len(all))
}

// tokens lends token ids.
func (p *pins) tokens(all []uint32) (*C.uint32_t, C.size_t) {
	return (*C.uint32_t)(unsafe.Pointer(pinned(p, all))), C.size_t(len(all))
}

// pinned lends a slice's elements; nil where it has none.
func pinned[T any](p *pins, all []T) *T {
	if len(all) == 0 {
		return nil
	}
	first := unsafe.SliceData(all)
	p.Pin(first)
	return first
}

// goString copies a text of the library.
func goString(s C.gomlx_string) string {
	if s.len == 0 {
		return ""
	}
	return strings.Clone(unsafe.String((*byte)(unsafe.Pointer(s.data)), int(s.len)))
}

// bytesOf is a string's memory for a C parameter; C neither changes nor keeps it.
func bytesOf(s string) (*C.char, C.size_t) {
	if s == "" {
		return notNull, 0
	}
	return (*C.char)(unsafe.Pointer(unsafe.StringData(s))), C.size_t(len(s))
}
