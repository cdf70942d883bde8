//go:build gomlx_dynamic && !gomlx_pkgconfig

package gomlx

// The places where it was looked for when linking are looked through when running, too, after those of the system.

/*
#cgo LDFLAGS: -L${SRCDIR}/../../target/release -L${SRCDIR}/../../../lib -L/usr/local/lib -lgomlx
#cgo !windows LDFLAGS: -Wl,-rpath,${SRCDIR}/../../target/release -Wl,-rpath,${SRCDIR}/../../../lib -Wl,-rpath,/usr/local/lib
*/
import "C"
