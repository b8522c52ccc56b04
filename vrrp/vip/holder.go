// Package vip puts virtual IPv4 addresses on an interface with a lease: the
// kernel removes them by itself unless they are renewed, so a supervisor that
// hangs or dies loses them without doing anything. It also announces them, and
// asks the network who has them.
package vip

import (
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	// AddressProtocol is the IFA_PROTO value that marks an address as ours, in
	// kernels that keep one (5.18 and later). It is VRRP's protocol number.
	AddressProtocol = 112

	// answerTimeout bounds the wait for the kernel's answer to one request,
	// which normally comes in microseconds. While another process holds the
	// kernel's RTNL lock, the request itself waits, whatever the timeout.
	answerTimeout = 100 * time.Millisecond
	// listAttempts bounds the repetition of a dump that a change interrupted.
	listAttempts = 3

	forever        = math.MaxUint32 // a lifetime that never ends
	maxLease       = 24 * time.Hour
	maxLabelLength = unix.IFNAMSIZ - 1
)

// ErrPermanent says that a virtual address is on the interface without a
// lease: somebody else put it there, and no silence of ours will remove it.
var ErrPermanent = errors.New("address has no lease")

// Config names the addresses that are held together.
type Config struct {
	Interface string
	// Addresses are IPv4, each with the prefix length it gets on the interface.
	Addresses []netip.Prefix
	// Label is the address label, such as "eth0:vip"; empty is the interface's
	// name. At most 15 bytes.
	Label string
}

func (c Config) validate() error {
	switch {
	case c.Interface == "" || len(c.Interface) >= unix.IFNAMSIZ:
		return fmt.Errorf("interface name %q is not 1 to 15 bytes long", c.Interface)
	case len(c.Label) > maxLabelLength:
		return fmt.Errorf("label %q is longer than %d bytes", c.Label, maxLabelLength)
	case len(c.Addresses) == 0:
		return fmt.Errorf("no address for %s", c.Interface)
	}
	for i, p := range c.Addresses {
		a := p.Addr()
		if !p.IsValid() || !a.Is4() || a.IsUnspecified() || a.IsMulticast() || a.IsLoopback() || p.Bits() == 0 {
			return fmt.Errorf("%v is not an IPv4 host address", p)
		}
		if slices.Contains(c.Addresses[:i], p) {
			return fmt.Errorf("address %v is listed twice", p)
		}
	}
	return nil
}

// Holder holds the addresses of one Config. Its methods are safe for
// concurrent use, so a slow Announce delays no Hold; but a Hold that runs
// beside a Release may win, so their order is the caller's.
type Holder struct {
	cfg      Config
	kernel   *kernel
	promoted atomic.Int64 // index of the interface that got promote_secondaries
	announce announcer
}

// Open prepares to hold the addresses of cfg in the network namespace of the
// calling thread. The interface need not exist yet. It touches no address.
func Open(cfg Config) (*Holder, error) {
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("hold virtual addresses: %w", err)
	}
	cfg.Addresses = slices.Clone(cfg.Addresses)
	k, err := openKernel(answerTimeout)
	if err != nil {
		return nil, fmt.Errorf("hold virtual addresses on %s: %w", cfg.Interface, err)
	}
	return &Holder{cfg: cfg, kernel: k}, nil
}

// Hold adds the addresses, or renews them, for lease: whole seconds, from one
// second to a day. The kernel removes them between lease and lease + 1 s after
// the last renewal; a permanent address becomes a leased one. On an error the
// others were tried nevertheless, but for a kernel that does not answer within
// 100 ms, which ends the call. A missing interface is ENODEV.
//
// The kernel's removal, like Release, must not take other addresses along.
// Deleting the primary address of a subnet deletes its secondaries unless the
// interface has promote_secondaries, so Hold sets that first. (An address with
// prefix length 32 shares its subnet with nobody and needs none.)
func (h *Holder) Hold(lease time.Duration) error {
	if lease < time.Second || lease > maxLease || lease%time.Second != 0 {
		return fmt.Errorf("hold virtual addresses on %s: lease %v is not whole seconds from 1s to %v", h.cfg.Interface, lease, maxLease)
	}
	index, err := h.kernel.index(h.cfg.Interface)
	if err != nil {
		return err
	}
	if err := h.promoteSecondaries(index); err != nil {
		return err
	}
	seconds := int(lease / time.Second)
	return h.each(func(p netip.Prefix) error {
		addr := address(p, index)
		addr.Label = h.cfg.Label
		addr.Protocol = AddressProtocol
		// A preferred lifetime of 0 would make the address deprecated.
		addr.ValidLft, addr.PreferedLft = seconds, seconds
		if err := h.kernel.AddrReplace(nil, addr); err != nil {
			return fmt.Errorf("add %v to %s: %w", p, h.cfg.Interface, err)
		}
		return nil
	})
}

