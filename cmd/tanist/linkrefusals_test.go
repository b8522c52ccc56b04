package main

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"

	"github.com/tanist-ha/tanist/internal/peer"
)

// The log hears of each reason at once, and then once a minute with the number.
func TestRefusalsInTheLog(t *testing.T) {
	one, two := netip.MustParseAddr("192.0.2.12"), netip.MustParseAddr("2001:db8::12")
	var said []string
	tell := func(doing string, err error) { said = append(said, doing+": "+err.Error()) }
	r, at := newRefusalTeller(), time.Now()
	look := func(after time.Duration, want []string, all ...peer.Refused) {
		t.Helper()
		said = nil
		r.look(at.Add(after), all, tell)
		if diff := cmp.Diff(want, said); diff != "" {
			t.Errorf("after %s:\n%s", after, diff)
		}
	}
	refused := func(p netip.Addr, reason peer.Reason, n uint64) peer.Refused {
		return peer.Refused{Peer: p, Reason: reason, Count: n, Last: fmt.Sprint("words ", n)}
	}
	look(0, nil)
	look(time.Second, nil, refused(one, peer.ReasonUnfinished, 7))
	look(2*time.Second, []string{"connect the nodes (wrong_key): on the path to 192.0.2.12: words 1"}, refused(one, peer.ReasonWrongKey, 1))
	look(3*time.Second, nil, refused(one, peer.ReasonWrongKey, 20_000))
	look(4*time.Second, []string{"connect the nodes (stranger): 5 times, last on the path to 2001:db8::12: words 5"},
		refused(one, peer.ReasonWrongKey, 40_000), refused(two, peer.ReasonStranger, 5))
	look(61*time.Second, nil, refused(one, peer.ReasonWrongKey, 50_000))
	look(62*time.Second, []string{"connect the nodes (wrong_key): 50002 times, last on the path to 2001:db8::12: words 3"},
		refused(one, peer.ReasonWrongKey, 50_000), refused(two, peer.ReasonWrongKey, 3), refused(two, peer.ReasonStranger, 5))
	look(time.Hour, nil, refused(one, peer.ReasonWrongKey, 50_000), refused(two, peer.ReasonWrongKey, 3), refused(two, peer.ReasonStranger, 5))
}

// A peer that is confirmed as another run again and again fills no log.
func TestConfirmedAgainAndAgain(t *testing.T) {
	l := &logger{queue: make(chan func(*zap.Logger), 100), told: map[string]*trouble{}}
	for range 1000 {
		l.confirmed("compass")
		l.confirmed("pivot")
	}
	if n := len(l.queue); n != 2 || l.dropped.Load() != 0 {
		t.Errorf("%d lines, %d more", n, l.dropped.Load())
	}
}
