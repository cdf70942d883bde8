//go:build gomlx_pkgconfig

package gomlx

/*
#cgo pkg-config: gomlx
*/
import "C"
