package lab

// Being inside a network namespace of the lab: Go code on a borrowed OS thread,
// sockets, and programs.

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

const netnsDir = "/run/netns" // where ip netns looks for names

// space is one network namespace of the lab.
type space struct {
	name string // under netnsDir; carries the lab's id
}

// NetNS returns the path of the namespace. A node that is off has none, and one
// that was off since has a new one at the same path.
func (s space) NetNS() string { return filepath.Join(netnsDir, s.name) }

// Do runs fn on an OS thread inside the namespace, in the calling goroutine.
// Sockets that fn opens stay in the namespace for good; goroutines that fn
// starts are not in it. If the thread cannot be brought back it is never given
// back to the runtime, and the error says so.
func (s space) Do(fn func() error) (err error) {
	runtime.LockOSThread()
	home, err := netns.Get()
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("get own network namespace: %w", err)
	}
	defer home.Close()
	target, err := netns.GetFromPath(s.NetNS())
	if err != nil {
		runtime.UnlockOSThread()
		return s.gone(err)
	}
	defer target.Close()
	if err := netns.Set(target); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("enter %s: %w", s.name, err)
	}
	defer func() {
		if back := netns.Set(home); back != nil {
			err = errors.Join(err, fmt.Errorf("leave %s, thread kept: %w", s.name, back))
			return
		}
		runtime.UnlockOSThread()
	}()
	return fn()
}

// gone makes an error out of a namespace that could not be opened.
func (s space) gone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("enter %s: %w", s.name, ErrOff)
	}
	return fmt.Errorf("enter %s: %w", s.name, err)
}

// DialContext connects from inside the namespace. The host of addr must be an IP
// address: a resolver would ask from another thread, in another namespace.
func (s space) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	if _, err := netip.ParseAddrPort(addr); err != nil {
		return nil, fmt.Errorf("dial %s from %s: %w", addr, s.name, err)
	}
	var conn net.Conn
	err := s.Do(func() error {
		var err error
		conn, err = new(net.Dialer).DialContext(ctx, network, addr)
		return err
	})
	if err != nil {
		return nil, err
	}
	return conn, nil
}

// Listen listens inside the namespace, on an address that DialContext would take.
func (s space) Listen(ctx context.Context, network, addr string) (net.Listener, error) {
	if _, err := netip.ParseAddrPort(addr); err != nil {
		return nil, fmt.Errorf("listen on %s in %s: %w", addr, s.name, err)
	}
	var l net.Listener
	err := s.Do(func() error {
		var err error
		l, err = new(net.ListenConfig).Listen(ctx, network, addr)
		return err
	})
	if err != nil {
		return nil, err
	}
	return l, nil
}

// Netlink opens a route netlink handle in the namespace. The caller closes it.
func (s space) Netlink() (*netlink.Handle, error) {
	ns, err := netns.GetFromPath(s.NetNS())
	if err != nil {
		return nil, s.gone(err)
	}
	defer ns.Close()
	h, err := netlink.NewHandleAt(ns)
	if err != nil {
		return nil, fmt.Errorf("open netlink in %s: %w", s.name, err)
	}
	return h, nil
}

// create makes the namespace, with its loopback up.
func (s space) create() error {
	runtime.LockOSThread()
	home, err := netns.Get()
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("get own network namespace: %w", err)
	}
	defer home.Close()
	made, err := netns.NewNamed(s.name)
	if err == nil {
		made.Close()
	}
	if back := netns.Set(home); back != nil {
		return errors.Join(err, fmt.Errorf("leave %s, thread kept: %w", s.name, back))
	}
	runtime.UnlockOSThread()
	if err != nil {
		return fmt.Errorf("create network namespace %s: %w", s.name, err)
	}
	h, err := s.Netlink()
	if err != nil {
		return err
	}
	defer h.Close()
	return setUp(h, "lo", true)
}

// remove takes the namespace's name away; it need not exist.
func (s space) remove() error {
	err := netns.DeleteNamed(s.name)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		// A creation that was cut leaves a plain file that nothing is mounted on.
		if rm := os.Remove(s.NetNS()); rm == nil || errors.Is(rm, os.ErrNotExist) {
			return nil
		}
		return fmt.Errorf("remove network namespace %s: %w", s.name, err)
	}
	return nil
}

// setUp brings a link up or down.
func setUp(h *netlink.Handle, name string, up bool) error {
	link, err := h.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find link %s: %w", name, err)
	}
	set := h.LinkSetDown
	if up {
		set = h.LinkSetUp
	}
	if err := set(link); err != nil {
		return fmt.Errorf("set link %s up=%t: %w", name, up, err)
	}
	return nil
}