// Release removes the addresses and nothing else. One that is not there, or
// whose interface is not there, is released already.
func (h *Holder) Release() error {
	index, err := h.kernel.index(h.cfg.Interface)
	if errors.Is(err, unix.ENODEV) {
		return nil
	}
	if err != nil {
		return err
	}
	// Somebody may have reset it since Hold. Whether or not it can be set, the
	// address has to go.
	h.promoted.Store(0)
	promoteErr := h.promoteSecondaries(index)
	return errors.Join(promoteErr, h.each(func(p netip.Prefix) error {
		// Without a label: the kernel would not find an address that has another.
		err := h.kernel.AddrDel(nil, address(p, index))
		if err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) && !errors.Is(err, unix.ENODEV) {
			return fmt.Errorf("delete %v from %s: %w", p, h.cfg.Interface, err)
		}
		return nil
	}))
}

// Held asks the kernel. held is true when every address is there with a
// lifetime; remaining is then the shortest one, in whole seconds rounded up.
// An address that is there for ever is ErrPermanent.
func (h *Holder) Held() (remaining time.Duration, held bool, err error) {
	list, err := h.list()
	if err != nil {
		return 0, false, err
	}
	shortest, found := forever, 0
	for _, a := range list {
		p := prefix(a)
		if !slices.Contains(h.cfg.Addresses, p) {
			continue
		}
		if a.ValidLft == forever {
			return 0, false, fmt.Errorf("look for %v on %s: %w", p, h.cfg.Interface, ErrPermanent)
		}
		shortest = min(shortest, a.ValidLft)
		found++
	}
	if found < len(h.cfg.Addresses) {
		return 0, false, nil
	}
	return time.Duration(shortest) * time.Second, true, nil
}

// Marked returns the addresses on the interface that some Holder put there
// (AddressProtocol), whether or not they are in this one's Config. Kernels
// before 5.18 keep no mark, and the result is empty.
func (h *Holder) Marked() ([]netip.Prefix, error) {
	list, err := h.list()
	if err != nil {
		return nil, err
	}
	var marked []netip.Prefix
	for _, a := range list {
		if a.Protocol == AddressProtocol {
			marked = append(marked, prefix(a))
		}
	}
	return marked, nil
}

// Close closes the sockets. It leaves the addresses to their lease.
func (h *Holder) Close() error {
	if err := errors.Join(h.announce.close(), h.kernel.close()); err != nil {
		return fmt.Errorf("close holder of %s: %w", h.cfg.Interface, err)
	}
	return nil
}

// each does fn for every address, and stops early only when the kernel did
// not answer: the next wait would be as long.
func (h *Holder) each(fn func(netip.Prefix) error) error {
	var errs []error
	for _, p := range h.cfg.Addresses {
		err := fn(p)
		errs = append(errs, err)
		if errors.Is(err, unix.EAGAIN) {
			break
		}
	}
	return errors.Join(errs...)
}

// list returns the IPv4 addresses of the interface, none if there is no such
// interface.
func (h *Holder) list() ([]netlink.Addr, error) {
	index, err := h.kernel.index(h.cfg.Interface)
	if errors.Is(err, unix.ENODEV) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	link := &netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: index}}
	var list []netlink.Addr
	for range listAttempts {
		list, err = h.kernel.AddrList(link, netlink.FAMILY_V4)
		if !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	if err != nil {
		return nil, fmt.Errorf("list addresses of %s: %w", h.cfg.Interface, err)
	}
	return list, nil
}

func (h *Holder) promoteSecondaries(index int) error {
	sharing := func(p netip.Prefix) bool { return !p.IsSingleIP() }
	if h.promoted.Load() == int64(index) || !slices.ContainsFunc(h.cfg.Addresses, sharing) {
		return nil
	}
	if err := h.kernel.promoteSecondaries(index); err != nil {
		return fmt.Errorf("set promote_secondaries on %s: %w", h.cfg.Interface, err)
	}
	h.promoted.Store(int64(index))
	return nil
}

// address is made anew for every request: the netlink package writes into it.
func address(p netip.Prefix, index int) *netlink.Addr {
	return &netlink.Addr{
		IPNet:     &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), 32)},
		LinkIndex: index,
	}
}

func prefix(a netlink.Addr) netip.Prefix {
	ip, _ := netip.AddrFromSlice(a.IP.To4())
	bits, _ := a.Mask.Size()
	return netip.PrefixFrom(ip, bits)
}
