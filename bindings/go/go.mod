module github.com/gomlx/libgomlx/bindings/go

go 1.24
