package vip

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Table is the sockets to the kernel that the Holders of one network namespace
// share, and the way to renew all their leases at once. It is safe for
// concurrent use.
type Table struct {
	kernel *kernel
	// neighbours is for their table, which netlink.Handle asks for in a way that
	// the kernel refuses where it checks strictly.
	neighbours *netlink.Handle

	mu         sync.Mutex // guards announcers
	announcers map[string]*announcer
}

// OpenTable opens the table of the calling thread's network namespace.
func OpenTable() (*Table, error) {
	k, err := openKernel(answerTimeout)
	if err != nil {
		return nil, fmt.Errorf("open the address table: %w", err)
	}
	neighbours, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open the neighbour table: %w", err), k.close())
	}
	if err := neighbours.SetSocketTimeout(answerTimeout); err != nil {
		return nil, errors.Join(fmt.Errorf("open the neighbour table: %w", err), k.close(), neighbours.Close())
	}
	return &Table{kernel: k, neighbours: neighbours, announcers: map[string]*announcer{}}, nil
}

// Open prepares to hold the addresses of cfg. The interface need not exist yet.
// It touches no address.
func (t *Table) Open(cfg Config) (*Holder, error) {
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("hold virtual addresses: %w", err)
	}
	cfg.Addresses = slices.Clone(cfg.Addresses)
	return &Holder{cfg: cfg, table: t}, nil
}

// Renewal is a Hold to be done together with others.
type Renewal struct {
	Holder *Holder // of this Table
	Lease  time.Duration
}

// Hold does what Hold of each Holder does, in as few rounds to the kernel as
// there can be, and returns each one's error.
//
// It also lets the leases end together. The kernel looks for expired addresses
// at most once a second: of two renewed more than 20 ms apart, it removes the
// later one up to a second late.
func (t *Table) Hold(renewals []Renewal) []error {
	errs := make([]error, len(renewals))
	var settings, cleared, renew []change
	for i, r := range renewals {
		index, err := t.prepare(r)
		if err != nil {
			errs[i] = err
			continue
		}
		targets, inTheWay := r.Holder.targets(index)
		if r.Holder.needsPromotion(index, targets) {
			settings = append(settings, change{of: i, request: promoteRequest(index), done: func(err error) error {
				return r.Holder.promotionDone(index, err)
			}})
		}
		for _, a := range inTheWay {
			// Whether it goes or not, the renewal says what counts.
			cleared = append(cleared, change{of: i, request: dropRequest(a, index), done: func(error) error { return nil }})
		}
		for _, a := range targets {
			req := holdRequest(a, index, r.Holder.cfg.Label, uint32(r.Lease/time.Second))
			renew = append(renew, change{of: i, request: req, done: func(err error) error {
				if err != nil {
					return fmt.Errorf("add %v to %s: %w", a.Prefix, r.Holder.cfg.Interface, err)
				}
				return nil
			}})
		}
	}
	// Without promotion no address: its removal could take others along.
	t.carryOut(settings, errs)
	t.carryOut(cleared, errs)
	t.carryOut(slices.DeleteFunc(renew, func(c change) bool { return errs[c.of] != nil }), errs)
	return errs
}

func (t *Table) prepare(r Renewal) (index int, err error) {
	if r.Lease < time.Second || r.Lease > maxLease || r.Lease%time.Second != 0 {
		return 0, fmt.Errorf("hold virtual addresses on %s: lease %v is not whole seconds from 1s to %v",
			r.Holder.cfg.Interface, r.Lease, maxLease)
	}
	return t.kernel.index(r.Holder.cfg.Interface)
}

// change is a request for one of several renewals, and what its answer means.
type change struct {
	of      int
	request request
	done    func(error) error
}

// carryOut adds the errors to those of the renewals.
func (t *Table) carryOut(changes []change, errs []error) {
	requests := make([]request, len(changes))
	for i, c := range changes {
		requests[i] = c.request
	}
	for i, err := range t.kernel.changes.exchange(requests) {
		c := changes[i]
		if err = c.done(err); err != nil {
			errs[c.of] = errors.Join(errs[c.of], err)
		}
	}
}

// announcer returns the one of an interface.
func (t *Table) announcer(name string) *announcer {
	t.mu.Lock()
	defer t.mu.Unlock()
	a := t.announcers[name]
	if a == nil {
		a = &announcer{}
		t.announcers[name] = a
	}
	return a
}

// Close closes the sockets. It leaves the addresses to their lease.
func (t *Table) Close() error {
	err := errors.Join(t.kernel.close(), t.neighbours.Close())
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, a := range t.announcers {
		err = errors.Join(err, a.close())
	}
	if err != nil {
		return fmt.Errorf("close the address table: %w", err)
	}
	return nil
}
