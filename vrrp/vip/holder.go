// Package vip puts virtual addresses on an interface with a lease: the kernel
// removes them by itself unless they are renewed, so a supervisor that hangs or
// dies loses them without doing anything. It also announces them, asks the
// network who has them, and watches what others do to them.
package vip

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

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
	// Addresses are IPv4, IPv6 or both, each with the prefix length it gets on
	// the interface. An IPv6 address brings no route to its subnet; the host's
	// own address there does.
	Addresses []netip.Prefix
	// Label is the label of the IPv4 addresses, such as "eth0:vip"; empty is the
	// interface's name. At most 15 bytes.
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
		if !p.IsValid() || a.Is4In6() || a.IsUnspecified() || a.IsMulticast() || a.IsLoopback() || p.Bits() == 0 {
			return fmt.Errorf("%v is not a host address", p)
		}
		if slices.ContainsFunc(c.Addresses[:i], func(q netip.Prefix) bool { return q.Addr() == a }) {
			return fmt.Errorf("address %v is listed twice", a)
		}
	}
	return nil
}

// Holder holds the addresses of one Config. Its methods are safe for
// concurrent use, so a slow Announce delays no Hold; but a Hold that runs
// beside a Release may win, so their order is the caller's.
type Holder struct {
	cfg      Config
	table    *Table
	owned    bool         // the table is nobody else's
	promoted atomic.Int64 // index of the interface that got promote_secondaries
	checked  atomic.Int64 // index of the interface that was searched for permanent ones
}

// Open prepares to hold the addresses of cfg in the network namespace of the
// calling thread. The interface need not exist yet. It touches no address.
func Open(cfg Config) (*Holder, error) {
	table, err := OpenTable()
	if err != nil {
		return nil, err
	}
	h, err := table.Open(cfg)
	if err != nil {
		return nil, errors.Join(err, table.Close())
	}
	h.owned = true
	return h, nil
}

// Interface returns the name of the interface.
func (h *Holder) Interface() string { return h.cfg.Interface }

// Hold adds the addresses, or renews them, for lease: whole seconds, from one
// second to a day. The kernel removes them between lease and lease + 1 s after
// the last renewal; a permanent address becomes a leased one. On an error the
// others were tried nevertheless, but for a kernel that does not answer within
// 100 ms, which ends the call. A missing interface is ENODEV.
//
// The kernel's removal, like Release, must not take other addresses along.
// Deleting the primary IPv4 address of a subnet deletes its secondaries unless
// the interface has promote_secondaries, so Hold sets that first. (An address
// with prefix length 32 shares its subnet with nobody and needs none.)
func (h *Holder) Hold(lease time.Duration) error {
	return h.table.Hold([]Renewal{{Holder: h, Lease: lease}})[0]
}

// Release removes the addresses and nothing else, whatever prefix length they
// have and whoever put them there. One that is not there, or whose interface is
// not there, is released already.
func (h *Holder) Release() error {
	index, err := h.table.kernel.index(h.cfg.Interface)
	if errors.Is(err, unix.ENODEV) {
		return nil
	}
	if err != nil {
		return err
	}
	err = h.dropOurs(index, dropRequest)
	list, listErr := h.list()
	if listErr != nil {
		return errors.Join(err, listErr)
	}
	left := slices.DeleteFunc(list, func(a found) bool { return !h.owns(a.Prefix) })
	if len(left) == 0 {
		return err
	}
	// The list says what the first attempt left, so its error is out of date.
	others := make([]assigned, len(left))
	for i, a := range left {
		others[i] = a.assigned
	}
	return h.drop(index, others, dropRequest)
}

// ReleaseExactly removes the addresses as the Config has them, and leaves the
// same address under another prefix length where it is.
func (h *Holder) ReleaseExactly() error {
	index, err := h.table.kernel.index(h.cfg.Interface)
	if errors.Is(err, unix.ENODEV) {
		return nil
	}
	if err != nil {
		return err
	}
	return h.dropOurs(index, dropExactRequest)
}

func (h *Holder) dropOurs(index int, how func(assigned, int) request) error {
	// Somebody may have reset it since Hold. Whether or not it can be set, the
	// address has to go.
	h.promoted.Store(0)
	h.checked.Store(0)
	ours := make([]assigned, len(h.cfg.Addresses))
	for i, p := range h.cfg.Addresses {
		ours[i] = plain(p)
	}
	return h.drop(index, ours, how)
}

