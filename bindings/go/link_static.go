//go:build !gomlx_dynamic && !gomlx_pkgconfig

package gomlx

// macOS's linker knows no "-l:": there, a folder that holds both libraries links the shared one.

/*
#cgo LDFLAGS: -L${SRCDIR}/../../target/release -L${SRCDIR}/../../../lib -L/usr/local/lib
#cgo linux LDFLAGS: -l:libgomlx.a -lgcc_s -lpthread -lm
#cgo windows LDFLAGS: -l:libgomlx.a -lws2_32 -lntdll -luserenv -lbcrypt
#cgo darwin LDFLAGS: -lgomlx
*/
import "C"
