package main

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/tanist-ha/tanist/internal/config"
	"github.com/tanist-ha/tanist/internal/failover"
	"github.com/tanist-ha/tanist/internal/node"
	"github.com/tanist-ha/tanist/vrrp/vip"
)

// addresses are the virtual addresses of one instance.
type addresses struct{ *vip.Holder }

// Hold adds or renews them.
func (a addresses) Hold(h failover.Hold) error { return a.Holder.Hold(h.Lease) }

// Drop removes them.
func (a addresses) Drop() error { return a.Release() }

// renewer renews the leases of several instances in as few rounds as there can be.
type renewer struct{ table *vip.Table }

// Renew returns each one's error.
func (r renewer) Renew(rs []node.Renewal) []error {
	holds := make([]vip.Renewal, 0, len(rs))
	for _, n := range rs {
		if a, ok := n.Addresses.(addresses); ok { // build makes no others
			holds = append(holds, vip.Renewal{Holder: a.Holder, Lease: n.Lease})
		}
	}
	return r.table.Hold(holds)
}

// exactly are addresses of which the same may be held under another prefix length.
type exactly struct{ addresses }

// Drop removes them.
func (a exactly) Drop() error { return a.ReleaseExactly() }

// Announce tells the neighbours. An interface without neighbours has none to tell.
func (a addresses) Announce() error {
	if err := a.Holder.Announce(); !errors.Is(err, vip.ErrNoARP) {
		return err
	}
	return nil
}

// Leftover reports whether the kernel still has every address on a lease.
func (a addresses) Leftover() bool {
	left, held, err := a.Held()
	return err == nil && held && left > 0
}

// kernel asks the silent peer's kernel on behalf of one instance.
type kernel struct {
	iface string
	vips  []netip.Addr
	local []netip.Addr
	peer  []netip.Addr
	ports []netip.AddrPort
	// hardware tells the peer's answers from a stranger's. It learns from every
	// question; its Learn is for while the peer is heard.
	hardware *vip.Peer
}

func newKernel(hardware *vip.Peer, in config.Instance, local, peer []netip.Addr, port uint16) kernel {
	k := kernel{iface: in.Interface, vips: vips(in), local: local, peer: peer, hardware: hardware}
	for _, a := range peer {
		k.ports = append(k.ports, netip.AddrPortFrom(a, port))
	}
	return k
}

// Ask puts the question. The interface's subnets are looked up each time: they
// can change while the daemon runs.
func (k kernel) Ask(ctx context.Context, within time.Duration) failover.Asked {
	if !slices.ContainsFunc(k.local, func(a netip.Addr) bool { return hasAddress(a.String()) }) {
		return failover.Asked{Err: errNowhere}
	}
	prefixes, err := interfacePrefixes(k.iface)
	if err != nil {
		return failover.Asked{Err: err}
	}
	a, err := vip.Ask(ctx, vip.Question{
		Interface: k.iface, VIPs: k.vips, PeerOnLink: onLink(prefixes, k.peer), PeerTCP: k.ports, Peer: k.hardware, Within: within,
	})
	answer := failover.Asked{Address: a.PeerClaims(), Host: a.Host, OnLink: a.OnLink(), Err: err}
	if strangers := a.Strangers(); len(strangers) > 0 {
		answer.Stranger = strangers[0].Hardware.String()
	}
	return answer
}

// errNowhere: whoever has no address to be answered at hears no answer.
var errNowhere = errors.New("none of this node's own addresses is there yet")

// onLink returns those of the peer's addresses that an interface's subnets reach.
func onLink(prefixes []netip.Prefix, peer []netip.Addr) []netip.Addr {
	var reached []netip.Addr
	for _, a := range peer {
		if slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Masked().Contains(a) }) {
			reached = append(reached, a)
		}
	}
	return reached
}

// hasAddress reports whether an interface of this host has the address.
func hasAddress(address string) bool {
	as, err := net.InterfaceAddrs()
	if err != nil {
		return false
	}
	for _, a := range as {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().String() == address {
			return true
		}
	}
	return false
}
