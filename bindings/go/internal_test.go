package gomlx

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func TestAnotherABIIsRefused(t *testing.T) {
	if err := abiError(ABI); err != nil {
		t.Fatal(err)
	}
	err := abiError(ABI + 1)
	if !errors.Is(err, ErrUnsupported) || strings.ContainsRune(err.Error(), '\n') {
		t.Fatalf("error %v", err)
	}
	for _, say := range []string{"has ABI 2", "built for 1", "/"} {
		if !strings.Contains(err.Error(), say) {
			t.Errorf("%q does not say %q", err, say)
		}
	}
}

func TestMillisecondsRoundUp(t *testing.T) {
	for d, want := range map[time.Duration]uint64{1: 1, time.Millisecond: 1, time.Millisecond + 1: 2, time.Second: 1000} {
		if got := milliseconds(d); got != want {
			t.Errorf("%v: %d, want %d", d, got, want)
		}
	}
}

func TestEveryStatusHasAName(t *testing.T) {
	seen := map[string]bool{}
	for status := Status(-1); status >= ErrDeadline; status-- {
		name := status.Error()
		if seen[name] || strings.Contains(name, "unknown") {
			t.Errorf("%d: %s", status, name)
		}
		seen[name] = true
	}
}
