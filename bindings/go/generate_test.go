package gomlx_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gomlx/libgomlx/bindings/go"
)

var background = context.Background()

// endless is a generation that nobody waits for to end.
func endless(options ...gomlx.Option) []gomlx.Option {
	return append(options, gomlx.WithIgnoreEnd())
}

func TestRangeIsRepeatable(t *testing.T) {
	answer := storyTeller(t).Generate(background, "The dog", gomlx.WithMaxTokens(12))
	first := must[string](t)(collect(answer))
	if second := must[string](t)(collect(answer)); first != second || first == "" {
		t.Errorf("%q, then %q", first, second)
	}
}

func TestLeavingTheLoopStops(t *testing.T) {
	before := live(t)
	var metrics gomlx.Metrics
	count := 0
	for _, err := range storyTeller(t).Generate(background, "Once", endless(gomlx.WithMetrics(&metrics))...) {
		if err != nil {
			t.Fatal(err)
		}
		if count++; count == 3 {
			break
		}
	}
	if metrics.StopReason != gomlx.StopCancelled || metrics.GeneratedTokens < 3 {
		t.Errorf("metrics %+v", metrics)
	}
	if now := live(t); now != before {
		t.Errorf("handles %v, before %v", now, before)
	}
}

func TestPanicInTheLoopFrees(t *testing.T) {
	before := live(t)
	func() {
		defer func() { recover() }()
		for range storyTeller(t).Generate(background, "Once", endless()...) {
			panic("the caller's")
		}
	}()
	if now := live(t); now != before {
		t.Errorf("handles %v, before %v", now, before)
	}
}

func TestPull(t *testing.T) {
	next, stop := iter.Pull2(storyTeller(t).Generate(background, "Once upon a time", gomlx.WithMaxTokens(5)))
	defer stop()
	tokens := 0
	for {
		chunk, err, ok := next()
		if !ok {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		tokens += len(chunk.Tokens)
	}
	if tokens != 5 {
		t.Errorf("%d tokens", tokens)
	}
}

func TestChatIsItsRenderedPrompt(t *testing.T) {
	model := storyTeller(t)
	messages := []gomlx.Message{{Role: "user", Content: "Tell me about the sea."}}
	chatted := must[string](t)(collect(model.Chat(background, messages, gomlx.WithMaxTokens(20))))
	prompt := must[string](t)(model.RenderChat(messages))
	tokens := must[[]uint32](t)(model.Tokenize(prompt, false))
	again := must[string](t)(collect(model.Run(background, gomlx.Request{
		Tokens: tokens, Options: []gomlx.Option{gomlx.WithMaxTokens(20)},
	})))
	if chatted != again || !strings.Contains(prompt, "Tell me about the sea.") {
		t.Errorf("chat %q, rendered %q, by tokens %q", chatted, prompt, again)
	}
	if _, err := collect(model.Chat(background, nil)); !errors.Is(err, gomlx.ErrArgument) {
		t.Errorf("an empty conversation: %v", err)
	}
}

func TestContextCancels(t *testing.T) {
	ctx, cancel := context.WithCancelCause(background)
	defer cancel(nil)
	reason := errors.New("the user pressed stop")
	before, count := live(t), 0
	var got error
	for _, err := range storyTeller(t).Generate(ctx, "Once", endless()...) {
		if got = err; err != nil {
			break
		}
		if count++; count == 2 {
			cancel(reason)
		}
	}
	for _, want := range []error{gomlx.ErrCancelled, context.Canceled, reason} {
		if !errors.Is(got, want) {
			t.Errorf("%v is not %v", got, want)
		}
	}
	if errors.Is(got, gomlx.ErrDeadline) || !strings.Contains(got.Error(), reason.Error()) {
		t.Errorf("error %v", got)
	}
	settled(t, before)
}

func TestContextOverBeforeTheStart(t *testing.T) {
	ctx, cancel := context.WithCancel(background)
	cancel()
	if _, err := collect(storyTeller(t).Generate(ctx, "Once")); !errors.Is(err, context.Canceled) {
		t.Errorf("generate: %v", err)
	}
	if _, err := gomlx.LoadContext(ctx, stories); !errors.Is(err, gomlx.ErrCancelled) {
		t.Errorf("load: %v", err)
	}
}

func TestContextDeadline(t *testing.T) {
	// Whether the library's clock or Go's notices first is a race; both must end the same.
	for i := range 10 {
		ctx, cancel := context.WithTimeout(background, time.Duration(5+i)*time.Millisecond)
		_, err := collect(storyTeller(t).Generate(ctx, "Once", endless()...))
		cancel()
		if !errors.Is(err, gomlx.ErrDeadline) || !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("error %v", err)
		}
	}
}

