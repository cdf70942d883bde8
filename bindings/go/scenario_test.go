package gomlx_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gomlx/libgomlx/bindings/go"
)

// scenario is an entry of tests/scenarios/*.json, whose README says what the fields mean.
type scenario struct {
	Name    string
	Model   string
	Options struct {
		Precision     string
		ContextLength int `json:"context_length"`
	}
	Request struct {
		Prompt            string
		Tokens            []uint32
		Messages          []gomlx.Message
		MessagesJSON      string   `json:"messages_json"`
		TemplateVariables string   `json:"template_variables"`
		MaxTokens         *int     `json:"max_tokens"`
		Temperature       *float32 `json:"temperature"`
		TopK              *int     `json:"top_k"`
		TopP              *float32 `json:"top_p"`
		MinP              *float32 `json:"min_p"`
		RepetitionPenalty *float32 `json:"repetition_penalty"`
		Seed              *uint64
		Stop              []string
		StopTokens        []uint32 `json:"stop_tokens"`
		LogitBias         []struct {
			Token uint32
			Bias  float32
		} `json:"logit_bias"`
		DeadlineMS uint64 `json:"deadline_ms"`
		Flags      []string
	}
	Expect struct {
		Status          string
		Message         string
		Text            *string
		TextBegins      string `json:"text_begins"`
		StopReason      string `json:"stop_reason"`
		PromptTokens    *int   `json:"prompt_tokens"`
		GeneratedTokens *int   `json:"generated_tokens"`
	}
}

var statuses = map[string]gomlx.Status{
	"argument": gomlx.ErrArgument, "state": gomlx.ErrState, "io": gomlx.ErrIO, "format": gomlx.ErrFormat,
	"unsupported": gomlx.ErrUnsupported, "memory": gomlx.ErrMemory, "context_full": gomlx.ErrContextFull,
	"cancelled": gomlx.ErrCancelled, "busy": gomlx.ErrBusy, "deadline": gomlx.ErrDeadline,
}

func (s *scenario) load() (*gomlx.Model, error) {
	var options []gomlx.LoadOption
	if s.Options.Precision == "exact" {
		options = append(options, gomlx.WithPrecision(gomlx.PrecisionExact))
	}
	if s.Options.ContextLength != 0 {
		options = append(options, gomlx.WithContextLength(s.Options.ContextLength))
	}
	return gomlx.Load(models+s.Model, options...)
}

// given appends the option that value, where the scenario has one, makes.
func given[T any](options *[]gomlx.Option, value *T, option func(T) gomlx.Option) {
	if value != nil {
		*options = append(*options, option(*value))
	}
}

func (s *scenario) request(t *testing.T, metrics *gomlx.Metrics) gomlx.Request {
	r := &s.Request
	options := []gomlx.Option{gomlx.WithMetrics(metrics)}
	given(&options, r.MaxTokens, gomlx.WithMaxTokens)
	given(&options, r.Temperature, gomlx.WithTemperature)
	given(&options, r.TopK, gomlx.WithTopK)
	given(&options, r.TopP, gomlx.WithTopP)
	given(&options, r.MinP, gomlx.WithMinP)
	given(&options, r.RepetitionPenalty, gomlx.WithRepetitionPenalty)
	given(&options, r.Seed, gomlx.WithSeed)
	if r.TemplateVariables != "" {
		options = append(options, gomlx.WithTemplateVariables(r.TemplateVariables))
	}
	if r.Stop != nil {
		options = append(options, gomlx.WithStop(r.Stop...))
	}
	if r.StopTokens != nil {
		options = append(options, gomlx.WithStopTokens(r.StopTokens...))
	}
	if r.LogitBias != nil {
		bias := map[uint32]float32{}
		for _, b := range r.LogitBias {
			bias[b.Token] = b.Bias
		}
		options = append(options, gomlx.WithLogitBias(bias))
	}
	if r.DeadlineMS != 0 {
		options = append(options, gomlx.WithTimeout(time.Duration(r.DeadlineMS)*time.Millisecond))
	}
	for _, flag := range r.Flags {
		option, ok := map[string]gomlx.Option{
			"ignore_end": gomlx.WithIgnoreEnd(), "special_in_text": gomlx.WithSpecialInText(),
			"echo": gomlx.WithEcho(), "continue_final": gomlx.WithContinueFinal(),
		}[flag]
		if !ok {
			t.Fatalf("no such flag: %s", flag)
		}
		options = append(options, option)
	}
	return gomlx.Request{
		Prompt: r.Prompt, Tokens: r.Tokens, Messages: r.Messages, MessagesJSON: r.MessagesJSON, Options: options,
	}
}

func (s *scenario) run(t *testing.T) {
	expect := &s.Expect
	var metrics gomlx.Metrics
	var text string
	model, err := s.load()
	if err == nil {
		defer model.Close()
		text, err = collect(model.Run(context.Background(), s.request(t, &metrics)))
	}
	if expect.Status != "" && expect.Status != "ok" {
		status, known := statuses[expect.Status]
		if !known {
			t.Fatalf("no such status: %s", expect.Status)
		}
		if !errors.Is(err, status) {
			t.Fatalf("error %v, want %v", err, status)
		}
		if !strings.Contains(err.Error(), expect.Message) {
			t.Errorf("message %q does not say %q", err, expect.Message)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	if expect.Text != nil && text != *expect.Text {
		t.Errorf("text\n%q, want\n%q", text, *expect.Text)
	}
	if !strings.HasPrefix(text, expect.TextBegins) {
		t.Errorf("text %q does not begin with %q", text, expect.TextBegins)
	}
	if reason := metrics.StopReason.String(); expect.StopReason != "" && reason != expect.StopReason {
		t.Errorf("stopped by %s, want %s", reason, expect.StopReason)
	}
	if n := expect.PromptTokens; n != nil && metrics.PromptTokens != *n {
		t.Errorf("%d prompt tokens, want %d", metrics.PromptTokens, *n)
	}
	if n := expect.GeneratedTokens; n != nil && metrics.GeneratedTokens != *n {
		t.Errorf("%d generated tokens, want %d", metrics.GeneratedTokens, *n)
	}
}

// TestScenarios runs what every surface of the library must do, told once as data.
func TestScenarios(t *testing.T) {
	files, err := filepath.Glob("../../tests/scenarios/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scenarios: %v", err)
	}
	slices.Sort(files)
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var all []scenario
		decoder := json.NewDecoder(strings.NewReader(string(data)))
		decoder.DisallowUnknownFields() // a key that this reader does not know would be a test that does not test
		if err := decoder.Decode(&all); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		for _, s := range all {
			t.Run(s.Name, s.run)
		}
	}
}
