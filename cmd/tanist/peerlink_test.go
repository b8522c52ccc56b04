package main

// What the link proves, between two whole daemons.

import (
	"encoding/json"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/tanist-ha/tanist/internal/control"
)

// linkedPair is two daemons with a key: primary here, reserve in a namespace of its own.
type linkedPair struct {
	t   *testing.T
	dir string
	key string
}

func newLinkedPair(t *testing.T) *linkedPair {
	t.Helper()
	p := &linkedPair{t: t, dir: t.TempDir()}
	p.key = filepath.Join(p.dir, "key")
	if got := tanist(t, "keygen", p.key); got.code != exitOK {
		t.Fatalf("keygen: %+v", got)
	}
	if err := os.WriteFile(filepath.Join(p.dir, "tanist.yaml"), fmt.Appendf(nil, pairConfig, p.key, "advert_interval: 100ms"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, node := range []string{"primary", "reserve"} {
		if err := os.MkdirAll(filepath.Join(p.dir, node), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

func (p *linkedPair) run(node string) []string {
	return []string{
		"run", "--config", filepath.Join(p.dir, "tanist.yaml"), "--node", node,
		"--socket", filepath.Join(p.dir, node+".s"), "--state-dir", filepath.Join(p.dir, node),
	}
}

func (p *linkedPair) status(node string) (control.Document, bool) {
	doc, err := control.Dial(filepath.Join(p.dir, node+".s")).Status(p.t.Context())
	return doc, err == nil && len(doc.Instances) == 1 && doc.Instances[0].Heartbeat != nil && len(doc.Peer.Paths) == 1
}

// settled waits until primary is active and reserve heard it, with proof, after a
// moment.
func (p *linkedPair) settled(what string, after time.Time) {
	p.t.Helper()
	eventually(p.t, what, func() bool {
		one, ok := p.status("primary")
		other, too := p.status("reserve")
		if !ok || !too {
			return false
		}
		h := other.Instances[0].Heartbeat
		return one.Instances[0].State == "active" && other.Instances[0].State == "backup" &&
			h.Proved != nil && *h.Proved && time.Duration(*h.LastHeardMS+1)*time.Millisecond < time.Since(after) && one.Peer.Paths[0].Proved && other.Peer.Paths[0].Proved
	})
}

// A daemon that lost its state directory and whose clock is a year behind gives
// itself an identity that seems old. The link proves that it is not.
func TestALostClockIsBelievedAgain(t *testing.T) {
	if !inside(t) {
		return
	}
	p := newLinkedPair(t)
	state := filepath.Join(p.dir, "primary", "heartbeat")
	line, err := json.Marshal(map[string]any{"boot": time.Now().Add(365 * 24 * time.Hour).UnixNano(), "peers": []any{}})
	if err != nil {
		t.Fatal(err)
	}
	sum := crc32.Checksum(line, crc32.MakeTable(crc32.Castagnoli))
	if err := os.WriteFile(state, fmt.Appendf(nil, "%s\n%08x\n", line, sum), 0o600); err != nil {
		t.Fatal(err)
	}
	reserve := inAnotherNetwork(t, "192.0.2.12/24", p.run("reserve")...)
	addAddress(t, "veth0", "192.0.2.11/24")
	primary := startTanist(t, p.run("primary")...)
	p.settled("the pair", time.Now())

	if err := primary.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = primary.Wait()
	if err := os.Remove(state); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	primary = startTanist(t, p.run("primary")...)
	p.settled("the active one is heard again", began)
	t.Logf("believed again %v after its start", time.Since(began).Round(time.Millisecond))
	for _, d := range []tanistProcess{reserve, primary} {
		if err := d.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if code := d.end(t); code != exitOK {
			t.Errorf("exit status %d\n%s", code, d.stderr)
		}
	}
}
