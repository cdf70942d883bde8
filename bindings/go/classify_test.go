package gomlx_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/gomlx/libgomlx/bindings/go"
)

func domainQuestion() gomlx.ClassifyRequest {
	return gomlx.ClassifyRequest{
		Pattern: "Sentence: {text}\nDomain:",
		Texts:   []string{"what is my balance at the bank", "book a flight to paris", "how long do i cook rice"},
		Labels:  []string{" banking", " travel", " kitchen and dining", " work"},
	}
}

func TestClassify(t *testing.T) {
	model := load(t, domains)
	request := domainQuestion()
	request.Logits = true
	results := must[[]gomlx.Classification](t)(model.Classify(background, request))
	info := must[gomlx.Info](t)(model.Info())
	for i, r := range results {
		if r.Label != i || r.Probability < 0.5 || r.Probability != r.Probabilities[i] || r.LogProb != r.LogProbs[i] {
			t.Errorf("%q: %d with %v", request.Texts[i], r.Label, r.Probabilities)
		}
		if len(r.Logits) != info.Vocabulary || len(r.LogProbs) != len(request.Labels) || r.PromptTokens == 0 {
			t.Errorf("%d logits, %d labels", len(r.Logits), len(r.LogProbs))
		}
		prompt := "Sentence: " + request.Texts[i] + "\nDomain:"
		// The best logit is what the model says next.
		best := uint32(slices.Index(r.Logits, slices.Max(r.Logits)))
		for chunk, err := range model.Generate(background, prompt, gomlx.WithMaxTokens(1)) {
			if err != nil || chunk.Tokens[0] != best {
				t.Errorf("says %v, %v; the best logit is that of %d", chunk.Tokens, err, best)
			}
		}
		scores := must[[]gomlx.Score](t)(model.Score(background, gomlx.Request{Prompt: prompt}, request.Labels))
		for j, score := range scores {
			if score.LogProb != r.LogProbs[j] || score.Tokens == 0 {
				t.Errorf("%q scores %+v, classified %v", request.Labels[j], score, r.LogProbs[j])
			}
		}
	}
}

func TestClassifyBadInput(t *testing.T) {
	model := load(t, domains)
	for name, change := range map[string]func(*gomlx.ClassifyRequest){
		"no slot":     func(r *gomlx.ClassifyRequest) { r.Pattern = "no slot" },
		"no pattern":  func(r *gomlx.ClassifyRequest) { r.Pattern = "" },
		"no labels":   func(r *gomlx.ClassifyRequest) { r.Labels = nil },
		"empty label": func(r *gomlx.ClassifyRequest) { r.Labels[1] = "" },
		"not UTF-8":   func(r *gomlx.ClassifyRequest) { r.Texts[1] = "\xff" },
	} {
		request := domainQuestion()
		change(&request)
		if _, err := model.Classify(background, request); !errors.Is(err, gomlx.ErrArgument) {
			t.Errorf("%s: %v", name, err)
		}
	}
	ctx, cancel := context.WithCancel(background)
	cancel()
	if _, err := model.Classify(ctx, domainQuestion()); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestClassifyStopsWithItsContext(t *testing.T) {
	model := load(t, domains, gomlx.WithThreads(1))
	request := domainQuestion()
	request.Texts = slices.Repeat(request.Texts, 10000)
	for i := range request.Texts {
		request.Texts[i] += fmt.Sprint(" ", i) // nothing to share: many seconds of work
	}
	ctx, cancel := context.WithTimeout(background, 100*time.Millisecond)
	defer cancel()
	began := time.Now()
	_, err := model.Classify(ctx, request)
	if !errors.Is(err, gomlx.ErrDeadline) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("took %v", took)
	}
}

func TestEmbed(t *testing.T) {
	model := storyTeller(t)
	texts := []string{"The dog ran in the garden.", "A dog was running in the garden.", "The price of gold fell."}
	for _, pooling := range []gomlx.Pooling{gomlx.PoolingMean, gomlx.PoolingLast} {
		vectors := must[[][]float32](t)(model.Embed(background, texts, pooling))
		for i, v := range vectors {
			if length := math.Sqrt(dot(v, v)); math.Abs(length-1) > 1e-4 {
				t.Errorf("%d: length %v", i, length)
			}
			alone := must[[][]float32](t)(model.Embed(background, texts[i:i+1], pooling))
			if !slices.Equal(alone[0], v) {
				t.Errorf("%d: not what it is alone", i)
			}
		}
		if dot(vectors[0], vectors[1]) <= dot(vectors[0], vectors[2]) {
			t.Errorf("two dogs are farther apart than a dog and gold: %v, %v", dot(vectors[0], vectors[1]), dot(vectors[0], vectors[2]))
		}
	}
	if _, err := model.Embed(background, texts, 7); !errors.Is(err, gomlx.ErrArgument) {
		t.Errorf("pooling 7: %v", err)
	}
}

func dot(a, b []float32) (sum float64) {
	for i := range a {
		sum += float64(a[i]) * float64(b[i])
	}
	return sum
}
