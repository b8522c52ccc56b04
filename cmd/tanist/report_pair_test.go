package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tanist-ha/tanist/internal/control"
)

// Two whole daemons tell each other their status: each has both sides of every path,
// the other one's clock, and whether the configurations agree.
func TestPairReports(t *testing.T) {
	if !inside(t) {
		return
	}
	dir := t.TempDir()
	key := filepath.Join(dir, "key")
	if got := tanist(t, "keygen", key); got.code != exitOK {
		t.Fatalf("keygen: %+v", got)
	}
	file := func(node, lease string) string {
		name := filepath.Join(dir, node+".yaml")
		text := fmt.Sprintf(pairConfig, key, "advert_interval: 100ms") + "    lease: " + lease + "\n"
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	with := func(node, lease string) []string {
		state := filepath.Join(dir, node)
		if err := os.MkdirAll(state, 0o700); err != nil {
			t.Fatal(err)
		}
		return []string{"run", "--config", file(node, lease), "--node", node, "--socket", filepath.Join(dir, node+".s"), "--state-dir", state}
	}
	status := func(node string) control.Document {
		doc, _ := control.Dial(filepath.Join(dir, node+".s")).Status(t.Context()) // not up yet: an empty one
		return doc
	}
	began := time.Now().Add(-time.Second)
	reserve := inAnotherNetwork(t, "192.0.2.12/24", with("reserve", "3s")...)
	addAddress(t, "veth0", "192.0.2.11/24")
	primary := startTanist(t, with("primary", "2s")...)

	for _, node := range []string{"primary", "reserve"} {
		other := map[string]string{"primary": "reserve", "reserve": "primary"}[node]
		var doc control.Document
		eventually(t, node+" has the other one's word on everything", func() bool {
			doc = status(node)
			r := doc.Peer.Report
			return r != nil && doc.Peer.ClockOffsetMS != nil && len(r.Instances) == 1 &&
				slices.Contains([]string{"active", "backup"}, r.Instances[0].State) &&
				len(doc.Peer.Paths) == 1 && doc.Peer.Paths[0].PeerHeardMSAgo != nil
		})
		r := doc.Peer.Report
		if r.Node != other || r.Host == nil || r.Host.Started.Before(began) || r.Host.Clock.Before(r.Host.Started) || r.Peer.Report != nil || len(r.Peer.Instances) != 0 {
			t.Errorf("%s has the report %+v", node, r)
		}
		if p := doc.Peer.Paths[0]; p.HearsUs == nil || !*p.HearsUs || !*p.PeerHeard || *p.PeerHeardMSAgo > 5000 {
			t.Errorf("%s has the path %+v", node, p)
		}
		if *doc.Peer.ClockUncertaintyMS > 1000 || *doc.Peer.ClockOffsetMS > *doc.Peer.ClockUncertaintyMS+1 || doc.Peer.ClocksDiffer {
			t.Errorf("%s says of two daemons on one host: %v ± %v ms", node, *doc.Peer.ClockOffsetMS, *doc.Peer.ClockUncertaintyMS)
		}
		c := doc.Peer.Configuration
		if c == nil || c.Global || c.Keys || c.OtherRelease || !slices.Equal(c.Instances, []string{"compass"}) {
			t.Errorf("%s says of configurations that differ in a lease: %+v", node, c)
		}
		if got := doc.Host.KeyIDs; len(got) != 1 || len(got[0]) != 8 {
			t.Errorf("%s has the key IDs %q", node, got)
		}
		secret, err := os.ReadFile(key)
		if err != nil {
			t.Fatal(err)
		}
		if text, err := json.Marshal(doc); err != nil || strings.Contains(string(text), strings.TrimSpace(string(secret))) {
			t.Errorf("%s tells the key: %v", node, err)
		}
	}
	eventually(t, "the standby's word on the advertisements", func() bool {
		p := status("primary").Heartbeat
		return len(p) == 1 && p[0].PeerHeard != nil && *p[0].PeerHeard && *p[0].PeerHeardMSAgo < 5000
	})
	oneWayLoss(t, reserve, func() control.Document { return status("primary") })
	file("reserve", "2s")
	if err := reserve.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the same lease after a reload", func() bool {
		c := status("primary").Peer.Configuration
		return c != nil && !c.Any()
	})
	for node, p := range map[string]tanistProcess{"primary": primary, "reserve": reserve} {
		if err := p.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if code := p.end(t); code != exitOK {
			t.Errorf("%s: exit status %d\n%s", node, code, p.stderr)
		}
	}
}

// loseAdvertisements drops those that come to a process's network, and nothing else.
func loseAdvertisements(t *testing.T, pid int) (mend func()) {
	t.Helper()
	nft := func(commands string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "nsenter", "--net", "--target", strconv.Itoa(pid), "nft", "-f", "-")
		cmd.Stdin = strings.NewReader(commands)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("nft: %v: %s", err, out)
		}
	}
	nft("table ip lossy { chain in { type filter hook input priority 0; ip protocol 112 drop; }; }")
	return func() { nft("delete table ip lossy") }
}

// oneWayLoss has the standby hear no advertisements, while the link says that the
// active one is well: that one's status says which way is lost, and it stays.
func oneWayLoss(t *testing.T, standby tanistProcess, active func() control.Document) {
	t.Helper()
	if _, err := exec.LookPath("nft"); err != nil {
		t.Log("no nft: without one-way loss")
		return
	}
	mend := loseAdvertisements(t, standby.Process.Pid)
	eventually(t, "the loss of advertisements one way", func() bool {
		doc := active()
		p, l := doc.Heartbeat[0], doc.Peer.Paths[0]
		return p.PeerHeardMSAgo != nil && *p.PeerHeardMSAgo > 2000 && l.PeerHeardMSAgo != nil && *l.PeerHeardMSAgo < 2000 && *l.HearsUs
	})
	if in := active().Instances[0]; in.State != "active" {
		t.Errorf("the active one is %s: %s, %s", in.State, in.Reason, in.Detail)
	}
	mend()
	eventually(t, "advertisements again", func() bool {
		p := active().Heartbeat[0]
		return p.PeerHeardMSAgo != nil && *p.PeerHeardMSAgo < 2000
	})
}
