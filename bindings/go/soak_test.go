//go:build soak

package gomlx_test

import (
	"bufio"
	"context"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/gomlx/libgomlx/bindings/go"
)

// resident is this process's memory that is not shared with a file: leaks are private.
func resident(t *testing.T) int {
	t.Helper()
	file, err := os.Open("/proc/self/status")
	if err != nil {
		t.Skip("skipped: resident memory is read from /proc")
	}
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		if fields := strings.Fields(lines.Text()); fields[0] == "RssAnon:" {
			kib, err := strconv.Atoi(fields[1])
			if err != nil {
				t.Fatal(err)
			}
			return kib
		}
	}
	t.Fatal("no RssAnon in /proc/self/status")
	return 0
}

// TestTwentyThousandGenerations: resident memory is flat after the warm-up, whichever way an answer ends.
func TestTwentyThousandGenerations(t *testing.T) {
	const total, warm = 20000, 2000
	model := load(t, domains)
	before := live(t)
	baseline := 0
	for i := range total {
		if i == warm {
			baseline = resident(t)
		}
		ctx, cancel := context.WithCancel(background)
		count := 0
		for _, err := range model.Generate(ctx, "Sentence: item "+strconv.Itoa(i%500)+"\nDomain:", gomlx.WithMaxTokens(8),
			gomlx.WithIgnoreEnd(), gomlx.WithStop("never said")) {
			if err != nil && i%10 != 0 {
				t.Fatal(err)
			}
			if count++; i%10 == 0 && count == 2 {
				cancel()
			} else if i%10 == 1 && count == 2 {
				break
			}
		}
		cancel()
		if i%2000 == 1999 {
			t.Logf("%5d generations: %d KiB", i+1, resident(t))
		}
	}
	settled(t, before)
	if grown := resident(t) - baseline; grown > 4096 {
		t.Errorf("grew by %d KiB in %d generations", grown, total-warm)
	}
}
