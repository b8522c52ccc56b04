package node

// Every instance renews its lease four times in its length. A renewal that nobody
// waits for is put off to the end of the turn, and those of one turn go to the
// kernel together: a round for each of hundreds would cost more than all else that
// the loop does.

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/tanist-ha/tanist/internal/failover"
	"github.com/tanist-ha/tanist/internal/mono"
)

// renewTogether bounds the renewals of one call: between the look at the clock and
// the kernel's act lie no more than these.
const renewTogether = 64

// While another process holds the kernel's RTNL lock, a call for the network's
// configuration takes as long as that does: seconds where many interfaces or network
// namespaces are removed. The heartbeat must not wait for it.
const (
	// renewTime is how long the loop waits for a renewal, which normally takes
	// microseconds: part of the patience of a peer with the shortest interval.
	renewTime = 5 * time.Millisecond
	// renewTrouble is what an operator should read of.
	renewTrouble = 100 * time.Millisecond
)

var errKernelSlow = errors.New("the kernel has not answered to a renewal yet")

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
// not renewed, for the peer may have the address. While the kernel has not answered
// an earlier call, it is not asked again.
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
		asked = append(asked, in)
		n.renewals = append(n.renewals, Renewal{Addresses: in.Addresses, Lease: in.lease})
	}
	switch {
	case len(asked) == 0:
	case n.pending.done != nil:
		for _, in := range asked {
			in.counts.renewed(errKernelSlow)
			in.step(work, failover.Held{Err: errKernelSlow})
		}
	default:
		n.renewNow(work, asked, began)
	}
	clear(n.renewals)
	for _, in := range late {
		in.renewed(work, began, errLeaseOver)
	}
}

// pending is a renewal to which the kernel has not answered yet.
type pending struct {
	done  chan []error // nil: there is none
	began mono.Instant
	asked []*instance
	until []mono.Instant // each one's lease as it was
	lease []time.Duration
}

// renewNow waits renewTime for the kernel. After that the cores hear of a failure,
// so that they count on no lease that may not be there, and the loop goes on.
func (n *Node) renewNow(work context.Context, asked []*instance, began mono.Instant) {
	over := mono.Never
	for _, in := range asked {
		in.undropped = false
		over = min(over, in.leased)
	}
	done := make(chan []error, 1)
	renewals := n.renewals
	n.workers.Go(func() { done <- n.renewUntil(over, renewals) })
	late := time.NewTimer(renewTime)
	defer late.Stop()
	select {
	case errs := <-done:
		for i, err := range errs {
			asked[i].renewed(work, began, err)
		}
		return
	case <-late.C:
	}
	n.renewals = nil // the worker has it
	n.pending = pending{done: done, began: began, asked: slices.Clone(asked)}
	for _, in := range asked {
		in.busy.Add(1)
		n.pending.until = append(n.pending.until, in.leased)
		n.pending.lease = append(n.pending.lease, in.lease)
	}
	for _, in := range n.pending.asked {
		in.step(work, failover.Held{Err: errKernelSlow})
	}
}

// renewUntil looks at the clock once more: a worker can start late.
func (n *Node) renewUntil(over mono.Instant, renewals []Renewal) []error {
	if !n.now().After(over) {
		return n.cfg.Renewer.Renew(renewals)
	}
	errs := make([]error, len(renewals))
	for i := range errs {
		errs[i] = errLeaseOver
	}
	return errs
}

// settle waits for the kernel's answer to a renewal of the instance. Nothing that
// is done to its address may overtake it: a renewal brings back what was dropped.
func (n *Node) settle(in *instance) {
	if n.pending.done != nil && slices.Contains(n.pending.asked, in) {
		n.renewedLate(<-n.pending.done)
	}
}

// renewedLate takes in an answer that the loop did not wait for. Where the lease
// was over by then, the kernel may have brought the address back, and the peer have
// it: it goes.
func (n *Node) renewedLate(errs []error) {
	now, p := n.now(), n.pending
	n.pending = pending{}
	if took := now.Sub(p.began); took > renewTrouble {
		n.cfg.Log.Trouble("", "renew leases", fmt.Errorf("the kernel took %v", took.Round(time.Millisecond)))
	}
	for i, in := range p.asked {
		in.busy.Done()
		in.counts.renewed(errs[i])
		switch {
		case in.gone || in.leased != p.until[i]: // it is another's, or another lease
		case errs[i] != nil:
			in.trouble("hold the address", errs[i])
		case now.After(p.until[i]):
			in.trouble("hold the address", errLeaseOver)
			in.drop()
		default:
			in.leased = p.began.Add(p.lease[i])
		}
	}
}

// renewed takes in how a renewal that began at an instant ended.
func (in *instance) renewed(work context.Context, began mono.Instant, err error) {
	in.counts.renewed(err)
	if err == nil {
		in.leased = began.Add(in.lease)
		return
	}
	in.trouble("hold the address", err)
	in.step(work, failover.Held{Err: err})
}