// settled waits for the goroutines of context.AfterFunc, which end by themselves.
func settled(t *testing.T, before [3]int) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); live(t) != before; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("handles %v, before %v", live(t), before)
		}
	}
}

func TestCloseWhileRanging(t *testing.T) {
	want := story(t, "The king", gomlx.WithMaxTokens(40))
	before := live(t)
	model := must[*gomlx.Model](t)(gomlx.Load(stories))
	var text strings.Builder
	var end error
	for chunk, err := range model.Generate(background, "The king", endless()...) {
		if end = err; err != nil {
			break
		}
		text.WriteString(chunk.Text)
		if err := model.Close(); err != nil { // again and again
			t.Fatal(err)
		}
	}
	if !errors.Is(end, gomlx.ErrState) {
		t.Errorf("the answer of a closed model ended with %v", end)
	}
	if most := min(len(want), text.Len()); most == 0 || text.String()[:most] != want[:most] {
		t.Errorf("%q, want %q", text.String(), want)
	}
	if _, err := collect(model.Generate(background, "The king")); !errors.Is(err, gomlx.ErrState) {
		t.Errorf("generate after Close: %v", err)
	}
	if _, err := model.Tokenize("a", true); !errors.Is(err, gomlx.ErrState) {
		t.Errorf("tokenize after Close: %v", err)
	}
	if now := live(t); now != before {
		t.Errorf("handles %v, before %v", now, before)
	}
}

func TestCloseUnderTheFeetOfOthers(t *testing.T) {
	before := live(t)
	for range 5 {
		model := must[*gomlx.Model](t)(gomlx.Load(domains))
		var group sync.WaitGroup
		for range 8 {
			group.Add(1)
			go func() {
				defer group.Done()
				for {
					if _, err := model.Tokenize("some text", true); errors.Is(err, gomlx.ErrState) {
						return
					}
					if _, err := collect(model.Generate(background, "a", gomlx.WithMaxTokens(2))); err != nil {
						if !errors.Is(err, gomlx.ErrState) {
							t.Error(err)
						}
						return
					}
				}
			}()
		}
		time.Sleep(5 * time.Millisecond)
		for range 2 {
			group.Add(1)
			go func() { defer group.Done(); model.Close() }()
		}
		group.Wait()
	}
	settled(t, before)
}

func TestForgottenModelIsGivenBack(t *testing.T) {
	before, models := live(t), workers(t)
	must[*gomlx.Model](t)(gomlx.Load(domains))
	for end := time.Now().Add(10 * time.Second); live(t) != before || workers(t) != models; runtime.GC() {
		if time.Now().After(end) {
			t.Fatalf("handles %v, before %v", live(t), before)
		}
	}
}

func TestGoroutinesShareAModel(t *testing.T) {
	prompts := []string{"Once upon a time", "The dog", "A long time ago, in a far land", "Hi"}
	options := func(seed int) []gomlx.Option {
		return []gomlx.Option{gomlx.WithMaxTokens(30), gomlx.WithTemperature(0.8), gomlx.WithSeed(uint64(seed))}
	}
	var alone [16]string
	for i := range alone {
		alone[i] = story(t, prompts[i%len(prompts)], options(i)...)
	}
	var group sync.WaitGroup
	for i := range alone {
		group.Add(1)
		go func() {
			defer group.Done()
			text, err := collect(storyTeller(t).Generate(background, prompts[i%len(prompts)], options(i)...))
			if err != nil || text != alone[i] {
				t.Errorf("%d: %q, %v; alone %q", i, text, err, alone[i])
			}
		}()
	}
	group.Wait()
}

