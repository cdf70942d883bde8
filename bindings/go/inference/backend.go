package inference

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"sync"
	"time"

	"github.com/gomlx/libgomlx/bindings/go"
)

// Name is what gomlx is registered as.
const Name = "gomlx"

type backend struct{}

// NewBackend is the backend that runs on gomlx.
func NewBackend() Backend { return backend{} }

func (backend) Name() string { return Name }

func (backend) Available() bool {
	_, err := gomlx.Runtime()
	return err == nil
}

func (backend) LoadModel(path string, options ...LoadOption) (TextModel, error) {
	config := ApplyLoadOpts(options)
	if config.AdapterPath != "" {
		return nil, fmt.Errorf("inference: adapter %s: %w", config.AdapterPath, gomlx.ErrUnsupported)
	}
	loaded, err := gomlx.Load(path, gomlx.WithContextLength(config.ContextLen),
		gomlx.WithMaxSequences(config.ParallelSlots))
	if err != nil {
		return nil, err
	}
	info, err := loaded.Info()
	if err != nil {
		loaded.Close()
		return nil, err
	}
	return &model{gomlx: loaded, info: info}, nil
}

// model is a TextModel over gomlx.
type model struct {
	gomlx *gomlx.Model
	info  gomlx.Info

	mu      sync.Mutex
	metrics GenerateMetrics
	err     error
}

func (m *model) ModelType() string { return m.info.Family }

func (m *model) Info() ModelInfo {
	return ModelInfo{
		Architecture: m.info.Family, VocabSize: m.info.Vocabulary, NumLayers: m.info.Layers,
		HiddenSize: m.info.Hidden, QuantBits: m.info.QuantisationBits, QuantGroup: m.info.QuantisationGroup,
	}
}

func (m *model) Metrics() GenerateMetrics {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.metrics
}

func (m *model) Err() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.err
}

func (m *model) Close() error { return m.gomlx.Close() }

func (m *model) Generate(ctx context.Context, prompt string, options ...GenerateOption) iter.Seq[Token] {
	return m.stream(ctx, gomlx.Request{Prompt: prompt}, options)
}

func (m *model) Chat(ctx context.Context, messages []Message, options ...GenerateOption) iter.Seq[Token] {
	turns := make([]gomlx.Message, len(messages))
	for i, message := range messages {
		turns[i] = gomlx.Message(message)
	}
	return m.stream(ctx, gomlx.Request{Messages: turns}, options)
}

func (m *model) stream(ctx context.Context, request gomlx.Request, options []GenerateOption) iter.Seq[Token] {
	return func(yield func(Token) bool) {
		began := time.Now()
		var figures gomlx.Metrics
		var failed error
		defer func() { m.note([]gomlx.Metrics{figures}, time.Since(began), failed) }()
		request.Options = append(optionsOf(ApplyGenerateOpts(options)), gomlx.WithMetrics(&figures))
		for chunk, err := range m.gomlx.Run(ctx, request) {
			if err != nil {
				failed = err
				return
			}
			for token := range tokensOf(chunk) {
				if !yield(token) {
					return
				}
			}
		}
	}
}

func (m *model) BatchGenerate(ctx context.Context, prompts []string, options ...GenerateOption) ([]BatchResult, error) {
	return m.batch(ctx, prompts, optionsOf(ApplyGenerateOpts(options)))
}

func (m *model) batch(ctx context.Context, prompts []string, options []gomlx.Option) ([]BatchResult, error) {
	began := time.Now()
	figures := make([]gomlx.Metrics, len(prompts))
	requests := make([]gomlx.Request, len(prompts))
	for i, prompt := range prompts {
		requests[i] = gomlx.Request{
			Prompt: prompt, Options: append(slices.Clip(options), gomlx.WithMetrics(&figures[i])),
		}
	}
	results := make([]BatchResult, len(prompts))
	for chunk, err := range m.gomlx.GenerateBatch(ctx, requests) {
		result := &results[chunk.Request]
		result.Err = err
		result.Tokens = slices.AppendSeq(result.Tokens, tokensOf(chunk))
	}
	m.note(figures, time.Since(began), m.Err())
	return results, nil
}

