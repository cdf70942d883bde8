// Package inference lets programs written for go-inference (forge.lthn.ai/core/go-inference, the contract of go-mlx
// and go-rocm) run on gomlx, on Linux too, by changing one import line:
//
//	import "github.com/gomlx/libgomlx/bindings/go/inference"
//
//	model, err := inference.LoadModel(dir)
//	…
//	defer model.Close()
//	for token := range model.Generate(ctx, "Hello", inference.WithMaxTokens(64)) {
//		fmt.Print(token.Text)
//	}
//	if err := model.Err(); err != nil {
//		…
//	}
//
// The module proxy does not serve go-inference, so this package does not import it: it declares the same types, options
// and functions, of go-inference as it was when its methods returned errors (v0.1; its later versions return a Result
// of their own). What a program passes on to other packages that take go-inference's types must be converted.
// The backend "gomlx" registers itself when the package is imported, also by a blank import.
//
// More than one goroutine may use a model. Err and Metrics are those of the call that ended last, as in go-inference;
// with several goroutines at once, package gomlx itself tells them apart.
package inference

import (
	"context"
	"iter"
	"time"
)

// Token is one token and the text that it added.
type Token struct {
	ID   int32
	Text string
}

// Message is one turn of a conversation.
type Message struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

// ClassifyResult is the token that follows a prompt.
type ClassifyResult struct {
	Token  Token
	Logits []float32 // of the whole vocabulary; only with WithLogits
}

// BatchResult is one prompt's answer.
type BatchResult struct {
	Tokens []Token
	Err    error
}

// GenerateMetrics are the figures of the call that ended last; of a batch, their sums.
type GenerateMetrics struct {
	PromptTokens    int
	GeneratedTokens int

	PrefillDuration time.Duration
	DecodeDuration  time.Duration
	TotalDuration   time.Duration

	PrefillTokensPerSec float64
	DecodeTokensPerSec  float64

	PeakMemoryBytes   uint64
	ActiveMemoryBytes uint64
}

// ModelInfo describes a model. QuantBits and QuantGroup are 0 where nothing is quantised.
type ModelInfo struct {
	Architecture string
	VocabSize    int
	NumLayers    int
	HiddenSize   int
	QuantBits    int
	QuantGroup   int
}

// TextModel is a loaded model.
type TextModel interface {
	// Generate streams the continuation of a prompt. Err says afterwards whether it was complete.
	Generate(ctx context.Context, prompt string, options ...GenerateOption) iter.Seq[Token]
	// Chat streams the answer to a conversation, through the model's own template.
	Chat(ctx context.Context, messages []Message, options ...GenerateOption) iter.Seq[Token]
	// Classify computes each prompt once and takes the token that follows it.
	Classify(ctx context.Context, prompts []string, options ...GenerateOption) ([]ClassifyResult, error)
	// BatchGenerate continues several prompts together.
	BatchGenerate(ctx context.Context, prompts []string, options ...GenerateOption) ([]BatchResult, error)
	// ModelType is the config's model_type, such as llama.
	ModelType() string
	// Info describes the model.
	Info() ModelInfo
	// Metrics are the figures of the call that ended last.
	Metrics() GenerateMetrics
	// Err is how the Generate or Chat that ended last failed; nil where it did not.
	Err() error
	// Close gives the model back.
	Close() error
}

// Backend loads models.
type Backend interface {
	Name() string
	LoadModel(path string, options ...LoadOption) (TextModel, error)
	Available() bool
}