func TestBusy(t *testing.T) {
	model := load(t, stories, gomlx.WithMaxSequences(1), gomlx.WithMaxQueue(1))
	ctx, cancel := context.WithCancel(background)
	defer cancel()
	busy := make(chan error, 8)
	computed := make(chan struct{})
	go func() {
		var last error
		begun := sync.OnceFunc(func() { close(computed) })
		for _, err := range model.Generate(ctx, "Once", endless()...) {
			begun()
			last = err
		}
		busy <- last
	}()
	<-computed // from here on it does not wait: there is room for one that does
	for range cap(busy) - 1 {
		go func() {
			_, err := collect(model.Generate(ctx, "Once", endless()...))
			busy <- err
		}()
	}
	for range cap(busy) - 2 {
		err := <-busy
		if !errors.Is(err, gomlx.ErrBusy) || errors.Is(err, gomlx.ErrCancelled) {
			t.Errorf("error %v", err)
		}
	}
	cancel()
	for range 2 {
		if err := <-busy; !errors.Is(err, gomlx.ErrCancelled) {
			t.Errorf("error %v", err)
		}
	}
}

func TestBatch(t *testing.T) {
	prompts := []string{"Once upon a time", "The cat", "One day", "", "The sea", "Tom"}
	var requests []gomlx.Request
	metrics := make([]gomlx.Metrics, 40)
	for i := range metrics {
		requests = append(requests, gomlx.Request{Prompt: prompts[i%len(prompts)], Options: []gomlx.Option{
			gomlx.WithMaxTokens(3 + i%7), gomlx.WithMetrics(&metrics[i]),
		}})
	}
	texts, failures := make([]string, len(requests)), make([]error, len(requests))
	for chunk, err := range storyTeller(t).GenerateBatch(background, requests) {
		texts[chunk.Request] += chunk.Text
		failures[chunk.Request] = err
	}
	for i, request := range requests {
		if request.Prompt == "" {
			if !errors.Is(failures[i], gomlx.ErrArgument) {
				t.Errorf("%d: an empty prompt: %v", i, failures[i])
			}
			continue
		}
		if want := story(t, request.Prompt, request.Options...); failures[i] != nil || texts[i] != want {
			t.Errorf("%d: %q, %v; alone %q", i, texts[i], failures[i], want)
		}
		if metrics[i].StopReason != gomlx.StopMaxTokens || metrics[i].GeneratedTokens != 3+i%7 {
			t.Errorf("%d: %+v", i, metrics[i])
		}
	}
}

