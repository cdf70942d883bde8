package inference

// GenerateConfig is what generate options set.
type GenerateConfig struct {
	MaxTokens     int
	Temperature   float32 // 0: the most probable token
	TopK          int     // 0: all
	TopP          float32 // 0: all
	StopTokens    []int32
	RepeatPenalty float32 // 0 and 1: none
	ReturnLogits  bool    // of Classify
}

// DefaultGenerateConfig is 256 tokens, each the most probable one.
func DefaultGenerateConfig() GenerateConfig { return GenerateConfig{MaxTokens: 256} }

// GenerateOption changes a GenerateConfig.
type GenerateOption func(*GenerateConfig)

// WithMaxTokens ends an answer after n tokens.
func WithMaxTokens(n int) GenerateOption { return func(c *GenerateConfig) { c.MaxTokens = n } }

// WithTemperature samples; 0 takes the most probable token.
func WithTemperature(t float32) GenerateOption { return func(c *GenerateConfig) { c.Temperature = t } }

// WithTopK samples among the k most probable tokens; 0: all.
func WithTopK(k int) GenerateOption { return func(c *GenerateConfig) { c.TopK = k } }

// WithTopP samples among the tokens that together have probability p; 0: all.
func WithTopP(p float32) GenerateOption { return func(c *GenerateConfig) { c.TopP = p } }

// WithStopTokens ends an answer at any of these tokens.
func WithStopTokens(ids ...int32) GenerateOption {
	return func(c *GenerateConfig) { c.StopTokens = ids }
}

// WithRepeatPenalty makes repetition less probable; 0 and 1: no change.
func WithRepeatPenalty(p float32) GenerateOption {
	return func(c *GenerateConfig) { c.RepeatPenalty = p }
}

// WithLogits makes Classify return logits.
func WithLogits() GenerateOption { return func(c *GenerateConfig) { c.ReturnLogits = true } }

// ApplyGenerateOpts is the defaults with options applied.
func ApplyGenerateOpts(options []GenerateOption) GenerateConfig {
	c := DefaultGenerateConfig()
	for _, option := range options {
		if option != nil {
			option(&c)
		}
	}
	return c
}

// LoadConfig is what load options set.
type LoadConfig struct {
	Backend       string // empty: the default
	ContextLen    int    // 0: the model's own
	GPULayers     int    // not looked at by gomlx: a model is computed by one device
	ParallelSlots int    // 0: the backend's default
	AdapterPath   string // empty: no adapter
}

// LoadOption changes a LoadConfig.
type LoadOption func(*LoadConfig)

// WithBackend chooses a registered backend.
func WithBackend(name string) LoadOption { return func(c *LoadConfig) { c.Backend = name } }

// WithContextLen limits a sequence to n tokens.
func WithContextLen(n int) LoadOption { return func(c *LoadConfig) { c.ContextLen = n } }

// WithGPULayers is accepted and not looked at.
func WithGPULayers(n int) LoadOption { return func(c *LoadConfig) { c.GPULayers = n } }

// WithParallelSlots computes n answers together.
func WithParallelSlots(n int) LoadOption { return func(c *LoadConfig) { c.ParallelSlots = n } }

// WithAdapterPath loads a LoRA adapter.
func WithAdapterPath(path string) LoadOption { return func(c *LoadConfig) { c.AdapterPath = path } }

// ApplyLoadOpts is the defaults with options applied.
func ApplyLoadOpts(options []LoadOption) LoadConfig {
	c := LoadConfig{GPULayers: -1}
	for _, option := range options {
		if option != nil {
			option(&c)
		}
	}
	return c
}
