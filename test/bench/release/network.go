package main

// Two hosts, each in a network namespace without a name, on one cable.

import (
	"errors"
	"os/exec"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

const (
	eth = "veth0"
	vip = "192.0.2.100/24"
)

type network struct {
	here, there netns.NsHandle
	far         *netlink.Handle
	gone        chan time.Time // when the kernel said that the address was taken off here
	done        chan struct{}
}

// newNetwork moves the calling thread into the first host's namespace.
func newNetwork() (n *network, err error) {
	n = &network{gone: make(chan time.Time, 16), done: make(chan struct{})}
	if n.there, err = netns.New(); err != nil {
		return nil, err
	}
	if n.here, err = netns.New(); err != nil {
		return nil, err
	}
	if n.far, err = netlink.NewHandleAt(n.there); err != nil {
		return nil, err
	}
	near, err := netlink.NewHandle()
	if err != nil {
		return nil, err
	}
	defer near.Close()
	err = near.LinkAdd(&netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: eth}, PeerName: eth, PeerNamespace: netlink.NsFd(int(n.there)),
	})
	if err != nil {
		return nil, err
	}
	for _, side := range []struct {
		*netlink.Handle
		prefix string
	}{{near, "192.0.2.11/24"}, {n.far, "192.0.2.12/24"}} {
		if err := furnish(side.Handle, side.prefix); err != nil {
			return nil, err
		}
	}
	return n, n.watch()
}

func furnish(h *netlink.Handle, prefix string) error {
	for _, name := range []string{"lo", eth} {
		l, err := h.LinkByName(name)
		if err == nil {
			err = h.LinkSetUp(l)
		}
		if err == nil && name == eth {
			var a *netlink.Addr
			if a, err = netlink.ParseAddr(prefix); err == nil {
				err = h.AddrAdd(l, a)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// watch hears of every change of the first host's addresses.
func (n *network) watch() error {
	updates := make(chan netlink.AddrUpdate, 64)
	if err := netlink.AddrSubscribe(updates, n.done); err != nil {
		return err
	}
	go func() { // ends with done
		for u := range updates {
			if !u.NewAddr && u.LinkAddress.String() == vip {
				select {
				case n.gone <- time.Now():
				default:
				}
			}
		}
	}()
	return nil
}

func (n *network) close() {
	close(n.done)
	n.far.Close()
	_ = n.here.Close()
	_ = n.there.Close()
}

func (n *network) setLink(up bool) error {
	l, err := netlink.LinkByName(eth)
	if err != nil {
		return err
	}
	if up {
		return netlink.LinkSetUp(l)
	}
	return netlink.LinkSetDown(l)
}

// holds reports whether the first host has the address.
func (n *network) holds() bool {
	l, err := netlink.LinkByName(eth)
	if err != nil {
		return false
	}
	as, err := netlink.AddrList(l, unix.AF_INET)
	if err != nil {
		return false
	}
	for _, a := range as {
		if a.IPNet.String() == vip {
			return true
		}
	}
	return false
}

// start starts a program on one of the hosts.
func (n *network) start(cmd *exec.Cmd, there bool) (err error) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if there {
		if err := netns.Set(n.there); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, netns.Set(n.here)) }()
	}
	return cmd.Start()
}
