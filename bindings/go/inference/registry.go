package inference

import (
	"errors"
	"fmt"
	"iter"
	"maps"
	"path/filepath"
	"slices"
	"sync"

	"github.com/gomlx/libgomlx/bindings/go"
)

var (
	mu       sync.RWMutex
	backends = map[string]Backend{}
)

func init() { Register(NewBackend()) }

// Register adds a backend, in the place of one with the same name.
func Register(backend Backend) {
	mu.Lock()
	defer mu.Unlock()
	backends[backend.Name()] = backend
}

// Get is the backend of that name.
func Get(name string) (Backend, bool) {
	mu.RLock()
	defer mu.RUnlock()
	backend, ok := backends[name]
	return backend, ok
}

// List is the backends' names, sorted.
func List() []string {
	mu.RLock()
	defer mu.RUnlock()
	return slices.Sorted(maps.Keys(backends))
}

// All is the backends by name.
func All() iter.Seq2[string, Backend] {
	mu.RLock()
	defer mu.RUnlock()
	return maps.All(maps.Clone(backends))
}

// Default is gomlx where it is available, else the first other backend that is, by name.
func Default() (Backend, error) {
	for _, name := range append([]string{Name}, List()...) {
		if backend, ok := Get(name); ok && backend.Available() {
			return backend, nil
		}
	}
	return nil, errors.New("inference: no backend is available")
}

// LoadModel loads the model in folder path with the default backend, or that of WithBackend.
func LoadModel(path string, options ...LoadOption) (TextModel, error) {
	name := ApplyLoadOpts(options).Backend
	if name == "" {
		backend, err := Default()
		if err != nil {
			return nil, err
		}
		return backend.LoadModel(path, options...)
	}
	backend, ok := Get(name)
	if !ok {
		return nil, fmt.Errorf("inference: backend %q is not registered; there are %q", name, List())
	}
	if !backend.Available() {
		return nil, fmt.Errorf("inference: backend %q is not available on this machine", name)
	}
	return backend.LoadModel(path, options...)
}

// DiscoveredModel is a folder that holds a model.
type DiscoveredModel struct {
	Path       string
	ModelType  string
	QuantBits  int
	QuantGroup int
	NumFiles   int // of weights
}

// Discover looks through a folder and those below it for models that can be loaded.
func Discover(dir string) iter.Seq[DiscoveredModel] {
	return func(yield func(DiscoveredModel) bool) {
		found, err := gomlx.Discover(dir)
		if err != nil {
			return
		}
		for _, info := range found {
			if info.Err != nil {
				continue
			}
			files, _ := filepath.Glob(filepath.Join(info.Path, "*.safetensors"))
			if !yield(DiscoveredModel{
				Path: info.Path, ModelType: info.Family, QuantBits: info.QuantisationBits,
				QuantGroup: info.QuantisationGroup, NumFiles: len(files),
			}) {
				return
			}
		}
	}
}
