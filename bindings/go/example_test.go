package gomlx_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"strings"
	"sync"
	"time"

	"github.com/gomlx/libgomlx/bindings/go"
)

func Example() {
	model, err := gomlx.Load("../../models/llama-tales-16m-4bit", gomlx.WithContextLength(1024))
	if err != nil {
		log.Fatal(err)
	}
	defer model.Close()
	for chunk, err := range model.Generate(context.Background(), "Once upon a time", gomlx.WithMaxTokens(11)) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Print(chunk.Text)
	}
	// Output: , there was a little girl named Lily. She loved
}

func ExampleModel_Chat() {
	model, err := gomlx.Load("../../models/llama-tales-16m-4bit")
	if err != nil {
		log.Fatal(err)
	}
	defer model.Close()
	conversation := []gomlx.Message{{Role: "user", Content: "Tell me about the sea."}}
	var answer strings.Builder
	for chunk, err := range model.Chat(context.Background(), conversation, gomlx.WithMaxTokens(12)) {
		if err != nil {
			log.Fatal(err)
		}
		answer.WriteString(chunk.Text)
	}
	conversation = append(conversation, gomlx.Message{Role: "assistant", Content: answer.String()})
	fmt.Println(conversation[1].Content)
	// Output: Once upon a time, there was a little girl named Lily
}

func ExampleModel_Classify() {
	model, err := gomlx.Load("../../models/gemma3-domains-6m-4bit")
	if err != nil {
		log.Fatal(err)
	}
	defer model.Close()
	labels := []string{" banking", " travel", " kitchen and dining", " work"}
	results, err := model.Classify(context.Background(), gomlx.ClassifyRequest{
		Pattern: "Sentence: {text}\nDomain:",
		Texts:   []string{"what is my balance at the bank", "book a flight to paris"},
		Labels:  labels,
	})
	if err != nil {
		log.Fatal(err)
	}
	for _, result := range results {
		fmt.Println(strings.TrimSpace(labels[result.Label]), result.Probability > 0.5)
	}
	// Output:
	// banking true
	// travel true
}

func ExampleModel_Generate_deadline() {
	model, err := gomlx.Load("../../models/llama-tales-16m-4bit")
	if err != nil {
		log.Fatal(err)
	}
	defer model.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Millisecond)
	defer cancel()
	for _, err := range model.Generate(ctx, "Once upon a time", gomlx.WithIgnoreEnd()) {
		switch {
		case errors.Is(err, context.DeadlineExceeded): // also gomlx.ErrDeadline
			fmt.Println("too slow")
		case err != nil:
			log.Fatal(err)
		}
	}
	// Output: too slow
}

func ExampleModel_GenerateBatch() {
	model, err := gomlx.Load("../../models/llama-tales-16m-4bit", gomlx.WithPrecision(gomlx.PrecisionExact))
	if err != nil {
		log.Fatal(err)
	}
	defer model.Close()
	short := []gomlx.Option{gomlx.WithMaxTokens(6)}
	requests := []gomlx.Request{
		{Prompt: "Once upon a time", Options: short},
		{Prompt: "The little dog was sad because", Options: short},
	}
	answers := make([]string, len(requests))
	for chunk, err := range model.GenerateBatch(context.Background(), requests) {
		if err != nil {
			log.Fatal(err)
		}
		answers[chunk.Request] += chunk.Text
	}
	fmt.Printf("%q\n", answers)
	// Output: [", there was a little girl" " he couldn't find his home"]
}

// Any number of goroutines may share a model: what they ask for is computed together.
func ExampleModel_goroutines() {
	model, err := gomlx.Load("../../models/llama-tales-16m-4bit")
	if err != nil {
		log.Fatal(err)
	}
	defer model.Close()
	var group sync.WaitGroup
	for range 4 {
		group.Add(1)
		go func() {
			defer group.Done()
			for _, err := range model.Generate(context.Background(), "The sea", gomlx.WithMaxTokens(8)) {
				if err != nil {
					log.Print(err)
				}
			}
		}()
	}
	group.Wait()
	fmt.Println(model.Metrics().GeneratedTokens)
	// Output: 8
}

func ExampleDiscover() {
	found, err := gomlx.Discover("../../models")
	if err != nil {
		log.Fatal(err)
	}
	for _, info := range found {
		if info.Err == nil {
			fmt.Println(info.Name, info.Family, info.QuantisationBits)
		}
	}
	// Output:
	// gemma3-domains-6m-4bit gemma3_text 4
	// llama-tales-16m-4bit llama 4
}
