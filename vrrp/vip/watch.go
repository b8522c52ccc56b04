package vip

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// watchBuffer is the kernel's queue for us: a few thousand changes. When it
	// overflows all the same, nothing is lost but time.
	watchBuffer = 1 << 20
	// watchRead is more than the kernel puts into one datagram.
	watchRead = 64 << 10
	// drainLimit is more than the queue can hold.
	drainLimit = 1 << 16
	// relistPause is the least time between two lists of everything, so that a storm of changes
	// cannot make the Watcher do nothing but list.
	relistPause = 10 * time.Millisecond
	// relistAttempts bounds lists that fail in a row, some seconds with the pause.
	relistAttempts = 500
)

// ChangeKind is what happened to a Holder's interface or to one of its addresses.
type ChangeKind uint8

// The kinds of Change.
const (
	// InterfaceMissing: there is none of that name (any more, or yet).
	InterfaceMissing ChangeKind = iota + 1
	// InterfacePresent: there is one, with Index. Another Index than before, even
	// without InterfaceMissing in between, is an interface that was created anew:
	// without our addresses and settings.
	InterfacePresent
	// LinkDown: nobody can be heard on it; Down says why. The kernel removes IPv6
	// addresses from a link that is administratively down.
	LinkDown
	// LinkUp: it is up and has a carrier.
	LinkUp
	// AddressGone: Prefix is not on the interface (any more, or yet): released,
	// expired, or removed by somebody else.
	AddressGone
	// AddressPresent: Prefix is on the interface and has a lease.
	AddressPresent
	// AddressPermanent: the address is there without a lease, with whatever prefix
	// length: somebody else put it there. Held says ErrPermanent, and Hold gives
	// it a lease.
	AddressPermanent
	// AddressDuplicate: somebody put the IPv6 address there with duplicate address
	// detection, which found another host that has it. The kernel does not use it;
	// Hold puts it there anew, after Held has seen it.
	AddressDuplicate
)

func (k ChangeKind) String() string {
	switch k {
	case InterfaceMissing:
		return "interface missing"
	case InterfacePresent:
		return "interface present"
	case LinkDown:
		return "link down"
	case LinkUp:
		return "link up"
	case AddressGone:
		return "address gone"
	case AddressPresent:
		return "address present"
	case AddressPermanent:
		return "address permanent"
	case AddressDuplicate:
		return "address duplicate"
	}
	return fmt.Sprintf("change %d", uint8(k))
}

// DownCause is why a link is down.
type DownCause uint8

// The causes of LinkDown.
const (
	// AdminDown: somebody set it down.
	AdminDown DownCause = iota + 1
	// NoCarrier: the cable, the switch or, on a tagged or bonded interface, the
	// one below.
	NoCarrier
)

func (c DownCause) String() string {
	switch c {
	case AdminDown:
		return "administratively down"
	case NoCarrier:
		return "no carrier"
	}
	return fmt.Sprintf("cause %d", uint8(c))
}

// Change is something that a Holder has to know of its interface or addresses.
type Change struct {
	Holder *Holder
	Kind   ChangeKind
	Index  int          // of InterfacePresent
	Down   DownCause    // of LinkDown
	Prefix netip.Prefix // of an address, as the Holder's Config has it
}

// Watcher reports what becomes of the interfaces and addresses of Holders. One
// serves all of a Table: a message of the kernel's that is about none of them
// costs a look-up by the interface's index.
//
// It reports states, each once, and no causes. AddressGone follows the Holder's
// own Release as well, and AddressPresent its Hold: the caller compares with what
// it decided. For one that holds the address
//
//   - AddressGone is somebody else's removal, or a link that went down under an
//     IPv6 address: Hold and Announce again, within the lease that is in force;
//   - AddressPermanent and AddressDuplicate are somebody else's address in the
//     place of the leased one: Held, then Hold;
//   - InterfacePresent with a new Index is an interface without the address:
//     Hold and Announce; LinkUp is the time to Announce again.
//
// For one that does not hold it, AddressPresent and AddressPermanent are somebody
// else's doing: Release removes both.
//
// Two changes that cancel each other are both reported, except where the kernel's
// queue overflowed in between. A change of the moment at which the state was
// listed may be reported once more, after which the last report is right again.
type Watcher struct {
	table *Table
	fd    int
	alarm int // an eventfd: the set of Holders or the context changed

	mu      sync.Mutex         // guards what follows
	holders map[*Holder]uint64 // with the number of the Add
	added   uint64
}

// NewWatcher opens a watcher in the network namespace of the calling thread,
// which has to be the Table's. It receives nothing before Run.
func (t *Table) NewWatcher() (*Watcher, error) {
	w := &Watcher{table: t, alarm: -1, holders: map[*Holder]uint64{}}
	var err error
	w.fd, err = unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("watch addresses: %w", os.NewSyscallError("socket", err))
	}
	w.alarm, err = unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	err = errors.Join(
		os.NewSyscallError("eventfd", err),
		os.NewSyscallError("bind", unix.Bind(w.fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})),
		w.queue(watchBuffer),
	)
	if err != nil {
		return nil, fmt.Errorf("watch addresses: %w", errors.Join(err, w.Close()))
	}
	return w, nil
}

// queue sets the length of the kernel's queue, as far as we may.
func (w *Watcher) queue(size int) error {
	if unix.SetsockoptInt(w.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, size) == nil {
		return nil
	}
	return os.NewSyscallError("setsockopt SO_RCVBUF", unix.SetsockoptInt(w.fd, unix.SOL_SOCKET, unix.SO_RCVBUF, size))
}

