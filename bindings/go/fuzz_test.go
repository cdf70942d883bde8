package gomlx_test

import (
	"encoding/json"
	"errors"
	"testing"
	"unicode/utf8"

	"github.com/gomlx/libgomlx/bindings/go"
)

// FuzzTokenize: any text comes back whole; what is no text is refused.
func FuzzTokenize(f *testing.F) {
	for _, text := range []string{"", "Once upon a time", "Grüße 世界 🌍", "<|begin_of_text|>", "\x00", "\xff", " \t\n  "} {
		f.Add(text)
	}
	model := storyTeller(f)
	f.Fuzz(func(t *testing.T, text string) {
		tokens, err := model.Tokenize(text, false)
		if !utf8.ValidString(text) {
			if !errors.Is(err, gomlx.ErrArgument) {
				t.Fatalf("%q: %v", text, err)
			}
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		back, err := model.Detokenize(tokens, false)
		if err != nil || back != text {
			t.Fatalf("%q became %q, %v", text, back, err)
		}
	})
}

// FuzzDetokenize: any token ids are text or refused.
func FuzzDetokenize(f *testing.F) {
	f.Add([]byte{1, 2, 3, 4}, true)
	model := storyTeller(f)
	f.Fuzz(func(t *testing.T, data []byte, skip bool) {
		tokens := make([]uint32, len(data)/2)
		for i := range tokens {
			tokens[i] = uint32(data[2*i]) | uint32(data[2*i+1])<<8
		}
		text, err := model.Detokenize(tokens, skip)
		if err != nil && !errors.Is(err, gomlx.ErrArgument) {
			t.Fatal(err)
		}
		if !utf8.ValidString(text) {
			t.Fatalf("%v became %q", tokens, text)
		}
	})
}

// FuzzChat: any conversation is rendered or refused, the same as messages and as JSON.
func FuzzChat(f *testing.F) {
	f.Add("user", "Hello", "{}")
	f.Add("", "\x00", `{"tools": [1]}`)
	f.Add("system", "{{ messages }}", "[")
	model := storyTeller(f)
	f.Fuzz(func(t *testing.T, role, content, variables string) {
		messages := []gomlx.Message{{Role: role, Content: content}}
		option := gomlx.WithTemplateVariables(variables)
		text, err := model.RenderChat(messages, option)
		if err != nil {
			if errors.Is(err, gomlx.ErrInternal) {
				t.Fatal(err)
			}
			return
		}
		data, err := json.Marshal(messages)
		if err != nil {
			t.Fatal(err)
		}
		same, err := model.Render(gomlx.Request{MessagesJSON: string(data), Options: []gomlx.Option{option}})
		if err != nil || same != text {
			t.Fatalf("%q, as JSON %q, %v", text, same, err)
		}
	})
}

// FuzzGenerate: any options give an answer within them, or are refused.
func FuzzGenerate(f *testing.F) {
	f.Add("Once", 3, float32(0.7), 5, float32(0.9), float32(0.1), uint64(1), " the")
	f.Add("", -1, float32(-1), -1, float32(2), float32(-3), uint64(0), "")
	model := storyTeller(f)
	f.Fuzz(func(t *testing.T, prompt string, most int, temperature float32, k int, p, m float32, seed uint64, stop string) {
		most %= 8
		var metrics gomlx.Metrics
		text, err := collect(model.Generate(background, prompt, gomlx.WithMaxTokens(most),
			gomlx.WithTemperature(temperature), gomlx.WithTopK(k), gomlx.WithTopP(p), gomlx.WithMinP(m),
			gomlx.WithSeed(seed), gomlx.WithStop(stop), gomlx.WithMetrics(&metrics)))
		if err != nil {
			if !errors.Is(err, gomlx.ErrArgument) && !errors.Is(err, gomlx.ErrContextFull) {
				t.Fatal(err)
			}
			return
		}
		if metrics.GeneratedTokens > most || !utf8.ValidString(text) || metrics.StopReason == gomlx.StopNone {
			t.Fatalf("%q, %+v", text, metrics)
		}
	})
}
