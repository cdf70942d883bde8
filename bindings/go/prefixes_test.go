package gomlx_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/gomlx/libgomlx/bindings/go"
)

func TestPrefixesSurviveARestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "prefixes")
	var first, again gomlx.Metrics
	prompt := "Once upon a time there was a king who had a dog, and the dog had a ball."
	model := load(t, stories)
	want := must[string](t)(collect(model.Generate(background, prompt, gomlx.WithMaxTokens(9), gomlx.WithMetrics(&first))))
	saved := must[int](t)(model.SavePrefixes(path))
	model = load(t, stories)
	if taken := must[int](t)(model.RestorePrefixes(path)); taken != saved || saved < first.PromptTokens {
		t.Errorf("%d tokens saved, %d restored, of a prompt of %d", saved, taken, first.PromptTokens)
	}
	text := must[string](t)(collect(model.Generate(background, prompt, gomlx.WithMaxTokens(9), gomlx.WithMetrics(&again))))
	if text != want || again.CachedTokens != first.PromptTokens-1 {
		t.Errorf("%q with %d cached tokens, want %q", text, again.CachedTokens, want)
	}
	if err := os.WriteFile(path, []byte("something else"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := model.RestorePrefixes(path); !errors.Is(err, gomlx.ErrFormat) {
		t.Errorf("something else was restored: %v", err)
	}
}

func TestRollGoesOnPastTheContext(t *testing.T) {
	var metrics gomlx.Metrics
	model := load(t, stories, gomlx.WithContextLength(64))
	answer := model.Generate(background, "Once", endless(gomlx.WithMaxTokens(200), gomlx.WithRoll(0), gomlx.WithMetrics(&metrics))...)
	if _, err := collect(answer); err != nil {
		t.Fatal(err)
	}
	if metrics.GeneratedTokens != 200 || metrics.RolledTokens < 100 || metrics.StopReason != gomlx.StopMaxTokens {
		t.Errorf("%+v", metrics)
	}
}
