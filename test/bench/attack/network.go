package main

// Three hosts, each in a network namespace without a name: the pair on one cable,
// and on another one, behind the standby, a host that is nobody's.

import (
	"errors"
	"os/exec"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

const (
	eth          = "veth0"
	activeAddr   = "192.0.2.11"
	standbyAddr  = "192.0.2.12"
	strangerAddr = "192.0.2.66" // of the standby's host as well
	linkPort     = 7511
	webPort      = 7512

	asideEth  = "veth1"
	asideAddr = "198.51.100.1"
	asideFrom = "198.51.100.2"
)

type network struct {
	here, there, aside netns.NsHandle
	listener           int // of the third host; nobody accepts
}

// newNetwork moves the calling thread into the first host's namespace.
func newNetwork() (n *network, err error) {
	n = &network{}
	for _, ns := range []*netns.NsHandle{&n.aside, &n.there, &n.here} {
		if *ns, err = netns.New(); err != nil {
			return nil, err
		}
	}
	if err := cable(eth, n.here, activeAddr, n.there, standbyAddr, strangerAddr); err != nil {
		return nil, err
	}
	if err := cable(asideEth, n.aside, asideAddr, n.there, asideFrom); err != nil {
		return nil, err
	}
	return n, n.listenAside()
}

func cable(name string, near netns.NsHandle, address string, far netns.NsHandle, addresses ...string) error {
	a, err := netlink.NewHandleAt(near)
	if err != nil {
		return err
	}
	defer a.Close()
	b, err := netlink.NewHandleAt(far)
	if err != nil {
		return err
	}
	defer b.Close()
	err = a.LinkAdd(&netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: name, PeerNamespace: netlink.NsFd(int(far)),
	})
	if err != nil {
		return err
	}
	return errors.Join(furnish(a, name, address), furnish(b, name, addresses...))
}

func furnish(h *netlink.Handle, name string, addresses ...string) error {
	for _, up := range []string{"lo", name} {
		l, err := h.LinkByName(up)
		if err == nil {
			err = h.LinkSetUp(l)
		}
		for _, address := range addresses {
			var a *netlink.Addr
			if up == name && err == nil {
				if a, err = netlink.ParseAddr(address + "/24"); err == nil {
					err = h.AddrAdd(l, a)
				}
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// listenAside has the third host's kernel answer on the link's port.
func (n *network) listenAside() error {
	return n.in(n.aside, func() (err error) {
		if n.listener, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		if err := unix.Bind(n.listener, &unix.SockaddrInet4{Port: linkPort}); err != nil {
			return err
		}
		return unix.Listen(n.listener, 128)
	})
}

func (n *network) close() {
	_ = unix.Close(n.listener)
	for _, ns := range []*netns.NsHandle{&n.here, &n.there, &n.aside} {
		_ = ns.Close()
	}
}

// in runs f on a host. It is called by the thread of newNetwork.
func (n *network) in(ns netns.NsHandle, f func() error) (err error) {
	if err := netns.Set(ns); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, netns.Set(n.here)) }()
	return f()
}

// start starts a program on one of the pair's hosts.
func (n *network) start(cmd *exec.Cmd, there bool, nice int) error {
	ns := n.here
	if there {
		ns = n.there
	}
	return n.in(ns, func() error { return startNice(cmd, nice) })
}
