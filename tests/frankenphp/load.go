// Command load is what examples/frankenphp must bear: connections that stream stories and classify sentences without a
// pause, some of which hang up half-way. Every complete answer must be what it was before the load.
//
//	go run load.go -pid SERVER [-url http://127.0.0.1:8080] [-seconds 300] [-connections 32]
//
// It fails when anything went wrong, and when the server's memory is not flat after a warm-up of a fifth of the time.
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

var (
	prompts = []string{"Once upon a time", "The little dog was sad because", "One day", "A bird sat on the roof.",
		"The king had a secret.", "It was raining", "Tom and Sue", "In a far land"}
	sentences = []string{"what is my balance at the bank", "book a flight to paris", "how long do i cook rice"}
	labels    = []string{" banking", " travel", " kitchen and dining", " work"}

	base              = flag.String("url", "http://127.0.0.1:8080", "the server")
	pid               = flag.Int("pid", 0, "the server's process, whose memory is watched")
	seconds           = flag.Int("seconds", 300, "how long")
	connections       = flag.Int("connections", 32, "how many")
	tokens            = flag.Int("tokens", 48, "tokens of a story")
	grown             = flag.Int("grown", 8192, "KiB that memory may grow by after the warm-up")
	streamed, hungUp  atomic.Int64
	classified, wrong atomic.Int64
	client            = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 1024, MaxConnsPerHost: 0}}
)

// stream reads a story; it hangs up after `most` chunks.
func stream(ctx context.Context, prompt string, most int) (text string, whole bool, err error) {
	ctx, hangUp := context.WithCancel(ctx)
	defer hangUp()
	address := fmt.Sprintf("%s/stream?tokens=%d&prompt=%s", *base, *tokens, url.QueryEscape(prompt))
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return "", false, err
	}
	response, err := client.Do(request)
	if err != nil {
		return "", false, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		said, _ := io.ReadAll(response.Body)
		return "", false, fmt.Errorf("status %d: %s", response.StatusCode, said)
	}
	var story strings.Builder
	chunks, done := 0, false
	for lines := bufio.NewScanner(response.Body); lines.Scan(); {
		data, isData := strings.CutPrefix(lines.Text(), "data: ")
		switch {
		case lines.Text() == "event: done":
			done = true
		case lines.Text() == "":
		case !isData:
			return "", false, fmt.Errorf("not an event: %q", lines.Text())
		case done:
			return story.String(), true, nil
		default:
			var event struct{ Text string }
			if err := json.Unmarshal([]byte(data), &event); err != nil {
				return "", false, err
			}
			story.WriteString(event.Text)
			if chunks++; chunks == most {
				return story.String(), false, nil
			}
		}
	}
	return "", false, errors.New("the stream ended without its last event")
}

func classify(ctx context.Context) ([]string, error) {
	body, err := json.Marshal(map[string]any{"texts": sentences, "labels": labels})
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, *base+"/classify", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	var results []struct{ Label string }
	if err := json.NewDecoder(response.Body).Decode(&results); err != nil {
		return nil, err
	}
	var found []string
	for _, result := range results {
		found = append(found, result.Label)
	}
	return found, nil
}

// caller asks one thing after the other until the time is over.
func caller(until context.Context, alone map[string]string) {
	fail := func(what string, err error) {
		if n := wrong.Add(1); n <= 20 {
			fmt.Printf("wrong: %s: %v\n", what, err)
		}
	}
	for until.Err() == nil {
		prompt := prompts[rand.IntN(len(prompts))]
		switch kind := rand.IntN(8); {
		case kind < 2:
			found, err := classify(context.Background())
			if err != nil || !slices.Equal(found, labels[:len(sentences)]) {
				fail("classify", fmt.Errorf("%v, %q", err, found))
				continue
			}
			classified.Add(1)
		case kind < 4: // hangs up half-way
			text, whole, err := stream(context.Background(), prompt, 1+rand.IntN(*tokens/2))
			if err != nil || whole || !strings.HasPrefix(alone[prompt], text) {
				fail("a stream that is left", fmt.Errorf("%v, %q", err, text))
				continue
			}
			hungUp.Add(1)
		default:
			text, _, err := stream(context.Background(), prompt, -1)
			if err != nil || text != alone[prompt] {
				fail("a stream", fmt.Errorf("%v, %q, alone %q", err, text, alone[prompt]))
				continue
			}
			streamed.Add(1)
		}
	}
}

// resident is the server's memory that is not shared with a file, in KiB: leaks are private.
func resident() int {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", *pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(status), "RssAnon:")
	var kib int
	fmt.Sscan(rest, &kib)
	return kib
}

// idle waits until the server's library has no answer in progress and says what it holds.
func idle() (models, generations int, err error) {
	for range 100 {
		var health struct {
			Runtime struct{ LiveModels, LiveGenerations int }
		}
		response, err := client.Get(*base + "/health")
		if err != nil {
			return 0, 0, err
		}
		err = json.NewDecoder(response.Body).Decode(&health)
		response.Body.Close()
		if err != nil {
			return 0, 0, err
		}
		models, generations = health.Runtime.LiveModels, health.Runtime.LiveGenerations
		if generations == 0 {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	return models, generations, nil
}

func run() error {
	alone := map[string]string{}
	for _, prompt := range prompts {
		text, whole, err := stream(context.Background(), prompt, -1)
		if err != nil || !whole {
			return fmt.Errorf("%q: %v", prompt, err)
		}
		alone[prompt] = text
	}
	before, _, err := idle()
	if err != nil {
		return err
	}
	length := time.Duration(*seconds) * time.Second
	until, stop := context.WithTimeout(context.Background(), length)
	defer stop()
	var callers sync.WaitGroup
	for range *connections {
		callers.Add(1)
		go func() { defer callers.Done(); caller(until, alone) }()
	}
	baseline, highest := 0, 0
	began := time.Now()
	for part := 1; part <= 10; part++ {
		select {
		case <-until.Done():
		case <-time.After(time.Until(began.Add(length * time.Duration(part) / 10))):
		}
		now := resident()
		if part == 2 {
			baseline = now
		}
		highest = max(highest, now)
		fmt.Printf("%4.0f s: %6d streamed, %6d left, %6d classified, %d wrong, %d KiB\n", time.Since(began).Seconds(),
			streamed.Load(), hungUp.Load(), classified.Load(), wrong.Load(), now)
	}
	callers.Wait()
	took := time.Since(began).Seconds()
	client.CloseIdleConnections()
	after, generations, err := idle()
	if err != nil {
		return err
	}
	all := streamed.Load() + hungUp.Load() + classified.Load()
	fmt.Printf("%d requests in %.0f s: %.1f a second, errors %d; memory %d KiB after the warm-up, at most %d, at the end %d;"+
		" %d answers left in progress, %d model handles (before %d)\n",
		all, took, float64(all)/took, wrong.Load(), baseline, highest, resident(), generations, after, before)
	switch {
	case wrong.Load() != 0 || all == 0:
		return errors.New("errors")
	case generations != 0 || after != before:
		return errors.New("something was left behind")
	case resident() > baseline+*grown:
		return errors.New("memory is not flat")
	}
	return nil
}

func main() {
	flag.Parse()
	if err := run(); err != nil {
		fmt.Println("failed:", err)
		os.Exit(1)
	}
}
