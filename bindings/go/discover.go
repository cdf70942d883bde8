package gomlx

/*
#cgo noescape gomlx_discover
#cgo nocallback gomlx_discover
#cgo noescape gomlx_catalog_count
#cgo nocallback gomlx_catalog_count
#cgo noescape gomlx_catalog_get
#cgo nocallback gomlx_catalog_get
#cgo noescape gomlx_catalog_free
#cgo nocallback gomlx_catalog_free
#include "gomlx.h"
*/
import "C"

// Discover looks through dir and the folders below it, also a Hugging Face cache, for models, in the order of their
// paths. Those that Load would refuse have an Err that says why. It reads configs and headers, never weights.
func Discover(dir string) ([]Info, error) {
	const op = "discover"
	if err := checkABI(); err != nil {
		return nil, err
	}
	var record C.gomlx_error
	var catalog *C.gomlx_catalog
	data, length := bytesOf(dir)
	if status := C.gomlx_discover(data, length, &catalog, &record); status < 0 {
		return nil, failure(op, status, &record)
	}
	defer C.gomlx_catalog_free(catalog)
	found := make([]Info, C.gomlx_catalog_count(catalog))
	for i := range found {
		info := C.gomlx_model_info{struct_size: C.sizeof_gomlx_model_info}
		if status := C.gomlx_catalog_get(catalog, C.size_t(i), &info, &record); status < 0 {
			return nil, failure(op, status, &record)
		}
		found[i] = infoOf(&info)
	}
	return found, nil
}
