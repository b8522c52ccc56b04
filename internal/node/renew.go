package node

// Every instance renews its lease four times in its length. A renewal that nobody
// waits for is put off to the end of the turn, and those of one turn go to the
// kernel together: a round for each of hundreds would cost more than all else that
// the loop does.

import (
	"context"
	"time"

	"github.com/tanist-ha/tanist/internal/failover"
	"github.com/tanist-ha/tanist/internal/mono"
)

// renewTogether bounds the renewals of one call: between the look at the clock and
// the kernel's act lie no more than these.
const renewTogether = 64

// renewLater notes that the lease is to be renewed at the end of the turn, unless
// the address is dropped before.
func (in *instance) renewLater(lease time.Duration) {
	if !in.renews {
		in.node.renewing = append(in.node.renewing, in)
	}
	in.renews, in.lease = true, lease
}

// renew carries out the renewals that were put off. What the cores want renewed
// when they hear of a failure waits for the next turn.
func (n *Node) renew(work context.Context) {
	if len(n.renewing) == 0 {
		return
	}
	all := n.renewing
	n.renewing = nil
	for rest := all; len(rest) > 0; {
		some := rest[:min(len(rest), renewTogether)]
		rest = rest[len(some):]
		n.renewSome(work, some)
	}
	if n.renewing == nil {
		clear(all)
		n.renewing = all[:0]
	}
}

// renewSome holds itself to the rule of hold: a lease that may be over by now is
// not renewed, for the peer may have the address.
func (n *Node) renewSome(work context.Context, some []*instance) {
	began := n.now()
	n.renewals = n.renewals[:0]
	var late []*instance
	asked := some[:0]
	for _, in := range some {
		if !in.renews { // its address was dropped since
			continue
		}
		in.renews = false
		if began.After(in.leased) {
			late = append(late, in)
			continue
		}
		in.undropped = false
		asked = append(asked, in)
		n.renewals = append(n.renewals, Renewal{Addresses: in.Addresses, Lease: in.lease})
	}
	if len(asked) > 0 {
		for i, err := range n.cfg.Renewer.Renew(n.renewals) {
			asked[i].renewed(work, began, err)
		}
	}
	clear(n.renewals)
	for _, in := range late {
		in.renewed(work, began, errLeaseOver)
	}
}

// renewed takes in how a renewal that began at an instant ended.
func (in *instance) renewed(work context.Context, began mono.Instant, err error) {
	if err == nil {
		in.leased = began.Add(in.lease)
		return
	}
	in.trouble("hold the address", err)
	in.step(work, failover.Held{Err: err})
}
