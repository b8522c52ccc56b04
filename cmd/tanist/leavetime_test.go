package main

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tanist-ha/tanist/internal/config"
	"github.com/tanist-ha/tanist/systemd"
)

const leaveConfig = `
nodes:
  primary: {addresses: [10.77.0.11]}
  reserve: {addresses: [10.77.0.12]}
key_file: /etc/tanist/cluster.key
instances:
  - name: compass
    interface: eth0
    vrid: 51
    vips: [10.77.0.100/24]
`

func leaveFile(t *testing.T, more string) *config.File {
	t.Helper()
	f, err := config.Parse("x.yaml", []byte(leaveConfig+more))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// The shipped unit gives a daemon with the default plans the time that its leave may
// take, and not much more.
func TestShippedStopTimeout(t *testing.T) {
	need := leaveTime(leaveFile(t, ""), 0)
	has, err := shippedStopTimeout()
	if err != nil {
		t.Fatal(err)
	}
	if want := (need + 10*time.Second - 1).Truncate(10 * time.Second); has != want {
		t.Errorf("the unit has TimeoutStopSec=%s, the default plans take %s: write %s", has, need, want)
	}
}

func TestLeaveTimeGrowsWithThePlans(t *testing.T) {
	usual := leaveTime(leaveFile(t, ""), 0)
	slow := leaveTime(leaveFile(t, "    demote: [{writes: close, timeout: 10m}, {vip: release}]\n"), 0)
	if slow < usual+19*time.Minute { // taken back and then closed for good
		t.Errorf("%s with the usual plan, %s with one of ten minutes", usual, slow)
	}
	two := leaveTime(leaveFile(t, "  - {name: sextant, interface: eth0, vrid: 52, vips: [10.77.0.101/24]}\n"), 0)
	if two != usual {
		t.Errorf("%s for one instance, %s for two: they leave side by side", usual, two)
	}
}

func TestCheckNotesAShortStopTimeout(t *testing.T) {
	t.Parallel()
	for plan, noted := range map[string]bool{"": false, "    demote: [{writes: close, timeout: 10m}, {vip: release}]\n": true} {
		h := &hostCheck{file: leaveFile(t, plan), units: systemd.NewUnits(systemd.UnitsConfig{Sockets: []string{filepath.Join(t.TempDir(), "none")}})}
		h.stopTimeout(t.Context())
		if len(h.problems) > 0 || (len(h.notices) == 1) != noted {
			t.Errorf("with %q: problems %v, notes %v", plan, h.problems, h.notices)
		}
		if noted && !strings.Contains(h.notices[0].Hint, "TimeoutStopSec=") {
			t.Errorf("the hint is %q", h.notices[0].Hint)
		}
	}
}
