package vip

import (
	"errors"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
)

// The paths to the peer beside the link of the virtual addresses are those that
// the host's routes lead to. They are the same for all interfaces, so several
// questions ask along them once.

// openRouted opens what asks the peers' ports and their addresses along the routes,
// once for all that ask the same and can still be answered.
func openRouted(links []*asking) []*asking {
	var all []*asking
	for _, a := range links {
		if a.err != nil || len(a.question.PeerTCP) == 0 {
			continue
		}
		at := slices.IndexFunc(all, func(r *asking) bool { return r.question.sharesRoutes(a.question) })
		if at < 0 {
			r := &asking{question: Question{Interface: a.question.Interface, PeerTCP: a.question.PeerTCP, PeerTCPFrom: a.question.PeerTCPFrom}, index: a.index}
			r.fail(r.openPorts())
			at, all = len(all), append(all, r)
		}
		a.routed = all[at]
	}
	return all
}

// sharesRoutes reports whether other's ports are asked when q's are.
func (q Question) sharesRoutes(other Question) bool {
	onLink := func(p netip.AddrPort) bool { return p.Addr().IsLinkLocalUnicast() }
	return slices.Equal(q.PeerTCP, other.PeerTCP) && slices.Equal(q.PeerTCPFrom, other.PeerTCPFrom) &&
		(q.Interface == other.Interface || !slices.ContainsFunc(q.PeerTCP, onLink))
}

// openPorts opens two ways to ask, since one packet can get lost, or a firewall
// drop one kind of it.
func (a *asking) openPorts() error {
	var addrs []netip.Addr
	for _, p := range a.question.PeerTCP {
		if !slices.Contains(addrs, p.Addr()) {
			addrs = append(addrs, p.Addr())
		}
	}
	peer4, peer6 := byFamily(addrs)
	return errors.Join(
		a.add(len(peer4) > 0, func() (voice, error) { return openEcho("", a.index, unix.AF_INET, peer4) }),
		a.add(len(peer6) > 0, func() (voice, error) { return openEcho("", a.index, unix.AF_INET6, peer6) }),
		a.add(true, func() (voice, error) {
			return &ports{targets: a.question.PeerTCP, from: a.question.PeerTCPFrom, index: a.index}, nil
		}),
	)
}

// hearRouted takes over what was heard along the routes: nothing of it is about the
// link.
func (a *asking) hearRouted() {
	if a.routed != nil {
		a.answer.Host = a.answer.Host || a.routed.answer.Host
		a.err = errors.Join(a.err, a.routed.err)
	}
}
