package gomlx_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/gomlx/libgomlx/bindings/go"
)

func TestInfo(t *testing.T) {
	var config struct {
		ModelType string `json:"model_type"`
		Layers    int    `json:"num_hidden_layers"`
		Hidden    int    `json:"hidden_size"`
		Vocab     int    `json:"vocab_size"`
		Context   int    `json:"max_position_embeddings"`
	}
	data, err := os.ReadFile(filepath.Join(stories, "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &config); err != nil {
		t.Fatal(err)
	}
	info := must[gomlx.Info](t)(load(t, stories, gomlx.WithContextLength(512), gomlx.WithThreads(1)).Info())
	if info.Family != config.ModelType || info.Layers != config.Layers || info.Hidden != config.Hidden ||
		info.Vocabulary != config.Vocab || info.Context != config.Context {
		t.Errorf("info %+v, config %+v", info, config)
	}
	if info.ContextLength != 512 || info.Threads != 1 || info.QuantisationBits != 4 || info.QuantisationGroup != 64 ||
		info.QuantisationMode != "affine" || !info.HasChatTemplate || info.Backend == "" || info.Err != nil ||
		info.Name != "llama-tales-16m-4bit" || info.Parameters < 15e6 || info.BytesOnDisk == 0 {
		t.Errorf("info %+v", info)
	}
}

func TestTokenizeRoundTrip(t *testing.T) {
	model := storyTeller(t)
	for _, text := range []string{"", "a", "Once upon a time", "Grüße, 世界 🌍", strings.Repeat("the cat ", 3000), "a\x00b"} {
		tokens := must[[]uint32](t)(model.Tokenize(text, false))
		if back := must[string](t)(model.Detokenize(tokens, false)); back != text {
			t.Errorf("%.40q became %.40q by %d tokens", text, back, len(tokens))
		}
		special := must[[]uint32](t)(model.Tokenize(text, true))
		if len(special) <= len(tokens) {
			t.Errorf("%.40q: nothing special added", text)
		}
		if back := must[string](t)(model.Detokenize(special, true)); back != text {
			t.Errorf("%.40q became %.40q", text, back)
		}
	}
	if _, err := model.Tokenize("\xff", false); !errors.Is(err, gomlx.ErrArgument) {
		t.Errorf("invalid UTF-8: %v", err)
	}
	if _, err := model.Detokenize([]uint32{1 << 30}, false); !errors.Is(err, gomlx.ErrArgument) {
		t.Errorf("a token that does not exist: %v", err)
	}
}

func TestRenderChat(t *testing.T) {
	model := storyTeller(t)
	long := strings.Repeat("long ", 1000) // more than the first buffer
	for _, content := range []string{"Hello", long} {
		text := must[string](t)(model.RenderChat([]gomlx.Message{{Role: "user", Content: content}}))
		data, err := json.Marshal([]gomlx.Message{{Role: "user", Content: content}})
		if err != nil {
			t.Fatal(err)
		}
		asJSON := must[string](t)(model.Render(gomlx.Request{MessagesJSON: string(data)}))
		if text != asJSON || !strings.Contains(text, strings.TrimSpace(content)) {
			t.Errorf("%q, as JSON %q", text, asJSON)
		}
	}
	open := must[string](t)(model.RenderChat([]gomlx.Message{
		{Role: "user", Content: "Hello"}, {Role: "assistant", Content: "Well"},
	}, gomlx.WithContinueFinal()))
	if !strings.HasSuffix(open, "Well") {
		t.Errorf("not left open: %q", open)
	}
}

func TestDiscover(t *testing.T) {
	found := must[[]gomlx.Info](t)(gomlx.Discover(models))
	names := map[string]gomlx.Info{}
	for _, info := range found {
		names[info.Name] = info
	}
	for _, path := range []string{stories, domains} {
		info, ok := names[filepath.Base(path)]
		if !ok || info.Err != nil || info.Layers == 0 || info.ContextLength != 0 {
			t.Fatalf("%s: %+v", path, info)
		}
		load(t, info.Path)
	}
	broken := t.TempDir()
	if err := os.WriteFile(filepath.Join(broken, "config.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(broken, "model.safetensors"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, info := range must[[]gomlx.Info](t)(gomlx.Discover(broken)) {
		if !errors.Is(info.Err, gomlx.ErrFormat) {
			t.Errorf("a broken model: %+v", info)
		}
	}
	if _, err := gomlx.Discover(models + "nowhere"); !errors.Is(err, gomlx.ErrIO) {
		t.Errorf("no such folder: %v", err)
	}
}

// workers counts the models in memory.
func workers(t *testing.T) int {
	t.Helper()
	return must[gomlx.RuntimeInfo](t)(gomlx.Runtime()).LiveWorkers
}

func TestSharing(t *testing.T) {
	before := workers(t)
	process := []gomlx.LoadOption{gomlx.WithSharing(gomlx.SharingProcess), gomlx.WithContextLength(777)}
	together := make([]*gomlx.Model, 8) // also while it still loads
	var loads sync.WaitGroup
	for i := range together {
		loads.Add(1)
		go func() {
			defer loads.Done()
			model, err := gomlx.Load(domains, process...)
			if err != nil {
				t.Error(err)
			}
			together[i] = model
		}()
	}
	loads.Wait()
	if t.Failed() {
		t.FailNow()
	}
	if now := workers(t); now != before+1 {
		t.Errorf("%d models for %d callers", now-before, len(together))
	}
	own := load(t, domains, gomlx.WithContextLength(777))
	other := load(t, domains, gomlx.WithSharing(gomlx.SharingProcess), gomlx.WithContextLength(778))
	if now := workers(t); now != before+3 {
		t.Errorf("%d models, expected a shared one, one of a caller's own, and one with other options", now-before)
	}
	for _, model := range together[1:] {
		model.Close()
	}
	want := must[string](t)(collect(own.Generate(background, "Sentence:", gomlx.WithMaxTokens(4))))
	if got, err := collect(together[0].Generate(background, "Sentence:", gomlx.WithMaxTokens(4))); got != want || err != nil {
		t.Errorf("%q, %v after others closed the model, expected %q", got, err, want)
	}
	for _, model := range []*gomlx.Model{together[0], own, other} {
		model.Close()
	}
	if now := workers(t); now != before {
		t.Errorf("%d models after the last was closed", now-before)
	}
}

func TestKeptModelStays(t *testing.T) {
	handles := live(t)
	load(t, domains, gomlx.WithSharing(gomlx.SharingKept), gomlx.WithContextLength(779)).Close()
	models := workers(t)
	for _, sharing := range []gomlx.Sharing{gomlx.SharingProcess, gomlx.SharingKept} {
		again := load(t, domains, gomlx.WithSharing(sharing), gomlx.WithContextLength(779))
		if now := workers(t); now != models {
			t.Errorf("%d models while it is used again, expected %d", now, models)
		}
		again.Close()
		if now := workers(t); now != models || live(t) != handles {
			t.Errorf("%d models, handles %v, expected %d, %v", now, live(t), models, handles)
		}
	}
	if _, err := gomlx.Load(domains, gomlx.WithSharing(3)); !errors.Is(err, gomlx.ErrArgument) {
		t.Errorf("%v for a sharing that does not exist", err)
	}
}

func TestRuntimeAndMemory(t *testing.T) {
	info := must[gomlx.RuntimeInfo](t)(gomlx.Runtime())
	if info.Threads < 1 || info.Memory == 0 || len(info.Backends) == 0 || info.Device == "" || info.ISA == "" {
		t.Errorf("runtime %+v", info)
	}
	storyTeller(t)
	memory := must[gomlx.MemoryInfo](t)(gomlx.Memory())
	if memory.Active == 0 || memory.Peak < memory.Active || memory.Mapped > memory.Active {
		t.Errorf("memory %+v", memory)
	}
	if err := gomlx.SetMemoryLimit(memory.Active); err != nil {
		t.Fatal(err)
	}
	_, err := gomlx.Load(domains)
	if reset := gomlx.SetMemoryLimit(gomlx.NoLimit); reset != nil {
		t.Fatal(reset)
	}
	if !errors.Is(err, gomlx.ErrMemory) {
		t.Errorf("a load over the limit: %v", err)
	}
	if err := gomlx.SetCacheLimit(0); err != nil {
		t.Fatal(err)
	}
	if err := gomlx.SetCacheLimit(memory.CacheLimit); err != nil {
		t.Fatal(err)
	}
	gomlx.ClearCache()
	gomlx.ResetPeak()
	if after := must[gomlx.MemoryInfo](t)(gomlx.Memory()); after.Limit != gomlx.NoLimit {
		t.Errorf("memory %+v", after)
	}
	if gomlx.Version() == "" {
		t.Error("no version")
	}
}
