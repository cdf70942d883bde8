// What the fragments of docs/go.md stand in.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/gomlx/libgomlx/bindings/go"
)

var _, _ = errors.Is, time.Second

@definitions@
func main() {
	ctx := context.Background()
	model, err := gomlx.Load("models/llama-tales-16m-4bit")
	if err != nil {
		log.Fatal(err)
	}
	defer model.Close()
	domains, err := gomlx.Load("models/gemma3-domains-6m-4bit")
	if err != nil {
		log.Fatal(err)
	}
	defer domains.Close()
@fragments@}
