package gomlx

/*
#cgo noescape gomlx_model_tokenize
#cgo nocallback gomlx_model_tokenize
#cgo noescape gomlx_model_detokenize
#cgo nocallback gomlx_model_detokenize
#cgo noescape gomlx_model_render_chat
#cgo nocallback gomlx_model_render_chat
#include "gomlx.h"
*/
import "C"

import "unsafe"

// Tokenize turns text into token ids. addSpecial adds what the tokenizer puts around a text, such as a BOS token.
func (m *Model) Tokenize(text string, addSpecial bool) ([]uint32, error) {
	const op = "tokenize"
	handle, err := m.enter(op)
	if err != nil {
		return nil, err
	}
	defer m.leave()
	data, length := bytesOf(text)
	var record C.gomlx_error
	tokens := make([]uint32, len(text)/3+8)
	for {
		var needed C.size_t
		status := C.gomlx_model_tokenize(handle, data, length, flag(addSpecial),
			(*C.uint32_t)(unsafe.Pointer(&tokens[0])), C.size_t(len(tokens)), &needed, &record)
		switch {
		case Status(status) == errBuffer:
			tokens = make([]uint32, needed)
		case status < 0:
			return nil, failure(op, status, &record)
		default:
			return tokens[:needed], nil
		}
	}
}

// Detokenize turns token ids into text. skipSpecial leaves special tokens out.
func (m *Model) Detokenize(tokens []uint32, skipSpecial bool) (string, error) {
	var p pins
	defer p.Unpin()
	data, length := p.tokens(tokens)
	return m.text("detokenize", len(tokens)*8, func(handle *C.gomlx_model, out *C.char, capacity C.size_t,
		needed *C.size_t, record *C.gomlx_error) C.gomlx_status {
		return C.gomlx_model_detokenize(handle, data, length, flag(skipSpecial), out, capacity, needed, record)
	})
}

// RenderChat is the prompt that the model's chat template makes of a conversation. ErrUnsupported for a model without
// a template. Of the options, [WithTemplateVariables] and [WithContinueFinal] matter.
func (m *Model) RenderChat(messages []Message, options ...Option) (string, error) {
	return m.Render(Request{Messages: messages, Options: options})
}

// Render is [Model.RenderChat] of a request's Messages or MessagesJSON.
func (m *Model) Render(request Request) (string, error) {
	const op = "render chat"
	var p pins
	defer p.Unpin()
	c, err := request.toC(op, nil, &p)
	if err != nil {
		return "", err
	}
	return m.text(op, 1024, func(handle *C.gomlx_model, out *C.char, capacity C.size_t, needed *C.size_t,
		record *C.gomlx_error) C.gomlx_status {
		return C.gomlx_model_render_chat(handle, &c.request, out, capacity, needed, record)
	})
}

// text calls what writes a text into a buffer, again with a larger one where guess bytes were too few.
func (m *Model) text(op string, guess int, call func(*C.gomlx_model, *C.char, C.size_t, *C.size_t,
	*C.gomlx_error) C.gomlx_status) (string, error) {
	handle, err := m.enter(op)
	if err != nil {
		return "", err
	}
	defer m.leave()
	var record C.gomlx_error
	buffer := make([]byte, guess+1)
	for {
		var needed C.size_t
		status := call(handle, (*C.char)(unsafe.Pointer(&buffer[0])), C.size_t(len(buffer)), &needed, &record)
		switch {
		case Status(status) == errBuffer:
			buffer = make([]byte, needed+1)
		case status < 0:
			return "", failure(op, status, &record)
		default:
			return string(buffer[:needed]), nil
		}
	}
}

func flag(on bool) C.int32_t {
	if on {
		return 1
	}
	return 0
}
