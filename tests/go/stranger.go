// A program of somebody who has only the installed library: scripts/go-tests builds it in an empty module.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/gomlx/libgomlx/bindings/go"
)

func main() {
	model, err := gomlx.Load(os.Args[1])
	if err == nil {
		defer model.Close()
		for chunk, failed := range model.Generate(context.Background(), "Once upon a time", gomlx.WithMaxTokens(11)) {
			err = failed
			fmt.Print(chunk.Text)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
