package peer

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// confirmed collects what a link confirms.
type confirmed struct {
	mu   sync.Mutex
	runs []Run
}

func (c *confirmed) take(runs []Run) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.runs = append(c.runs, runs...)
}

func (c *confirmed) last() Run {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.runs) == 0 {
		return Run{}
	}
	return c.runs[len(c.runs)-1]
}

func presentPair(t *testing.T, runs func() []Run, keys ...Key) (a, b *end, heard *confirmed) {
	t.Helper()
	ap, bp := twoPaths()
	heard = &confirmed{}
	one, err := New(Config{Node: "primary", Peer: "reserve", Paths: ap, Port: port, Keys: keys, Runs: runs})
	if err != nil {
		t.Fatal(err)
	}
	other, err := New(Config{Node: "reserve", Peer: "primary", Paths: bp, Port: port, Keys: keys, Confirm: heard.take})
	if err != nil {
		t.Fatal(err)
	}
	a, b = run(t, one), run(t, other)
	a.connected(t, 0, 1)
	return a, b, heard
}

func TestARunIsConfirmedByAProvedLink(t *testing.T) {
	var mu sync.Mutex
	at := uint64(7)
	a, _, heard := presentPair(t, func() []Run {
		mu.Lock()
		defer mu.Unlock()
		at++
		return []Run{{"compass", 1 << 60, at}, {"sextant", 1 << 60, at}}
	}, keyOld)
	eventually(t, "it comes with the connection, with nothing else to say", func() bool { return heard.last().Boot == 1<<60 })
	first := heard.last().Sequence
	seq := uint64(0)
	eventually(t, "and again while the nodes speak", func() bool {
		seq++
		a.say("compass", state(7, seq))
		return heard.last().Sequence > first
	})
	heard.mu.Lock()
	defer heard.mu.Unlock()
	for i, r := range heard.runs {
		if want := []string{"compass", "sextant"}[i%2]; r.Instance != want || i > 1 && r.Sequence <= heard.runs[i-2].Sequence {
			t.Errorf("out of order: %+v", heard.runs)
		}
	}
}

// What proves nothing confirms nothing.
func TestNoRunIsConfirmedWithoutAKey(t *testing.T) {
	a, b, heard := presentPair(t, func() []Run { return []Run{{"compass", 1, 1}} })
	a.say("compass", state(7, 1))
	eventually(t, "they speak", func() bool { return b.last("compass").Seq == 1 })
	c := &channel{far: hello{Boot: 1}}
	if err := b.hearPresence(c, 99, presence(1, []Run{{"compass", 1, 1}})); err != nil {
		t.Error(err)
	}
	if got := heard.last(); got != (Run{}) {
		t.Errorf("confirmed %+v", got)
	}
}

// A daemon that is gone is not confirmed again by what it left in a socket.
func TestAnOldDaemonIsNotConfirmed(t *testing.T) {
	heard := &confirmed{}
	l, err := New(Config{
		Node: "reserve", Peer: "primary", Paths: []Path{{Local: loopback(), Peer: loopback()}}, Port: port,
		Keys: []Key{keyOld}, Confirm: heard.take,
	})
	if err != nil {
		t.Fatal(err)
	}
	key := l.secrets.Load().keys[0]
	from := func(boot uint64) *channel { return &channel{agreed: agreement{key: key}, far: hello{Boot: boot}} }
	for _, step := range []struct {
		boot, connection, number uint64
		run                      Run
		taken                    bool
	}{
		{1, 1, 1, Run{"compass", 50, 1}, true},
		{1, 1, 2, Run{"compass", 50, 2}, true},
		{1, 2, 1, Run{"compass", 50, 9}, false}, // held back
		{2, 4, 1, Run{"compass", 20, 1}, true},  // the next daemon
		{1, 3, 9, Run{"compass", 50, 10}, false},
		{2, 4, 2, Run{"compass", 20, 2}, true},
	} {
		if err := l.hearPresence(from(step.boot), step.connection, presence(step.number, []Run{step.run})); err != nil {
			t.Fatal(err)
		}
		if (heard.last() == step.run) != step.taken {
			t.Errorf("%+v: confirmed %+v", step, heard.last())
		}
	}
}

func TestPresenceTravelsInPieces(t *testing.T) {
	var runs []Run
	for i := range 3*presenceRuns + 1 {
		runs = append(runs, Run{fmt.Sprint("instance", i), 1 << 63, uint64(i)})
	}
	var p presences
	var got []Run
	for i, item := range p.items(runs) {
		number, part, err := parsePresence(item)
		if err != nil || number != uint64(i+1) {
			t.Fatalf("number %d, %v", number, err)
		}
		got = append(got, part...)
	}
	if diff := cmp.Diff(runs, got); diff != "" {
		t.Error(diff)
	}
	for name, b := range map[string]string{
		"empty": "", "no number": "\x00\x00", "cut": "\x01\x01\x07compass\x01", "no boot": "\x01\x01\x01x\x00\x01",
		"more behind": "\x01\x00x", "a name without end": "\x01\x01\xff\xff\x03x", "runs without end": "\x01\xff\xff\xff\xff\x0f",
		"too many": "\x01\x81\x08" + strings.Repeat("\x00\x01\x01", maxInstances+1),
	} {
		if n, runs, err := parsePresence([]byte(b)); err == nil {
			t.Errorf("%s: read as %d, %v", name, n, runs)
		}
	}
}
