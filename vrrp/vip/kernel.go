package vip

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// kernel is the open sockets to the kernel's network configuration. They stay
// in the network namespace in which they were opened. Changes go over a socket
// of their own, so that no dump is in their way.
type kernel struct {
	*netlink.Handle
	changes *rounds
	ioctls  int // any socket answers interface ioctls
}

func openKernel(timeout time.Duration) (*kernel, error) {
	handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open netlink: %w", err)
	}
	k := &kernel{Handle: handle, ioctls: -1}
	if err := k.open(timeout); err != nil {
		return nil, errors.Join(fmt.Errorf("open netlink: %w", err), k.close())
	}
	return k, nil
}

func (k *kernel) open(timeout time.Duration) error {
	err := k.SetSocketTimeout(timeout)
	if err != nil {
		return err
	}
	// So that a dump of one interface is of that interface alone. Kernels before
	// 4.20 dump everything, and netlink.Handle chooses.
	_ = k.SetStrictCheck(true)
	if k.changes, err = openRounds(timeout); err != nil {
		return err
	}
	k.ioctls, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	return os.NewSyscallError("socket", err)
}

func (k *kernel) close() error {
	err := k.Handle.Close()
	if k.changes != nil {
		err = errors.Join(err, k.changes.close())
	}
	if k.ioctls >= 0 {
		err = errors.Join(err, os.NewSyscallError("close", unix.Close(k.ioctls)))
	}
	return err
}

// index looks the interface up by its name, every time: a NIC that was created
// anew, or renamed, has another index. It costs about a microsecond.
func (k *kernel) index(name string) (int, error) {
	ifr, err := unix.NewIfreq(name)
	if err == nil {
		err = unix.IoctlIfreq(k.ioctls, unix.SIOCGIFINDEX, ifr)
	}
	if err != nil {
		return 0, fmt.Errorf("look up interface %s: %w", name, err)
	}
	return int(ifr.Uint32()), nil
}

// link returns the interface's index and its flags, IFF_UP and IFF_RUNNING
// among them.
func (k *kernel) link(name string) (index int, flags uint32, err error) {
	if index, err = k.index(name); err != nil {
		return 0, 0, err
	}
	ifr, err := unix.NewIfreq(name)
	if err == nil {
		err = unix.IoctlIfreq(k.ioctls, unix.SIOCGIFFLAGS, ifr)
	}
	if err != nil {
		return 0, 0, fmt.Errorf("look up interface %s: %w", name, err)
	}
	return index, uint32(ifr.Uint16()), nil
}

// found is an address that the kernel has.
type found struct {
	assigned
	valid    int // seconds that are left, or forever
	protocol int // IFA_PROTO
	flags    int // IFA_F_
}

func (a found) permanent() bool { return a.valid == forever }

// undetected reports whether duplicate address detection still runs or failed.
func (a found) undetected() bool { return a.flags&(unix.IFA_F_TENTATIVE|unix.IFA_F_DADFAILED) != 0 }

// addresses lists what is on the interface, in both families. An interface that
// is gone has none.
func (k *kernel) addresses(index int) ([]found, error) {
	link := &netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: index}}
	for attempt := 1; ; attempt++ {
		list, err := k.AddrList(link, netlink.FAMILY_ALL)
		switch {
		case errors.Is(err, netlink.ErrDumpInterrupted) && attempt < listAttempts:
			continue
		case errors.Is(err, unix.ENODEV):
			return nil, nil
		case err != nil:
			return nil, err
		}
		return internet(list), nil
	}
}

// internet leaves out the addresses of other families.
func internet(list []netlink.Addr) []found {
	var out []found
	for _, a := range list {
		if a.IPNet == nil {
			continue
		}
		ip, ok := netip.AddrFromSlice(a.IP)
		if !ok {
			continue
		}
		f := found{valid: a.ValidLft, protocol: a.Protocol, flags: a.Flags}
		f.assigned = plain(netip.PrefixFrom(ip, ones(a.IPNet)))
		// With a far end, the prefix length is that one's.
		if far, ok := farEnd(a); ok {
			f.assigned = assigned{Prefix: netip.PrefixFrom(ip, ones(a.Peer)), far: far}
		}
		out = append(out, f)
	}
	return out
}

func farEnd(a netlink.Addr) (netip.Addr, bool) {
	if a.Peer == nil {
		return netip.Addr{}, false
	}
	return netip.AddrFromSlice(a.Peer.IP)
}

func ones(n *net.IPNet) int {
	bits, _ := n.Mask.Size()
	return bits
}
