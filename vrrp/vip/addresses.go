package vip

// What an interface has, for whoever shows it. A dump of hundreds of addresses is read
// where it lies: a status is asked for again and again.

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

const (
	// dumpBuffer is the most that the kernel puts into one answer of a dump.
	dumpBuffer = 32 << 10
	// dumpTime is how long it may be silent in the midst of one, in seconds.
	dumpTime = 5
	// dumpTries is how often a dump is begun again because addresses changed meanwhile.
	dumpTries = 3
)

var (
	errInterrupted = errors.New("addresses changed while they were listed")
	errDump        = errors.New("an answer that is no list of addresses")
)

// AddressesOf returns the addresses that an interface has in the kernel, whoever put
// them there, with their prefix lengths. It has a socket of its own and waits for no Table.
func AddressesOf(name string) ([]netip.Prefix, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("list the addresses of %s: %w", name, err)
	}
	defer unix.Close(fd)
	all, err := addressesOf(fd, name)
	if err != nil {
		return nil, fmt.Errorf("list the addresses of %s: %w", name, err)
	}
	return all, nil
}

func addressesOf(fd int, name string) ([]netip.Prefix, error) {
	// Linux before 4.20 lists those of all interfaces.
	_ = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_GET_STRICT_CHK, 1)
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: dumpTime}); err != nil {
		return nil, err
	}
	ifr, err := unix.NewIfreq(name)
	if err != nil {
		return nil, err
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, ifr); err != nil {
		return nil, err
	}
	buf := make([]byte, dumpBuffer)
	for try := uint32(1); ; try++ {
		all, err := dumpAddresses(fd, int(ifr.Uint32()), try, buf)
		if !errors.Is(err, errInterrupted) || try == dumpTries {
			return all, err
		}
	}
}

// dumpAddresses asks once.
func dumpAddresses(fd, index int, sequence uint32, buf []byte) (all []netip.Prefix, err error) {
	ask := make([]byte, unix.SizeofNlMsghdr+unix.SizeofIfAddrmsg)
	binary.NativeEndian.PutUint32(ask, uint32(len(ask)))
	binary.NativeEndian.PutUint16(ask[4:], unix.RTM_GETADDR)
	binary.NativeEndian.PutUint16(ask[6:], unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	binary.NativeEndian.PutUint32(ask[8:], sequence)
	binary.NativeEndian.PutUint32(ask[unix.SizeofNlMsghdr+4:], uint32(index))
	if err := unix.Sendto(fd, ask, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, err
	}
	interrupted := false
	for {
		n, _, err := unix.Recvfrom(fd, buf, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil, err
		}
		d := dump{index: index, sequence: sequence, addresses: all}
		err = d.read(buf[:n])
		all, interrupted = d.addresses, interrupted || d.interrupted
		switch {
		case err != nil:
			return nil, err
		case d.over && interrupted:
			return all, errInterrupted
		case d.over:
			return all, nil
		}
	}
}

// dump reads the messages of an answer.
type dump struct {
	index    int
	sequence uint32

	addresses         []netip.Prefix
	over, interrupted bool
}

func (d *dump) read(b []byte) error {
	for len(b) > 0 {
		if len(b) < unix.SizeofNlMsghdr {
			return errDump
		}
		size := int(binary.NativeEndian.Uint32(b))
		if size < unix.SizeofNlMsghdr || size > len(b) {
			return errDump
		}
		kind, flags := binary.NativeEndian.Uint16(b[4:]), binary.NativeEndian.Uint16(b[6:])
		ours := binary.NativeEndian.Uint32(b[8:]) == d.sequence
		message := b[unix.SizeofNlMsghdr:size]
		b = b[min(len(b), aligned(size)):]
		if !ours {
			continue // of a dump before this one
		}
		d.interrupted = d.interrupted || flags&unix.NLM_F_DUMP_INTR != 0
		switch kind {
		case unix.NLMSG_DONE:
			d.over = true
			return nil
		case unix.NLMSG_ERROR:
			if len(message) < 4 {
				return errDump
			}
			return unix.Errno(-int32(binary.NativeEndian.Uint32(message)))
		case unix.RTM_NEWADDR:
			if a, ok := parseAddress(kind, message); ok && a.index == d.index {
				d.addresses = append(d.addresses, a.Prefix)
			}
		}
	}
	return nil
}