// Close closes the watcher. Run must have returned.
func (w *Watcher) Close() error {
	err := os.NewSyscallError("close", unix.Close(w.fd))
	if w.alarm >= 0 {
		err = errors.Join(err, os.NewSyscallError("close", unix.Close(w.alarm)))
	}
	return err
}

// Add watches the interface and the addresses of a Holder. A running Watcher
// soon reports their present state, even if h was added before.
func (w *Watcher) Add(h *Holder) {
	w.mu.Lock()
	w.added++
	w.holders[h] = w.added
	w.mu.Unlock()
	w.wake()
}

// Remove ends what Add began. A change of h may still be on its way.
func (w *Watcher) Remove(h *Holder) {
	w.mu.Lock()
	delete(w.holders, h)
	w.mu.Unlock()
	w.wake()
}

func (w *Watcher) wake() {
	// It cannot fail but for a counter that is full, and then Run wakes anyhow.
	_, _ = unix.Write(w.alarm, binary.NativeEndian.AppendUint64(nil, 1))
}

// Run reports the present state of each Holder, and then every change of it,
// until ctx ends; then it returns nil. It calls report from one goroutine; while
// report blocks, the kernel's queue fills.
//
// After an error of the kernel's queue, such as its overflow, Run subscribes
// again, lists everything and reports the differences. It returns an error if
// that does not succeed within seconds; the caller then knows no more what the
// kernel has and has to ask it (Held) until another Run reports.
func (w *Watcher) Run(ctx context.Context, report func(Change)) error {
	stop := context.AfterFunc(ctx, w.wake)
	defer stop()
	err := w.run(ctx, report)
	if left := w.membership(unix.NETLINK_DROP_MEMBERSHIP); err == nil {
		err = left
	}
	if err != nil {
		return fmt.Errorf("watch addresses: %w", err)
	}
	return nil
}

func (w *Watcher) run(ctx context.Context, report func(Change)) error {
	v, failures, buf := view{}, 0, make([]byte, watchRead)
	subscribed, listed := false, time.Time{}
	for w.due(ctx, listed, buf) {
		listed = time.Now()
		var err error
		if !subscribed {
			err = w.subscribe(buf)
			subscribed = err == nil
		}
		if err == nil {
			err = w.list(&v)
		}
		if err != nil {
			if failures++; failures == relistAttempts {
				return err
			}
			continue
		}
		failures = 0
		v.tell(report)
		subscribed = w.follow(&v, buf, report)
	}
	return nil
}

// due waits until the next list may be made, and returns false if ctx ended.
func (w *Watcher) due(ctx context.Context, listed time.Time, buf []byte) bool {
	time.Sleep(relistPause - time.Since(listed))
	_, _ = unix.Read(w.alarm, buf[:8]) // what it is about is looked at now
	return ctx.Err() == nil
}

// subscribe begins with an empty queue. While nobody is subscribed none fills it.
func (w *Watcher) subscribe(buf []byte) error {
	if err := w.membership(unix.NETLINK_DROP_MEMBERSHIP); err != nil {
		return err
	}
	for range drainLimit {
		if _, err := unix.Read(w.fd, buf); errors.Is(err, unix.EAGAIN) {
			return w.membership(unix.NETLINK_ADD_MEMBERSHIP)
		}
	}
	return errors.New("the queue does not get empty")
}

func (w *Watcher) membership(option int) error {
	for _, group := range []int{unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR} {
		if err := unix.SetsockoptInt(w.fd, unix.SOL_NETLINK, option, group); err != nil {
			return os.NewSyscallError("setsockopt netlink membership", err)
		}
	}
	return nil
}

// follow reports changes until there is a reason to list again. It returns false
// if that is because some may have been lost.
func (w *Watcher) follow(v *view, buf []byte, report func(Change)) (subscribed bool) {
	for {
		fds := []unix.PollFd{{Fd: int32(w.alarm), Events: unix.POLLIN}, {Fd: int32(w.fd), Events: unix.POLLIN}}
		if _, err := unix.Poll(fds, -1); err != nil && !errors.Is(err, unix.EINTR) {
			return false
		}
		if fds[0].Revents != 0 {
			return true
		}
		if fds[1].Revents != 0 && !w.receive(v, buf, report) {
			return false
		}
	}
}

// receive takes what is queued, but in turns, so that the alarm is heard.
func (w *Watcher) receive(v *view, buf []byte, report func(Change)) (complete bool) {
	for range hearLimit {
		n, err := unix.Read(w.fd, buf)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return true
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil || n == len(buf): // lost, or cut off
			return false
		}
		for kind, body := range messages(buf[:n]) {
			v.apply(kind, body, report)
		}
	}
	return true
}

// list puts into v what the kernel has, for the Holders that there are now. On
// an error v is as it was.
func (w *Watcher) list(v *view) error {
	w.mu.Lock()
	next := newView(w.holders, v)
	w.mu.Unlock()
	for _, l := range next.links {
		if err := w.look(l); err != nil {
			return err
		}
		if l.index != 0 {
			next.byIndex[l.index] = l
		}
	}
	*v = next
	return nil
}

func (w *Watcher) look(l *link) error {
	index, flags, err := w.table.kernel.link(l.name)
	if errors.Is(err, unix.ENODEV) {
		return nil
	}
	if err != nil {
		return err
	}
	l.index, l.flags = index, flags
	list, err := w.table.kernel.addresses(index)
	if err != nil {
		return fmt.Errorf("list addresses of %s: %w", l.name, err)
	}
	for _, a := range list {
		l.put(a.assigned, presence{permanent: a.permanent(), duplicate: a.flags&unix.IFA_F_DADFAILED != 0})
	}
	return nil
}
