package wire

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// link is the interface that a path was opened on. A socket that is bound to
// an interface, and its membership in a group, die silently with it, and
// another one of the same name does not revive them. So the kernel's notices
// of links are waited for; what they say does not matter, since each makes link
// look whether the name still stands for the same interface. A notice that the
// kernel had no room for makes it look as well.
type link struct {
	name  string
	index int
	file  *os.File
	raw   syscall.RawConn
}

// openLink subscribes before it looks, so that no change falls between. A
// missing interface is ENODEV.
func openLink(name string) (*link, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	l := &link{name: name, file: os.NewFile(uintptr(fd), "links for "+name)}
	if err := l.subscribe(fd); err != nil {
		return nil, errors.Join(err, l.file.Close())
	}
	return l, nil
}

func (l *link) subscribe(fd int) (err error) {
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: unix.RTMGRP_LINK}); err != nil {
		return os.NewSyscallError("bind", err)
	}
	if l.index, err = interfaceIndex(fd, l.name); err != nil {
		return err
	}
	l.raw, err = l.file.SyscallConn()
	return err
}

// interfaceIndex asks in the network namespace of the socket.
func interfaceIndex(fd int, name string) (int, error) {
	req, err := unix.NewIfreq(name)
	if err != nil {
		return 0, fmt.Errorf("look up interface %s: %w", name, err)
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, req); err != nil {
		return 0, fmt.Errorf("look up interface %s: %w", name, err)
	}
	return int(req.Uint32()), nil
}

// wait returns an error that wraps ENODEV once the interface is gone, renamed
// or created anew, and nil when it was interrupted or closed.
func (l *link) wait() error {
	for {
		var gone error
		err := l.raw.Read(func(fd uintptr) bool {
			noticed := discardQueued(int(fd))
			gone = l.check(int(fd))
			return noticed || gone != nil
		})
		if gone != nil || err != nil {
			return gone
		}
	}
}

// discardQueued reports whether something was queued. Errors are ENOBUFS,
// which is a notice too, and EAGAIN.
func discardQueued(fd int) (some bool) {
	var buf [4096]byte
	for range receiveLimit {
		_, _, err := unix.Recvfrom(fd, buf[:], unix.MSG_DONTWAIT|unix.MSG_TRUNC)
		if errors.Is(err, unix.EAGAIN) {
			return some
		}
		some = true
	}
	return some
}

func (l *link) check(fd int) error {
	index, err := interfaceIndex(fd, l.name)
	if err == nil && index != l.index {
		err = fmt.Errorf("interface %s was created anew: %w", l.name, unix.ENODEV)
	}
	return err
}

func (l *link) resume() error { return l.file.SetReadDeadline(time.Time{}) }

// interrupt ends a wait. It fails only when closed, which ends it as well.
func (l *link) interrupt() { _ = l.file.SetReadDeadline(time.Unix(1, 0)) }

func (l *link) close() error { return l.file.Close() }

// PrimaryAddress returns the address that advertisements to a group come from:
// the first IPv4 or link-local IPv6 address of an interface that is none of
// the virtual ones (RFC 9568 §5.1.1.1, §5.1.2.1). It wraps ENODEV while there
// is no such interface, and EADDRNOTAVAIL while it has no such address.
func PrimaryAddress(iface string, ipv6 bool, virtual []netip.Addr) (netip.Addr, error) {
	ifi, err := net.InterfaceByName(iface)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("look up interface %s: %w: %w", iface, err, unix.ENODEV)
	}
	list, err := ifi.Addrs()
	if err != nil {
		return netip.Addr{}, fmt.Errorf("list addresses of %s: %w", iface, err)
	}
	for _, entry := range list {
		p, err := netip.ParsePrefix(entry.String())
		if err != nil {
			continue
		}
		a := p.Addr().Unmap()
		if a.Is4() == !ipv6 && (a.Is4() || a.IsLinkLocalUnicast()) && !slices.Contains(virtual, a) {
			return a, nil
		}
	}
	return netip.Addr{}, fmt.Errorf("look for a primary address on %s: %w", iface, unix.EADDRNOTAVAIL)
}
