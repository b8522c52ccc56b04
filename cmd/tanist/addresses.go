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

// Leftover reports whether the kernel still has every address on a lease, and how
// much of it there is at least: the kernel rounds up to whole seconds.
func (a addresses) Leftover() (left time.Duration, held bool) {
	left, held, err := a.Held()
	if err != nil || !held || left <= 0 {
		return 0, false
	}
	return left - time.Second, true
}

// kernel asks the silent peer's kernel on behalf of one instance.
type kernel struct {
	iface string
	vips  []netip.Addr
	local []netip.Addr // and peer are pair by pair
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

// question is looked up each time: the interface's subnets can change while the
// daemon runs.
func (k kernel) question(prefixes []netip.Prefix, within time.Duration) vip.Question {
	return vip.Question{
		Interface: k.iface, VIPs: k.vips, PeerOnLink: onLink(prefixes, k.peer), PeerTCP: k.ports, PeerTCPFrom: k.local, Peer: k.hardware, Within: within,
	}
}

// Ask puts the question.
func (k kernel) Ask(ctx context.Context, within time.Duration) failover.Asked {
	return asker{}.Ask(ctx, []node.Kernel{k}, within)[0]
}

// asker puts the questions of several instances together.
type asker struct{}

// Ask returns each one's answer.
func (asker) Ask(ctx context.Context, kernels []node.Kernel, within time.Duration) []failover.Asked {
	type look struct {
		prefixes []netip.Prefix
		err      error
	}
	looks := map[string]look{}
	answers := make([]failover.Asked, len(kernels))
	var questions []vip.Question
	var of []int
	for i, n := range kernels {
		k, ok := n.(kernel)
		if !ok { // build makes no others
			answers[i] = n.Ask(ctx, within)
			continue
		}
		l, looked := looks[k.iface]
		if !looked {
			l.prefixes, l.err = vip.AddressesOf(k.iface)
			if l.err == nil && !slices.ContainsFunc(k.local, hasAddress) {
				l.err = errNowhere
			}
			looks[k.iface] = l
		}
		if l.err != nil {
			answers[i].Err = l.err
			continue
		}
		questions, of = append(questions, k.question(l.prefixes, within)), append(of, i)
	}
	for i, r := range vip.AskTogether(ctx, questions) {
		answers[of[i]] = asked(r)
	}
	return answers
}

func asked(r vip.Reply) failover.Asked {
	a := failover.Asked{Address: r.Answer.PeerClaims(), Host: r.Answer.Host, OnLink: r.Answer.OnLink(), Err: r.Err}
	if strangers := r.Answer.Strangers(); len(strangers) > 0 {
		a.Stranger = strangers[0].Hardware.String()
	}
	return a
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
func hasAddress(address netip.Addr) bool {
	as, err := net.InterfaceAddrs()
	if err != nil {
		return false
	}
	for _, a := range as {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr() == address {
			return true
		}
	}
	return false
}
