package interop

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/tanist-ha/tanist/internal/doctor/probe"
	"github.com/tanist-ha/tanist/vrrp/auth"
)

// TestProbeOnTheGroup: what `tanist doctor` sends to the VRRP group of a pair is nothing
// to a keepalived of somebody else's on it: its state stays, it counts no error, and logs
// a line of its own only where it is told to log VRIDs that it does not have.
func TestProbeOnTheGroup(t *testing.T) {
	onGroup := slices.DeleteFunc(ways(), func(w way) bool { return !w.multicast })
	if len(onGroup) == 0 {
		t.Fatal("no way goes to a group")
	}
	everyWay(t, onGroup, func(t *attempt, w way) {
		s := newSegment(t)
		k := newKeepalived(t, s.b, w, 100, "")
		k.logsUnknown()
		k.start()
		eventually(t, "keepalived to be Active", func() bool { return len(s.b.has(w.vips)) == len(w.vips) })
		before, logged := k.statistics(), k.lines()
		keys, err := auth.ParseKeys([]byte(strings.Repeat("ab", 32) + "\n"))
		if err != nil {
			t.Fatal(err)
		}
		for _, sealed := range [][]auth.Key{keys, nil} {
			err := s.a.do(func() error {
				x, err := probe.Open(probe.Config{Token: 7, Keys: sealed, Paths: []probe.Path{{Interface: nic, Local: w.a, Peer: w.b}}})
				if err != nil {
					return err
				}
				defer x.Close()
				if err := x.Send(t.Context()); err != nil {
					return err
				}
				if h := x.Heard()[0]; h.Sent != probe.Count || h.SendErr != nil || h.Err != nil {
					t.Errorf("not sent: %+v", h)
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		const unknown = "Unknown VRID(0) received on interface(eth0). ignoring..."
		// The kernel sums the seal up with what is before it for a keepalived of IPv6, and
		// drops it: only those without a seal come to it.
		reach := 2 * probe.Count
		if w.a.Is6() {
			reach = probe.Count
		}
		eventually(t, "keepalived to have read them all", func() bool { return k.said(unknown) == reach })
		after := k.statistics()
		if before != after {
			t.Errorf("its counters before:\n%s\nand after:\n%s", before, after)
		}
		for _, line := range k.lines()[len(logged):] {
			if !strings.Contains(line, unknown) && !strings.Contains(line, "Printing VRRP") {
				t.Errorf("it says %q", line)
			}
		}
		if len(s.b.has(w.vips)) != len(w.vips) {
			t.Error("it lost its addresses")
		}
	})
}

// logsUnknown has keepalived log what it does not log by itself.
func (k *keepalived) logsUnknown() {
	name := k.file("keepalived.conf")
	text, err := os.ReadFile(name)
	if err != nil {
		k.t.Fatal(err)
	}
	more := strings.Replace(string(text), "global_defs {", "global_defs {\n  log_unknown_vrids", 1)
	if err := os.WriteFile(name, []byte(more), 0o600); err != nil {
		k.t.Fatal(err)
	}
}

func (k *keepalived) lines() []string {
	b, err := os.ReadFile(k.file("log"))
	if err != nil {
		k.t.Fatal(err)
	}
	return strings.SplitAfter(strings.TrimSpace(string(b)), "\n")
}

// ownCounts grow by what keepalived does itself.
var ownCounts = regexp.MustCompile(`(?m)^ *Sent: \d+$`)

// statistics are its counters but for those.
func (k *keepalived) statistics() string {
	name := k.file("keepalived.stats")
	_ = os.Remove(name)
	if err := syscall.Kill(k.child(), syscall.SIGUSR2); err != nil {
		k.t.Fatal(err)
	}
	var text []byte
	eventually(k.t, "keepalived's counters", func() bool {
		text, _ = os.ReadFile(name)
		return strings.Contains(string(text), "Priority Zero") && strings.HasSuffix(string(text), "\n")
	})
	return ownCounts.ReplaceAllString(string(text), "")
}