func TestBatchEndsEarly(t *testing.T) {
	before := live(t)
	requests := make([]gomlx.Request, 100)
	for i := range requests {
		requests[i] = gomlx.Request{Prompt: "Once", Options: endless()}
	}
	for _, err := range storyTeller(t).GenerateBatch(background, requests) {
		if err != nil {
			t.Fatal(err)
		}
		break
	}
	settled(t, before)

	ctx, cancel := context.WithCancel(background)
	defer cancel()
	cancelled := 0
	for _, err := range storyTeller(t).GenerateBatch(ctx, requests) {
		cancel()
		if errors.Is(err, context.Canceled) {
			cancelled++
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if cancelled != len(requests) {
		t.Errorf("%d of %d heard of the cancel", cancelled, len(requests))
	}
	settled(t, before)
	for range storyTeller(t).GenerateBatch(background, nil) {
		t.Error("a chunk of nothing")
	}
}

func TestLogProbs(t *testing.T) {
	seen := 0
	for chunk, err := range storyTeller(t).Generate(background, "Once upon a", gomlx.WithMaxTokens(6), gomlx.WithLogProbs(3)) {
		if err != nil {
			t.Fatal(err)
		}
		if len(chunk.LogProbs) != len(chunk.Tokens) || len(chunk.Top) != len(chunk.Tokens) {
			t.Fatalf("chunk %+v", chunk)
		}
		for i, token := range chunk.Tokens {
			seen++
			top := chunk.Top[i]
			if len(top) != 3 || top[0].Token != token || top[0].LogProb != chunk.LogProbs[i] {
				t.Errorf("greedy takes the best: %d %v of %v", token, chunk.LogProbs[i], top)
			}
			if top[0].LogProb > 0 || top[0].LogProb < top[1].LogProb || top[1].LogProb < top[2].LogProb {
				t.Errorf("not in order: %v", top)
			}
		}
	}
	if seen != 6 {
		t.Errorf("%d tokens", seen)
	}
}

func TestProgress(t *testing.T) {
	var loading, prompt gomlx.Progress
	if done, total := loading.Done(); done != 0 || total != 0 {
		t.Errorf("before: %d of %d", done, total)
	}
	model := load(t, stories, gomlx.WithLoadProgress(&loading), gomlx.WithWeights(gomlx.WeightsRead))
	if done, total := loading.Done(); done != total || total == 0 {
		t.Errorf("loaded: %d of %d", done, total)
	}
	must[string](t)(collect(model.Generate(background, "Once upon a time", gomlx.WithMaxTokens(2), gomlx.WithProgress(&prompt))))
	if done, total := prompt.Done(); done != total || total != 5 {
		t.Errorf("prompt: %d of %d", done, total)
	}
}

func TestOptionsOutOfRange(t *testing.T) {
	if _, err := gomlx.Load(stories, gomlx.WithThreads(-1)); !errors.Is(err, gomlx.ErrArgument) {
		t.Errorf("threads: %v", err)
	}
	for name, option := range map[string]gomlx.Option{
		"max tokens":     gomlx.WithMaxTokens(-1),
		"no tokens":      gomlx.WithMaxTokens(0),
		"top k":          gomlx.WithTopK(math.MinInt),
		"temperature":    gomlx.WithTemperature(float32(math.NaN())),
		"top p":          gomlx.WithTopP(2),
		"stop":           gomlx.WithStop("\xff"),
		"bias":           gomlx.WithLogitBias(map[uint32]float32{1 << 31: 1}),
		"stop token":     gomlx.WithStopTokens(1 << 31),
		"template":       gomlx.WithTemplateVariables("["),
		"repetition":     gomlx.WithRepetitionPenalty(-1),
		"min p":          gomlx.WithMinP(-1),
		"typical p":      gomlx.WithTypicalP(7),
		"penalty":        gomlx.WithPresencePenalty(float32(math.Inf(1))),
		"freq penalty":   gomlx.WithFrequencyPenalty(float32(math.NaN())),
		"penalty window": gomlx.WithPenaltyWindow(-5),
	} {
		if _, err := collect(storyTeller(t).Chat(background, []gomlx.Message{{Role: "user", Content: "Hi"}}, option,
			gomlx.WithTimeout(time.Minute))); !errors.Is(err, gomlx.ErrArgument) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestMetrics(t *testing.T) {
	var mine gomlx.Metrics
	model := load(t, stories)
	must[string](t)(collect(model.Generate(background, "Once upon a time", gomlx.WithMaxTokens(10), gomlx.WithMetrics(&mine))))
	if mine != model.Metrics() {
		t.Errorf("mine %+v, the model's %+v", mine, model.Metrics())
	}
	if mine.StopReason != gomlx.StopMaxTokens || mine.PromptTokens != 5 || mine.GeneratedTokens != 10 ||
		mine.Decode <= 0 || mine.Prefill <= 0 || mine.FirstToken < mine.Prefill || mine.DecodeTokensPerSecond <= 0 ||
		mine.ActiveMemory == 0 || mine.PeakMemory < mine.ActiveMemory {
		t.Errorf("metrics %+v", mine)
	}
	if fmt.Sprint(mine.StopReason) != "max_tokens" {
		t.Errorf("reason %v", mine.StopReason)
	}
}