func (h *Holder) drop(index int, as []assigned, how func(assigned, int) request) error {
	promote := h.needsPromotion(index, as)
	var requests []request
	if promote {
		requests = append(requests, promoteRequest(index))
	}
	for _, a := range as {
		requests = append(requests, how(a, index))
	}
	answers := h.table.kernel.changes.exchange(requests)
	var promoteErr error
	if promote {
		promoteErr, answers = h.promotionDone(index, answers[0]), answers[1:]
	}
	errs := []error{promoteErr}
	for i, err := range answers {
		if err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) && !errors.Is(err, unix.ENODEV) {
			errs = append(errs, fmt.Errorf("delete %v from %s: %w", as[i].Prefix, h.cfg.Interface, err))
		}
	}
	return errors.Join(errs...)
}

// Held asks the kernel. held is true when every address is there with a
// lifetime; remaining is then the shortest one, in whole seconds rounded up.
// An address that is there for ever, with whatever prefix length, is ErrPermanent.
// An IPv6 address that the kernel does not use, because of a duplicate, does not count.
func (h *Holder) Held() (remaining time.Duration, held bool, err error) {
	list, err := h.list()
	if err != nil {
		return 0, false, err
	}
	shortest, there := forever, 0
	for _, a := range list {
		if !h.owns(a.Prefix) {
			continue
		}
		if a.permanent() {
			h.checked.Store(0)
			return 0, false, fmt.Errorf("look for %v on %s: %w", a.Prefix, h.cfg.Interface, ErrPermanent)
		}
		if a.undetected() {
			h.checked.Store(0)
			continue
		}
		// The kernel has an IPv6 address once, with its first prefix length.
		if a.Addr().Is6() || slices.Contains(h.cfg.Addresses, a.Prefix) {
			shortest = min(shortest, a.valid)
			there++
		}
	}
	if there < len(h.cfg.Addresses) {
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
		if a.protocol == AddressProtocol {
			marked = append(marked, a.Prefix)
		}
	}
	return marked, nil
}

// Close closes the sockets, unless they are a Table's. It leaves the addresses
// to their lease.
func (h *Holder) Close() error {
	if !h.owned {
		return nil
	}
	return h.table.Close()
}

// owns reports whether the address is one of ours.
func (h *Holder) owns(p netip.Prefix) bool {
	return slices.ContainsFunc(h.cfg.Addresses, func(q netip.Prefix) bool { return q.Addr() == p.Addr() })
}

// list returns the addresses of the interface, none if there is no such interface.
func (h *Holder) list() ([]found, error) {
	index, err := h.table.kernel.index(h.cfg.Interface)
	if errors.Is(err, unix.ENODEV) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	list, err := h.table.kernel.addresses(index)
	if err != nil {
		return nil, fmt.Errorf("list addresses of %s: %w", h.cfg.Interface, err)
	}
	return list, nil
}

// needsPromotion reports whether promote_secondaries has yet to be set before
// one of these can be removed.
func (h *Holder) needsPromotion(index int, as []assigned) bool {
	sharing := func(a assigned) bool { return a.Addr().Is4() && !a.IsSingleIP() }
	return h.promoted.Load() != int64(index) && slices.ContainsFunc(as, sharing)
}

func (h *Holder) promotionDone(index int, err error) error {
	if err != nil {
		return fmt.Errorf("set promote_secondaries on %s: %w", h.cfg.Interface, err)
	}
	h.promoted.Store(int64(index))
	return nil
}

// targets are the addresses to hold. The first time they are more: what somebody
// else put there of the same addresses for ever, under another prefix length or
// with a far end, gets a lease as well, once. An IPv6 address that did not pass
// duplicate address detection would stay unused, so it is in the way.
func (h *Holder) targets(index int) (as, inTheWay []assigned) {
	as = make([]assigned, 0, len(h.cfg.Addresses))
	for _, p := range h.cfg.Addresses {
		as = append(as, plain(p))
	}
	if h.checked.Load() == int64(index) {
		return as, nil
	}
	list, err := h.table.kernel.addresses(index)
	if err != nil {
		return as, nil // to be looked at again in the next round; the lease does not wait
	}
	h.checked.Store(int64(index))
	for _, a := range list {
		switch {
		case !h.owns(a.Prefix):
		case a.undetected():
			inTheWay = append(inTheWay, a.assigned)
		// An IPv6 address is there once, and its renewal gives it the lease.
		case a.permanent() && a.Addr().Is4() && !slices.Contains(as, a.assigned):
			as = append(as, a.assigned)
		}
	}
	return as, inTheWay
}
