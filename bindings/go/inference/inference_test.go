package inference_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gomlx/libgomlx/bindings/go"
	"github.com/gomlx/libgomlx/bindings/go/inference"
)

const (
	stories = "../../../models/llama-tales-16m-4bit"
	domains = "../../../models/gemma3-domains-6m-4bit"
)

var background = context.Background()

func load(t *testing.T, path string, options ...inference.LoadOption) inference.TextModel {
	t.Helper()
	model, err := inference.LoadModel(path, options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := model.Close(); err != nil {
			t.Error(err)
		}
	})
	return model
}

// direct is what package gomlx says to the same request.
func direct(t *testing.T, path string, request gomlx.Request) (text string, tokens []uint32) {
	t.Helper()
	model, err := gomlx.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	defer model.Close()
	for chunk, err := range model.Run(background, request) {
		if err != nil {
			t.Fatal(err)
		}
		text += chunk.Text
		tokens = append(tokens, chunk.Tokens...)
	}
	return text, tokens
}

func TestRegistersItself(t *testing.T) {
	if !slices.Contains(inference.List(), "gomlx") {
		t.Fatalf("registered: %v", inference.List())
	}
	backend, err := inference.Default()
	if err != nil || backend.Name() != "gomlx" || !backend.Available() {
		t.Fatalf("the default is %v, %v", backend, err)
	}
	for name, one := range inference.All() {
		if name != one.Name() {
			t.Errorf("%s is called %s", one.Name(), name)
		}
	}
	if _, err := inference.LoadModel(stories, inference.WithBackend("rocm")); err == nil || !strings.Contains(err.Error(), "gomlx") {
		t.Errorf("a backend that nobody registered: %v", err)
	}
	if _, err := inference.LoadModel(stories, inference.WithAdapterPath("lora")); !errors.Is(err, gomlx.ErrUnsupported) {
		t.Errorf("an adapter: %v", err)
	}
	if _, err := inference.LoadModel("nowhere"); !errors.Is(err, gomlx.ErrIO) {
		t.Errorf("no model: %v", err)
	}
}

func TestGenerateAndChat(t *testing.T) {
	model := load(t, stories, inference.WithBackend("gomlx"), inference.WithContextLen(512), inference.WithGPULayers(-1))
	limit := []gomlx.Option{gomlx.WithMaxTokens(20)}
	for name, pair := range map[string]struct {
		run func() (string, []int32)
		is  gomlx.Request
	}{
		"generate": {func() (text string, ids []int32) {
			for token := range model.Generate(background, "The dog", inference.WithMaxTokens(20)) {
				text += token.Text
				ids = append(ids, token.ID)
			}
			return
		}, gomlx.Request{Prompt: "The dog", Options: limit}},
		"chat": {func() (text string, ids []int32) {
			for token := range model.Chat(background, []inference.Message{{Role: "user", Content: "Hi"}}, inference.WithMaxTokens(20)) {
				text += token.Text
				ids = append(ids, token.ID)
			}
			return
		}, gomlx.Request{Messages: []gomlx.Message{{Role: "user", Content: "Hi"}}, Options: limit}},
	} {
		text, ids := pair.run()
		wantText, wantTokens := direct(t, stories, pair.is)
		same := slices.EqualFunc(ids, wantTokens, func(a int32, b uint32) bool { return uint32(a) == b })
		if text != wantText || !same || model.Err() != nil {
			t.Errorf("%s: %q %v, want %q %v; %v", name, text, ids, wantText, wantTokens, model.Err())
		}
		metrics := model.Metrics()
		if metrics.GeneratedTokens != 20 || metrics.PromptTokens == 0 || metrics.DecodeTokensPerSec <= 0 ||
			metrics.TotalDuration < metrics.DecodeDuration || metrics.PeakMemoryBytes == 0 {
			t.Errorf("%s: %+v", name, metrics)
		}
	}
	stop := int32(-1)
	for token := range model.Generate(background, "The dog", inference.WithMaxTokens(3)) {
		stop = token.ID
	}
	count := 0
	for range model.Generate(background, "The dog", inference.WithMaxTokens(20), inference.WithStopTokens(stop),
		inference.WithTopK(1), inference.WithTopP(0.5), inference.WithTemperature(0.1), inference.WithRepeatPenalty(1)) {
		count++
	}
	if count > 3 || model.Err() != nil {
		t.Errorf("%d tokens up to the stop token, %v", count, model.Err())
	}
}

