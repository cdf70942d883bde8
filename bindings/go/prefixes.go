package gomlx

/*
#cgo noescape gomlx_model_save_prefixes
#cgo nocallback gomlx_model_save_prefixes
#cgo noescape gomlx_model_restore_prefixes
#cgo nocallback gomlx_model_restore_prefixes
#include "gomlx.h"
*/
import "C"

// SavePrefixes writes what the prefix cache holds to a file, so that [Model.RestorePrefixes] need not compute it after
// a restart, and returns the tokens saved. The file is replaced when all is written, and left alone when that fails.
func (m *Model) SavePrefixes(path string) (int, error) {
	const op = "save prefixes"
	handle, err := m.enter(op)
	if err != nil {
		return 0, err
	}
	defer m.leave()
	data, length := bytesOf(path)
	var record C.gomlx_error
	var tokens C.size_t
	if status := C.gomlx_model_save_prefixes(handle, data, length, &tokens, &record); status < 0 {
		return 0, failure(op, status, &record)
	}
	return int(tokens), nil
}

// RestorePrefixes takes what [Model.SavePrefixes] wrote into the prefix cache, as far as its budget goes, and returns
// the tokens taken. ErrFormat for a file that is damaged or of another checkpoint, setting or processor.
func (m *Model) RestorePrefixes(path string) (int, error) {
	const op = "restore prefixes"
	handle, err := m.enter(op)
	if err != nil {
		return 0, err
	}
	defer m.leave()
	data, length := bytesOf(path)
	var record C.gomlx_error
	var tokens C.size_t
	if status := C.gomlx_model_restore_prefixes(handle, data, length, &tokens, &record); status < 0 {
		return 0, failure(op, status, &record)
	}
	return int(tokens), nil
}
