package main

import (
	"context"
	"errors"
	"os"
	"sync"
	"time"

	"github.com/gomlx/libgomlx/bindings/go"
	"github.com/wailsapp/wails/v2/pkg/runtime"
)

// Chat is what the page can call: its exported methods are window.go.main.Chat in frontend/chat.js.
type Chat struct {
	folder, transcript string
	temperature        float32
	window             context.Context

	mu    sync.Mutex
	model *gomlx.Model
	turns []gomlx.Message
	stop  context.CancelFunc // of the answer under way
}

func (c *Chat) open(window context.Context) { c.window = window }

func (c *Chat) close(context.Context) {
	c.Stop()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.model != nil {
		c.model.Close()
	}
}

// Found is a model in the list.
type Found struct {
	Name       string  `json:"name"`
	Path       string  `json:"path"`
	Family     string  `json:"family"`
	Parameters uint64  `json:"parameters"`
	Megabytes  float64 `json:"megabytes"`
	Bits       int     `json:"bits"`
	Why        string  `json:"why"` // it can't be used, or empty
}

// Models lists what lies below the folder.
func (c *Chat) Models() ([]Found, error) {
	infos, err := gomlx.Discover(c.folder)
	if err != nil {
		return nil, err
	}
	found := make([]Found, len(infos))
	for i, info := range infos {
		found[i] = Found{Name: info.Name, Path: info.Path, Family: info.Family, Parameters: info.Parameters,
			Megabytes: float64(info.BytesOnDisk) / 1e6, Bits: info.QuantisationBits}
		switch {
		case info.Err != nil:
			found[i].Why = info.Err.Error()
		case !info.HasChatTemplate:
			found[i].Why = "it has no chat template"
		}
	}
	return found, nil
}

// ChooseFolder asks for another folder; false where the dialog was left.
func (c *Chat) ChooseFolder() (bool, error) {
	folder, err := runtime.OpenDirectoryDialog(c.window, runtime.OpenDialogOptions{Title: "Models below"})
	if folder != "" {
		c.folder = folder
	}
	return folder != "", err
}

// Use loads a model and begins a new conversation with it.
func (c *Chat) Use(path string) error {
	model, err := gomlx.Load(path)
	if err != nil {
		return err
	}
	c.Stop()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.model != nil {
		c.model.Close() // an answer under way keeps it until it has ended
	}
	c.model, c.turns = model, nil
	return nil
}

// Answer says how an answer went.
type Answer struct {
	Tokens          int     `json:"tokens"`
	TokensPerSecond float64 `json:"tokensPerSecond"`
	FirstToken      float64 `json:"firstToken"` // milliseconds
	Stopped         bool    `json:"stopped"`
}

// Send asks, and returns when the answer is complete. Until then its pieces come as "piece" events.
func (c *Chat) Send(text string) (Answer, error) {
	ctx, stop := context.WithCancel(c.window)
	defer stop()
	c.mu.Lock()
	if c.model == nil || c.stop != nil {
		c.mu.Unlock()
		return Answer{}, errors.New("no model is loaded, or it is answering")
	}
	model, turns := c.model, append(c.turns[:len(c.turns):len(c.turns)], gomlx.Message{Role: "user", Content: text})
	c.stop = stop
	c.mu.Unlock()

	var metrics gomlx.Metrics
	pieces := newPieces(func(piece Piece) { runtime.EventsEmit(c.window, "piece", piece) })
	ask := func() (answer string, err error) {
		options := []gomlx.Option{gomlx.WithTemperature(c.temperature), gomlx.WithMetrics(&metrics)}
		for chunk, err := range model.Chat(ctx, turns, options...) {
			if err != nil {
				return answer, err
			}
			answer += chunk.Text
			pieces.add(chunk)
		}
		return answer, nil
	}
	answer, err := ask()
	for errors.Is(err, gomlx.ErrContextFull) && len(turns) > 2 {
		turns = turns[2:] // a long conversation forgets how it began
		answer, err = ask()
	}
	pieces.flush()

	c.mu.Lock()
	defer c.mu.Unlock()
	c.stop = nil
	if c.model == model { // still the same conversation
		c.turns = append(turns, gomlx.Message{Role: "assistant", Content: answer})
	}
	stopped := errors.Is(err, gomlx.ErrCancelled)
	if stopped {
		err = nil
	}
	return Answer{Tokens: metrics.GeneratedTokens, TokensPerSecond: metrics.DecodeTokensPerSecond,
		FirstToken: metrics.FirstToken.Seconds() * 1e3, Stopped: stopped}, err
}

// Stop ends the answer under way, within one step of the model.
func (c *Chat) Stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stop != nil {
		c.stop()
	}
}

// Keep writes what the window shows to the transcript's file, if one was asked for.
func (c *Chat) Keep(shown string) error {
	if c.transcript == "" {
		return nil
	}
	return os.WriteFile(c.transcript, []byte(shown), 0o644)
}

// Piece is a part of an answer on its way to the page.
type Piece struct {
	Text            string  `json:"text"`
	TokensPerSecond float64 `json:"tokensPerSecond"`
}

// pieces hands tokens on one by one, but no faster than a screen shows them: a small model is quicker than the window.
type pieces struct {
	emit        func(Piece)
	text        string
	tokens      int
	first, last time.Time
}

const frame = 16 * time.Millisecond

func newPieces(emit func(Piece)) *pieces { return &pieces{emit: emit} }

func (p *pieces) add(chunk gomlx.Chunk) {
	now := time.Now()
	if p.first.IsZero() {
		p.first = now
	}
	p.text += chunk.Text
	p.tokens += len(chunk.Tokens)
	if now.Sub(p.last) >= frame {
		p.last = now
		p.flush()
	}
}

func (p *pieces) flush() {
	if p.text == "" {
		return
	}
	piece := Piece{Text: p.text}
	if took := time.Since(p.first).Seconds(); p.tokens > 1 && took > 0 {
		piece.TokensPerSecond = float64(p.tokens-1) / took
	}
	p.text = ""
	p.emit(piece)
}
