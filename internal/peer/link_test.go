package peer

import (
	"context"
	"net/netip"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestNewRefusesWhatCannotWork(t *testing.T) {
	a, b := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	one := []Path{{Local: a, Peer: b}}
	for name, cfg := range map[string]Config{
		"no labels":            {Paths: one, Port: 1},
		"one label twice":      {Node: "x", Peer: "x", Paths: one, Port: 1},
		"no port":              {Node: "x", Peer: "y", Paths: one},
		"no path":              {Node: "x", Peer: "y", Port: 1},
		"no address":           {Node: "x", Peer: "y", Port: 1, Paths: []Path{{Local: a}}},
		"any address":          {Node: "x", Peer: "y", Port: 1, Paths: []Path{{Local: netip.IPv4Unspecified(), Peer: b}}},
		"the peer is this":     {Node: "x", Peer: "y", Port: 1, Paths: []Path{{Local: a, Peer: a}}},
		"two families":         {Node: "x", Peer: "y", Port: 1, Paths: []Path{{Local: a, Peer: netip.MustParseAddr("2001:db8::1")}}},
		"an address twice":     {Node: "x", Peer: "y", Port: 1, Paths: append(one, Path{Local: a, Peer: netip.MustParseAddr("192.0.2.3")})},
		"a label without end":  {Node: strings.Repeat("x", 2000), Peer: "y", Port: 1, Paths: one},
		"an IPv4 in IPv6 form": {Node: "x", Peer: "y", Port: 1, Paths: []Path{{Local: netip.MustParseAddr("::ffff:192.0.2.1"), Peer: b}}},
	} {
		if _, err := New(cfg); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestTwoPathsDeliverOnce(t *testing.T) {
	ap, bp := twoPaths()
	a, b := start(t, "primary", "reserve", ap), start(t, "reserve", "primary", bp)
	a.connected(t, 0, 1)
	b.connected(t, 0, 1)
	var want []said
	for seq := uint64(1); seq <= 50; seq++ {
		a.say("compass", state(7, seq))
		want = append(want, said{"compass", 7, seq})
		eventually(t, "the message arrives by both paths", func() bool {
			return b.path(0).Received == seq && b.path(1).Received == seq
		})
	}
	b.say("compass", state(9, 1))
	eventually(t, "the answer arrives", func() bool { return a.last("compass").Seq == 1 })
	if diff := cmp.Diff(want, b.all()); diff != "" {
		t.Errorf("sent (-) and delivered (+) differ:\n%s", diff)
	}
	if n := b.path(0).Duplicates + b.path(1).Duplicates; n != 50 {
		t.Errorf("%d of 100 messages counted as duplicates, want 50", n)
	}
	if at := b.path(0).Heard; at <= 0 || at > now() {
		t.Errorf("heard at %d", at)
	}
	for i, s := range a.Paths() {
		if s.Sent != 50 || s.Superseded != 0 || s.TooLong != 0 || refused(s) != 0 {
			t.Errorf("path %d: %+v", i, s)
		}
	}
}

func TestInstancesDoNotReplaceEachOther(t *testing.T) {
	ap, bp := twoPaths()
	a := start(t, "primary", "reserve", ap)
	for seq := uint64(1); seq <= 10; seq++ {
		for _, i := range []string{"compass", "sextant", "log"} {
			a.say(i, state(7, seq))
		}
	}
	if got := a.path(0).Superseded; got != 27 {
		t.Errorf("%d messages superseded while nobody listened, want 27", got)
	}
	b := start(t, "reserve", "primary", bp)
	for _, i := range []string{"compass", "sextant", "log"} {
		eventually(t, "the newest of "+i, func() bool { return b.last(i).Seq == 10 })
	}
	if diff := cmp.Diff(3, len(b.all())); diff != "" {
		t.Errorf("delivered %v", b.all())
	}
}

func TestOnePathDownAndBack(t *testing.T) {
	ap, bp := twoPaths()
	a := start(t, "primary", "reserve", ap)
	half := start(t, "reserve", "primary", bp[1:])
	half.connected(t, 0)
	a.say("compass", state(7, 1))
	eventually(t, "the only path delivers", func() bool { return half.last("compass").Seq == 1 })
	eventually(t, "the other says why not", func() bool { return a.path(0).SendError.Text != "" })
	if a.path(0).Connected || a.path(0).SendError.At == 0 {
		t.Errorf("a path without a listener: %+v", a.path(0))
	}
	half.stop()
	b := start(t, "reserve", "primary", bp)
	b.connected(t, 0, 1)
	a.connected(t, 0, 1)
	a.say("compass", state(7, 2))
	eventually(t, "both paths deliver", func() bool { return b.path(0).Received > 0 && b.path(1).Received > 0 })
	if got := b.last("compass").Seq; got != 2 {
		t.Errorf("the newest delivered is %d, want 2", got)
	}
}

func TestTheLocalAddressMayComeLater(t *testing.T) {
	p := Path{Local: netip.MustParseAddr("192.0.2.77"), Peer: netip.MustParseAddr("192.0.2.78")}
	e := start(t, "primary", "reserve", []Path{p})
	eventually(t, "the status says what is missing", func() bool {
		return strings.Contains(e.path(0).ReceiveError.Text, "cannot assign requested address")
	})
	e.stop()
}

func TestANewDaemonFollowsTheOldOneForGood(t *testing.T) {
	me, peer := loopback(), loopback()
	e := start(t, "primary", "reserve", []Path{{Local: me, Peer: peer}})
	speak := func(boot, seq uint64) func() {
		conn := callFrom(t, peer, me)
		greetAs(t, conn, "reserve", "primary")
		write(t, conn, frameOf(t, "compass", state(boot, seq)))
		return func() { _ = conn.Close() }
	}
	speak(50, 900)
	eventually(t, "the first boot speaks", func() bool { return e.last("compass") == said{"compass", 50, 900} })
	speak(20, 1)
	eventually(t, "the second boot follows", func() bool { return e.last("compass") == said{"compass", 20, 1} })
}

func TestInboxKnowsWhichBootIsNewer(t *testing.T) {
	for _, test := range []struct {
		name string
		in   []word // boot, seq and the connection it came by
		want []said
	}{
		{"a duplicate by another path", []word{{1, 1, 1}, {1, 1, 2}}, []said{{"i", 1, 1}}},
		{"back in time", []word{{1, 2, 1}, {1, 1, 2}, {1, 3, 2}}, []said{{"i", 1, 2}, {"i", 1, 3}}},
		{"the newer boot was heard first", []word{{2, 1, 5}, {1, 9, 4}, {2, 2, 5}}, []said{{"i", 2, 1}, {"i", 2, 2}}},
		{"the old boot's other path", []word{{1, 9, 1}, {2, 1, 3}, {1, 10, 2}, {1, 11, 1}}, []said{{"i", 1, 9}, {"i", 2, 1}}},
		{"by an older connection after its own youngest", []word{{1, 1, 1}, {1, 1, 4}, {2, 1, 3}}, []said{{"i", 1, 1}}},
		{"a smaller number is no older boot", []word{{9, 9, 1}, {1, 1, 2}}, []said{{"i", 9, 9}, {"i", 1, 1}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			var in inbox
			var got []said
			in.open(func(batch []Said) {
				for _, s := range batch {
					got = append(got, said{s.Instance, s.State.Boot, s.State.Seq})
				}
			})
			for _, w := range test.in {
				if _, err := in.take(w.connection, []Said{{"i", state(w.boot, w.seq)}}); err != nil {
					t.Fatal(err)
				}
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestInboxIsBounded(t *testing.T) {
	var in inbox
	delivered := 0
	in.open(func(batch []Said) { delivered += len(batch) })
	for i := range maxInstances {
		if _, err := in.take(1, []Said{{string(rune(i + 1)), state(1, 1)}}); err != nil {
			t.Fatal(err)
		}
	}
	delivered = 0
	known := string(rune(1))
	_, err := in.take(1, []Said{{"one more", state(1, 1)}, {known, state(1, 2)}, {known, state(1, 2)}})
	if err == nil || delivered != 1 {
		t.Errorf("one more instance than can be: %v; %d of the known one delivered", err, delivered)
	}
	if stale, err := in.take(1, []Said{{known, state(1, 2)}, {known, state(1, 3)}}); stale != 1 || err != nil || delivered != 2 {
		t.Errorf("a known instance no longer counts: %d stale, %v", stale, err)
	}
}

func TestSendKeepsNothingOfTheState(t *testing.T) {
	ap, _ := twoPaths()
	a := start(t, "primary", "reserve", ap)
	s := state(7, 1)
	s.Stopped = []string{"lsyncd.service"}
	a.say("compass", s)
	s.Stopped[0] = "changed afterwards"
	it, _ := a.paths[0].outbox.take()
	if !strings.Contains(string(it.content), "lsyncd.service") {
		t.Errorf("what is sent changed with the caller's slice: %s", it.content)
	}
	a.Send("compass", s)
	if it, _ = a.paths[0].outbox.take(); !strings.Contains(string(it.content), "changed afterwards") {
		t.Errorf("the change is not sent: %s", it.content)
	}
}

func TestTooLongIsSaidAndNotSent(t *testing.T) {
	ap, bp := twoPaths()
	a, b := start(t, "primary", "reserve", ap), start(t, "reserve", "primary", bp)
	a.connected(t, 0, 1)
	s := state(7, 1)
	s.Why.Detail = strings.Repeat("x", MaxMessage)
	a.say("compass", s)
	if got := a.path(1); got.TooLong != 1 || !strings.Contains(got.SendError.Text, "more than 1048576") {
		t.Errorf("status after a message over the limit: %+v", got)
	}
	s.Seq, s.Why.Detail = 2, strings.Repeat("x", MaxMessage-1000)
	a.say("compass", s)
	eventually(t, "one just below the limit", func() bool { return b.last("compass").Seq == 2 })
}

func TestRunEndsAndLeavesNothing(t *testing.T) {
	before := runtime.NumGoroutine()
	ap, bp := twoPaths()
	a, b := start(t, "primary", "reserve", ap), start(t, "reserve", "primary", bp)
	a.connected(t, 0, 1)
	silent := callFrom(t, bp[0].Local, ap[0].Local) // says no hello
	stray := start(t, "primary", "reserve", []Path{{Local: loopback(), Peer: loopback()}})
	if err := a.Run(t.Context(), a.deliver); err == nil {
		t.Error("a second Run of one Link begins")
	}
	a.stop()
	b.stop()
	stray.stop()
	_ = silent.Close()
	eventually(t, "every goroutine ended", func() bool { return runtime.NumGoroutine() <= before })
	if s := a.path(0); s.Connected || s.Accepted {
		t.Errorf("status after the end: %+v", s)
	}
}

func TestTheLastWordIsSent(t *testing.T) {
	ap, bp := twoPaths()
	b := start(t, "reserve", "primary", bp)
	for seq := uint64(1); seq <= 20; seq++ {
		a := start(t, "primary", "reserve", ap)
		a.connected(t, 0, 1)
		a.say("compass", state(seq, 1))
		a.stop()
		eventually(t, "what was said just before the end", func() bool { return b.last("compass").Boot == seq })
	}
}

func TestRunMayBeginAgain(t *testing.T) {
	l, err := New(Config{Node: "a", Peer: "b", Port: port, Paths: []Path{{Local: loopback(), Peer: loopback()}}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 2 {
		if err := l.Run(ctx, func([]Said) {}); err != nil {
			t.Error(err)
		}
	}
}
