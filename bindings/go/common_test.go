package gomlx_test

import (
	"context"
	"iter"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/gomlx/libgomlx/bindings/go"
)

const (
	models  = "../../models/"
	stories = models + "llama-tales-16m-4bit"
	domains = models + "gemma3-domains-6m-4bit"
)

// shared is one model for all tests that only read; nobody closes it.
var shared = sync.OnceValues(func() (*gomlx.Model, error) { return gomlx.Load(stories) })

func storyTeller(t testing.TB) *gomlx.Model {
	t.Helper()
	model, err := shared()
	if err != nil {
		t.Fatal(err)
	}
	return model
}

func load(t testing.TB, path string, options ...gomlx.LoadOption) *gomlx.Model {
	t.Helper()
	model, err := gomlx.Load(path, options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { model.Close() })
	return model
}

// collect ranges to the end.
func collect(answer iter.Seq2[gomlx.Chunk, error]) (string, error) {
	var text strings.Builder
	for chunk, err := range answer {
		if err != nil {
			return text.String(), err
		}
		text.WriteString(chunk.Text)
	}
	return text.String(), nil
}

func must[T any](t testing.TB) func(T, error) T {
	return func(value T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
}

func story(t testing.TB, prompt string, options ...gomlx.Option) string {
	t.Helper()
	return must[string](t)(collect(storyTeller(t).Generate(context.Background(), prompt, options...)))
}

// live counts the library's handles.
func live(t testing.TB) [3]int {
	t.Helper()
	info := must[gomlx.RuntimeInfo](t)(gomlx.Runtime())
	return [3]int{info.LiveControls, info.LiveModels, info.LiveGenerations}
}

func TestMain(m *testing.M) {
	if _, err := os.Stat(stories); err != nil {
		println("the tests need the repository's models:", err.Error())
		os.Exit(1)
	}
	os.Exit(m.Run())
}
