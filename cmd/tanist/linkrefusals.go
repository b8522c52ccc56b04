package main

import (
	"context"
	"fmt"
	"time"

	"github.com/tanist-ha/tanist/internal/peer"
)

const (
	// refusalLook is how soon the log hears of what the peer link refuses, refusalPause how
	// often of one reason: a flood fills no log, as with the heartbeat's.
	refusalLook  = time.Second
	refusalPause = time.Minute
)

// refusalTeller keeps what the log was told of refusals, by reason: one line of each a
// minute, whatever comes.
type refusalTeller struct {
	seen map[seenRefusal]uint64
	told map[peer.Reason]toldRefusal
}

type seenRefusal struct {
	path   string
	reason peer.Reason
}

type toldRefusal struct {
	at     time.Time
	untold uint64
	last   peer.Refused
}

func newRefusalTeller() *refusalTeller {
	return &refusalTeller{seen: map[seenRefusal]uint64{}, told: map[peer.Reason]toldRefusal{}}
}

// look takes what was refused so far and calls tell for what is to be told now.
func (r *refusalTeller) look(now time.Time, all []peer.Refused, tell func(doing string, err error)) {
	for _, one := range all {
		key := seenRefusal{one.Peer.String(), one.Reason}
		if more := one.Count - r.seen[key]; more > 0 {
			t := r.told[one.Reason]
			t.untold, t.last = t.untold+more, one
			r.told[one.Reason], r.seen[key] = t, one.Count
		}
	}
	for _, reason := range peer.Reasons() {
		t := r.told[reason]
		// A node that asks whether this host lives is counted, and says nothing else.
		if reason == peer.ReasonUnfinished || t.untold == 0 || now.Sub(t.at) < refusalPause {
			continue
		}
		times := ""
		if t.untold > 1 {
			times = fmt.Sprintf("%d times, last ", t.untold)
		}
		tell("connect the nodes ("+reason.String()+")", fmt.Errorf("%son the path to %v: %s", times, t.last.Peer, t.last.Last))
		r.told[reason] = toldRefusal{at: now}
	}
}

// tellRefusals tells the log what the peer link refuses, until ctx ends.
func (d *daemon) tellRefusals(ctx context.Context) error {
	r := newRefusalTeller()
	for sleep(ctx, refusalLook) {
		r.look(time.Now(), d.link.Refused(), func(doing string, err error) { d.log.Trouble("", doing, err) })
	}
	return nil
}