// Classify takes the token that follows each prompt; an end token counts as one.
func (m *model) Classify(ctx context.Context, prompts []string, options ...GenerateOption) ([]ClassifyResult, error) {
	config := ApplyGenerateOpts(options)
	config.MaxTokens = 1
	// With log-probabilities a token is reported even where its bytes are no whole character yet.
	batch, err := m.batch(ctx, prompts, append(optionsOf(config),
		gomlx.WithIgnoreEnd(), gomlx.WithSpecialInText(), gomlx.WithLogProbs(1)))
	if err != nil {
		return nil, err
	}
	results := make([]ClassifyResult, len(prompts))
	for i, answer := range batch {
		if answer.Err != nil {
			return nil, fmt.Errorf("inference: prompt %d: %w", i, answer.Err)
		}
		if len(answer.Tokens) != 1 {
			return nil, fmt.Errorf("inference: prompt %d: %d tokens came instead of 1", i, len(answer.Tokens))
		}
		results[i].Token = answer.Tokens[0]
	}
	if config.ReturnLogits && len(prompts) > 0 {
		// One label, because gomlx's question needs one: only the logits are wanted, and the prefix cache has most
		// of each prompt by now.
		answers, err := m.gomlx.Classify(ctx, gomlx.ClassifyRequest{
			Pattern: "{text}", Texts: prompts, Labels: []string{"."}, Logits: true,
		})
		if err != nil {
			return nil, err
		}
		for i, answer := range answers {
			results[i].Logits = answer.Logits
		}
	}
	return results, nil
}

// note keeps the figures of a call that ended, summed over its answers.
func (m *model) note(all []gomlx.Metrics, total time.Duration, failed error) {
	sum := GenerateMetrics{TotalDuration: total}
	decoded := 0
	for _, one := range all {
		sum.PromptTokens += one.PromptTokens
		sum.GeneratedTokens += one.GeneratedTokens
		decoded += max(one.GeneratedTokens-1, 0) // the first one belongs to the prefill
		// They ran side by side: the longest counts.
		sum.PrefillDuration = max(sum.PrefillDuration, one.Prefill)
		sum.DecodeDuration = max(sum.DecodeDuration, one.Decode)
		sum.PeakMemoryBytes = max(sum.PeakMemoryBytes, one.PeakMemory)
		sum.ActiveMemoryBytes = max(sum.ActiveMemoryBytes, one.ActiveMemory)
	}
	sum.PrefillTokensPerSec = rate(sum.PromptTokens, sum.PrefillDuration)
	sum.DecodeTokensPerSec = rate(decoded, sum.DecodeDuration)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.metrics, m.err = sum, failed
}

func rate(tokens int, d time.Duration) float64 {
	if d <= 0 {
		return 0
	}
	return float64(tokens) / d.Seconds()
}

// tokensOf is a chunk's tokens. Where several made one text, because none of them is a whole character or a stop text
// was possible, the last one carries it.
func tokensOf(chunk gomlx.Chunk) iter.Seq[Token] {
	return func(yield func(Token) bool) {
		for i, id := range chunk.Tokens {
			token := Token{ID: int32(id)}
			if i == len(chunk.Tokens)-1 {
				token.Text = chunk.Text
			}
			if !yield(token) {
				return
			}
		}
	}
}

func optionsOf(c GenerateConfig) []gomlx.Option {
	options := []gomlx.Option{
		gomlx.WithMaxTokens(c.MaxTokens), gomlx.WithTemperature(c.Temperature), gomlx.WithTopK(c.TopK),
	}
	if c.TopP != 0 {
		options = append(options, gomlx.WithTopP(c.TopP))
	}
	if c.RepeatPenalty != 0 {
		options = append(options, gomlx.WithRepetitionPenalty(c.RepeatPenalty))
	}
	if len(c.StopTokens) > 0 {
		stop := make([]uint32, len(c.StopTokens))
		for i, id := range c.StopTokens {
			stop[i] = uint32(id)
		}
		options = append(options, gomlx.WithStopTokens(stop...))
	}
	return options
}
