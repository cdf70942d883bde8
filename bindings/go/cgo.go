package gomlx

/*
#cgo !gomlx_pkgconfig CFLAGS: -I${SRCDIR}/../../include -I${SRCDIR}/../../../include -I/usr/local/include
#cgo noescape gomlx_abi_version
#cgo nocallback gomlx_abi_version
#cgo noescape gomlx_version
#cgo nocallback gomlx_version
#cgo linux LDFLAGS: -ldl

#define _GNU_SOURCE
#if defined(__has_include)
#if !__has_include("gomlx.h")
#error "gomlx.h is missing: run `make library` in the checkout or `make install PREFIX=/usr/local`, or set CGO_CFLAGS=-I<prefix>/include and CGO_LDFLAGS=-L<prefix>/lib"
#endif
#endif
#include "gomlx.h"
#ifndef _WIN32
#include <dlfcn.h>
#endif

// The file that the library's code was loaded from; NULL where the system does not say.
static const char *gomlx_go_library_file(void) {
#ifndef _WIN32
	Dl_info info;
	if (dladdr((const void *)(uintptr_t)gomlx_abi_version, &info))
		return info.dli_fname;
#endif
	return 0;
}
*/
import "C"

import (
	"fmt"
	"sync"
)

// ABI is the number of the C interface that this package was built for.
const ABI = C.GOMLX_ABI_VERSION

// Version is the loaded library's version, such as 0.1.0.
func Version() string { return C.GoString(C.gomlx_version()) }

// checkABI refuses a library whose structs and functions may differ from those that this package was built for. With
// the static library they can't; a shared one is found by the system's loader when the program starts.
var checkABI = sync.OnceValue(func() error {
	return abiError(uint32(C.gomlx_abi_version()))
})

func abiError(found uint32) error {
	if found == ABI {
		return nil
	}
	file := "the program itself"
	if name := C.gomlx_go_library_file(); name != nil {
		file = C.GoString(name)
	}
	return &Error{Op: "link", Status: ErrUnsupported,
		Message: fmt.Sprintf("libgomlx in %s has ABI %d, this program was built for %d", file, found, ABI)}
}
