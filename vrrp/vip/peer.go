package vip

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// maxHardware bounds what is remembered of one peer. A bond, a replaced NIC and
// a router in between make a few; the oldest goes first.
const maxHardware = 16

// Peer remembers which hardware the peer was heard with, so that a stranger's
// answer for a virtual address is not taken for the peer's. It is safe for
// concurrent use.
type Peer struct {
	table     *Table
	name      string
	addresses []netip.Addr

	mu    sync.Mutex         // guards known
	known []net.HardwareAddr // as last heard, the latest first
}

// NewPeer knows no hardware yet. The addresses are all of the peer's own; those
// that are not on the interface's link teach nothing.
func (t *Table) NewPeer(iface string, addresses []netip.Addr) *Peer {
	return &Peer{table: t, name: iface, addresses: plainAddrs(addresses)}
}

// Learn takes what the kernel's neighbour table has for the peer's addresses. It
// is to be called every few seconds while the peer is heard, and only then: who
// answers for a silent peer's address may be somebody else. It takes
// microseconds, as long as one dump of the interface's neighbours.
func (p *Peer) Learn() error {
	index, err := p.table.kernel.index(p.name)
	if err != nil {
		return err
	}
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		if !slices.ContainsFunc(p.addresses, func(a netip.Addr) bool { return a.Is4() == (family == netlink.FAMILY_V4) }) {
			continue
		}
		list, err := p.table.neighbours.NeighList(index, family)
		// An interrupted dump is incomplete, and what is in it is true.
		if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
			return fmt.Errorf("list neighbours on %s: %w", p.name, err)
		}
		for _, n := range list {
			if a, ok := netip.AddrFromSlice(n.IP); ok && resolved(n) && slices.Contains(p.addresses, a) {
				p.heard(n.HardwareAddr)
			}
		}
	}
	return nil
}

// resolved reports whether an answer of the neighbour's is behind the entry.
func resolved(n netlink.Neigh) bool {
	const answered = unix.NUD_REACHABLE | unix.NUD_STALE | unix.NUD_DELAY | unix.NUD_PROBE | unix.NUD_PERMANENT
	return n.State&answered != 0 && len(n.HardwareAddr) == ethernetAddressLength
}

// Hardware returns what is known, the latest first.
func (p *Peer) Hardware() []net.HardwareAddr {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := make([]net.HardwareAddr, len(p.known))
	for i, hw := range p.known {
		out[i] = slices.Clone(hw)
	}
	return out
}

// has reports whether the hardware counts as the peer's: of a peer whose
// hardware was never heard everything does, which is the careful side.
func (p *Peer) has(hw net.HardwareAddr) bool {
	if p == nil {
		return true
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.known) == 0 || slices.ContainsFunc(p.known, func(k net.HardwareAddr) bool { return bytes.Equal(k, hw) })
}

func (p *Peer) heard(hw net.HardwareAddr) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.known = slices.DeleteFunc(p.known, func(k net.HardwareAddr) bool { return bytes.Equal(k, hw) })
	p.known = slices.Insert(p.known, 0, slices.Clone(hw))
	p.known = p.known[:min(len(p.known), maxHardware)]
}

// plainAddrs are the addresses without zones, which a link has one of.
func plainAddrs(as []netip.Addr) []netip.Addr {
	out := make([]netip.Addr, len(as))
	for i, a := range as {
		out[i] = a.Unmap().WithZone("")
	}
	return out
}
