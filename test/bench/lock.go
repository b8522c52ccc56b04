package main

// The kernel changes addresses and links of all namespaces under one lock. Who
// else on this machine makes namespaces makes a daemon wait that renews an address,
// so a trial says how long that lock was not to be had.

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/tanist-ha/tanist/test/probe"
)

// lockInterval is the time between two attempts to get the lock.
const lockInterval = 20 * time.Millisecond

type lockWatch struct {
	stop context.CancelFunc
	wait sync.WaitGroup

	mu      sync.Mutex // guards the fields below
	longest time.Duration
	err     error
}

// newLockWatch does again and again what changes nothing and needs the lock.
func newLockWatch(in *space) (*lockWatch, error) {
	h, err := netlink.NewHandleAt(in.ns, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open netlink for its lock: %w", err)
	}
	lo, err := h.LinkByName("lo")
	if err != nil {
		h.Close()
		return nil, fmt.Errorf("find lo: %w", err)
	}
	ctx, stop := context.WithCancel(context.Background())
	l := &lockWatch{stop: stop}
	l.wait.Go(func() {
		probe.Punctual()
		defer h.Close()
		for ctx.Err() == nil {
			begun := time.Now()
			err := h.LinkSetUp(lo)
			l.note(time.Since(begun), err)
			probe.Sleep(lockInterval)
		}
	})
	return l, nil
}

func (l *lockWatch) note(took time.Duration, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.longest = max(l.longest, took)
	if err != nil {
		l.err = err
	}
}

func (l *lockWatch) countAnew() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.longest = 0
}

// finish ends the watch and returns the longest wait since the count began.
func (l *lockWatch) finish() (time.Duration, error) {
	l.stop()
	l.wait.Wait()
	return l.longest, l.err
}
