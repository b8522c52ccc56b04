package main

// Changes of addresses as the two kernels tell them, however short-lived.

import (
	"fmt"
	"net/netip"
	"sync"

	"github.com/vishvananda/netlink"
)

// Moves are changes of addresses in the kernels.
type Moves struct {
	Lost  int `json:"lost"`  // taken off the first router
	Taken int `json:"taken"` // new on the second router
}

// watch counts changes of addresses as the kernels tell them.
type watch struct {
	done chan struct{}
	wait sync.WaitGroup

	mu    sync.Mutex // guards the fields below
	count Moves
	held  [2]map[netip.Addr]bool
}

// watchBuffer is for the messages of one kernel: renewals of 255 addresses too.
const watchBuffer = 4 << 20

func watchMoves(p *pair) (*watch, error) {
	w := &watch{done: make(chan struct{})}
	for _, s := range []side{first, second} {
		updates := make(chan netlink.AddrUpdate, 1024)
		err := netlink.AddrSubscribeWithOptions(updates, w.done, netlink.AddrSubscribeOptions{
			Namespace: &p.routers[s].ns, ReceiveBufferSize: watchBuffer, ReceiveBufferForceSize: true,
		})
		if err != nil {
			close(w.done)
			return nil, fmt.Errorf("watch the addresses of %s: %w", s, err)
		}
		w.wait.Go(func() {
			for u := range updates {
				w.changed(s, u)
			}
		})
	}
	held, err := p.holders()
	if err != nil {
		w.stop()
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.held = held
	w.count = Moves{}
	return w, nil
}

func (w *watch) changed(s side, u netlink.AddrUpdate) {
	a, ok := netip.AddrFromSlice(u.LinkAddress.IP.To4())
	if !ok || !isVIP(a) {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.held[s] == nil {
		return // before the first look
	}
	had := w.held[s][a]
	w.held[s][a] = u.NewAddr
	switch {
	case s == first && had && !u.NewAddr:
		w.count.Lost++
	case s == second && !had && u.NewAddr:
		w.count.Taken++
	}
}

func (w *watch) moves() Moves {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.count
}

func (w *watch) stop() {
	close(w.done)
	w.wait.Wait()
}