func TestErr(t *testing.T) {
	model := load(t, stories)
	ctx, cancel := context.WithTimeout(background, 5*time.Millisecond)
	defer cancel()
	for range model.Generate(ctx, "Once", inference.WithMaxTokens(100000)) {
	}
	if !errors.Is(model.Err(), context.DeadlineExceeded) {
		t.Errorf("error %v", model.Err())
	}
	for range model.Generate(background, "Once", inference.WithMaxTokens(2)) {
	}
	if model.Err() != nil {
		t.Errorf("the next one: %v", model.Err())
	}
	if err := model.Close(); err != nil {
		t.Fatal(err)
	}
	for range model.Generate(background, "Once") {
		t.Error("a token of a closed model")
	}
	if !errors.Is(model.Err(), gomlx.ErrState) {
		t.Errorf("closed: %v", model.Err())
	}
}

func TestClassify(t *testing.T) {
	model := load(t, domains)
	prompts := []string{
		"Sentence: what is my balance at the bank\nDomain:", "Sentence: book a flight to paris\nDomain:",
		"Sentence: how long do i cook rice\nDomain:",
	}
	for _, options := range [][]inference.GenerateOption{nil, {inference.WithLogits(), inference.WithTemperature(0)}} {
		results, err := model.Classify(background, prompts, options...)
		if err != nil {
			t.Fatal(err)
		}
		for i, want := range []string{" banking", " travel", " kitchen"} {
			result := results[i]
			if !strings.HasPrefix(want, result.Token.Text) || result.Token.Text == "" {
				t.Errorf("%d: %+v, want %q", i, result.Token, want)
			}
			if options == nil {
				if result.Logits != nil {
					t.Errorf("%d logits that nobody asked for", len(result.Logits))
				}
				continue
			}
			if len(result.Logits) != model.Info().VocabSize ||
				slices.Index(result.Logits, slices.Max(result.Logits)) != int(result.Token.ID) {
				t.Errorf("%d: token %d is not the best of %d logits", i, result.Token.ID, len(result.Logits))
			}
		}
	}
	if _, err := model.Classify(background, []string{"a", ""}); !errors.Is(err, gomlx.ErrArgument) {
		t.Errorf("an empty prompt: %v", err)
	}
	if results, err := model.Classify(background, nil, inference.WithLogits()); err != nil || len(results) != 0 {
		t.Errorf("nothing: %v, %v", results, err)
	}
}

func TestBatchGenerate(t *testing.T) {
	model := load(t, stories, inference.WithParallelSlots(4))
	prompts := []string{"Once upon a time", "The dog", "", "One day"}
	results, err := model.BatchGenerate(background, prompts, inference.WithMaxTokens(9))
	if err != nil {
		t.Fatal(err)
	}
	for i, prompt := range prompts {
		if prompt == "" {
			if !errors.Is(results[i].Err, gomlx.ErrArgument) {
				t.Errorf("an empty prompt: %v", results[i].Err)
			}
			continue
		}
		text := ""
		for _, token := range results[i].Tokens {
			text += token.Text
		}
		want, _ := direct(t, stories, gomlx.Request{Prompt: prompt, Options: []gomlx.Option{gomlx.WithMaxTokens(9)}})
		if text != want || results[i].Err != nil {
			t.Errorf("%q: %q, %v, want %q", prompt, text, results[i].Err, want)
		}
	}
	if metrics := model.Metrics(); metrics.GeneratedTokens != 27 {
		t.Errorf("metrics %+v", metrics)
	}
}

func TestInfoAndDiscover(t *testing.T) {
	model := load(t, stories)
	info := model.Info()
	if model.ModelType() != "llama" || info.Architecture != "llama" || info.NumLayers != 8 || info.VocabSize != 8192 ||
		info.QuantBits != 4 || info.QuantGroup != 64 || info.HiddenSize == 0 {
		t.Errorf("%s: %+v", model.ModelType(), info)
	}
	found := 0
	for one := range inference.Discover("../../../models") {
		found++
		if one.QuantBits != 4 || one.QuantGroup != 64 || one.NumFiles != 1 || one.ModelType == "" {
			t.Errorf("found %+v", one)
		}
		load(t, one.Path)
	}
	if found != 2 {
		t.Errorf("%d models", found)
	}
}
