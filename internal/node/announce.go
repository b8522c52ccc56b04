package node

import (
	"context"
	"errors"
	"fmt"

	"github.com/tanist-ha/tanist/internal/failover"
)

// ErrNotHeld is the answer of Announce where the address is not here for certain.
var ErrNotHeld = errors.New("this node does not hold the address")

// Announce tells the neighbours once, if the instance holds its address and has no
// move of it under way: they believe whoever speaks last. Its errors are ErrNotHeld,
// *BusyError, ErrLeaving, ErrStopped and those of the interface.
func (n *Node) Announce(ctx context.Context, name string) error {
	in := n.find(name)
	if in == nil {
		return fmt.Errorf("no instance is called %q", name)
	}
	said, err := ask(ctx, n, func(work context.Context) error {
		in := in.current()
		if in.gone {
			return ErrLeaving
		}
		in.step(work, failover.Tick{}) // a loop that was away lets go first
		return in.announceIfHeld()
	})
	if err != nil {
		return err
	}
	return said
}

func (in *instance) announceIfHeld() error {
	now := in.node.now()
	st := in.Core.Status(now)
	give := in.said.Give
	switch {
	case !st.Holds || now.After(in.leased):
		return ErrNotHeld
	case st.State == failover.Demoting, give != nil && give.Stage < failover.GiveDone, taking(in.said.Take), st.PeerFresh && taking(st.PeerState.Take):
		return &BusyError{Instance: in.Name, Doing: "its address is moving"}
	}
	return in.Addresses.Announce()
}
