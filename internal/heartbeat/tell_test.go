package heartbeat

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tanist-ha/tanist/vrrp"
	"github.com/tanist-ha/tanist/vrrp/auth"
)

// TestTelling is what the log hears of a flood: the first packet at once, the
// others once a minute with their number, also when no further one comes.
func TestTelling(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		told := make(lines, 10000)
		teller := newTeller(told)
		flood := tale{"compass", "drop advertisements", auth.ReasonTag}
		from := whence{source: netip.MustParseAddr("192.0.2.66")}
		start := time.Now()
		for time.Since(start) < 10*time.Minute-tellInterval/2 {
			teller.tell(flood, from, 1)
			time.Sleep(10 * time.Millisecond)
		}
		got := told.all()
		if len(got) != 10 || strings.Contains(got[0], "times") || !strings.Contains(got[1], "(auth_tag): 6000 times, last from 192.0.2.66: forged") {
			t.Errorf("%d lines, %q", len(got), got[:min(2, len(got))])
		}
		teller.tell(tale{"compass", "drop advertisements", vrrp.DropVersion}, from, 1)
		teller.tell(tale{"other", "drop advertisements", auth.ReasonTag}, from, 1)
		if got := told.all(); len(got) != 2 {
			t.Errorf("another reason and another instance: %q", got)
		}
		teller.flush()
		if got := told.all(); len(got) != 0 {
			t.Errorf("too soon: %q", got)
		}
		time.Sleep(tellInterval)
		teller.flush()
		if got := told.all(); len(got) != 1 || !strings.Contains(got[0], "2999 times") {
			t.Errorf("the rest: %q", got)
		}
		time.Sleep(tellInterval)
		teller.flush()
		if got := told.all(); len(got) != 0 {
			t.Errorf("told again: %q", got)
		}
	})
}

// TestEveryReasonIsExplained keeps a new reason from being told without a word.
func TestEveryReasonIsExplained(t *testing.T) {
	all := []fmt.Stringer{sifting(true), sifting(false)}
	for _, r := range vrrp.DropReasons() {
		all = append(all, r)
	}
	for _, r := range auth.Reasons() {
		all = append(all, r)
	}
	for _, r := range all {
		if explain(r) == "" {
			t.Errorf("%s has no explanation", r)
		}
	}
	if last := len(vrrp.DropReasons()); last != int(vrrp.DropOverflow) {
		t.Errorf("the counters have no room for %d reasons", last)
	}
	if last := len(auth.Reasons()); last != int(auth.ReasonPaths) {
		t.Errorf("the counters have no room for %d reasons of auth", last)
	}
}
