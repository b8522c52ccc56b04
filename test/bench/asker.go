package main

// One question to one kernel, a thousand times a second: does the host have the
// address? It allocates nothing and asks for nothing else.

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

type asker struct {
	fd   int
	want [4]byte
	ask  []byte
	buf  [64 << 10]byte
}

func newAsker(in *space, want netip.Addr) (*asker, error) {
	a := &asker{fd: -1, want: want.As4(), ask: addressDump()}
	err := in.do(func() (err error) {
		a.fd, err = unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
		return err
	})
	if err == nil {
		err = unix.Bind(a.fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open netlink to ask for addresses: %w", err), a.close())
	}
	return a, nil
}

// addressDump is the request for all IPv4 addresses, rtnetlink(7).
func addressDump() []byte {
	b := make([]byte, unix.SizeofNlMsghdr+unix.SizeofIfAddrmsg)
	binary.NativeEndian.PutUint32(b[0:], uint32(len(b)))
	binary.NativeEndian.PutUint16(b[4:], unix.RTM_GETADDR)
	binary.NativeEndian.PutUint16(b[6:], unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	b[unix.SizeofNlMsghdr] = unix.AF_INET
	return b
}

// look reports whether the kernel has the address. The answer is not whole when
// the list changed while it was read.
func (a *asker) look() (held, whole bool, err error) {
	if err := unix.Sendto(a.fd, a.ask, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return false, false, fmt.Errorf("ask for addresses: %w", err)
	}
	whole = true
	for {
		n, _, err := unix.Recvfrom(a.fd, a.buf[:], 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return false, false, fmt.Errorf("ask for addresses: %w", err)
		}
		found, complete, done, err := addressIn(a.buf[:n], a.want)
		if err != nil {
			return false, false, err
		}
		held, whole = held || found, whole && complete
		if done {
			return held, whole, nil
		}
	}
}

var errMessage = errors.New("ask for addresses: an answer that is none")

// addressIn looks for a local address in the messages of a dump.
func addressIn(b []byte, want [4]byte) (found, whole, done bool, err error) {
	whole = true
	for len(b) >= unix.SizeofNlMsghdr {
		size := int(binary.NativeEndian.Uint32(b))
		if size < unix.SizeofNlMsghdr || size > len(b) {
			return false, false, false, errMessage
		}
		if binary.NativeEndian.Uint16(b[6:])&unix.NLM_F_DUMP_INTR != 0 {
			whole = false
		}
		body := b[unix.SizeofNlMsghdr:size]
		switch binary.NativeEndian.Uint16(b[4:]) {
		case unix.NLMSG_DONE:
			return found, whole, true, nil
		case unix.NLMSG_ERROR:
			return false, false, false, errMessage
		case unix.RTM_NEWADDR:
			if len(body) < unix.SizeofIfAddrmsg {
				return false, false, false, errMessage
			}
			found = found || localIs(body[unix.SizeofIfAddrmsg:], want)
		}
		b = b[min(len(b), align4(size)):]
	}
	return found, whole, false, nil
}

// localIs looks for IFA_LOCAL among the attributes of one address.
func localIs(b []byte, want [4]byte) bool {
	for len(b) >= unix.SizeofRtAttr {
		size := int(binary.NativeEndian.Uint16(b))
		if size < unix.SizeofRtAttr || size > len(b) {
			return false
		}
		if binary.NativeEndian.Uint16(b[2:]) == unix.IFA_LOCAL && bytes.Equal(b[unix.SizeofRtAttr:size], want[:]) {
			return true
		}
		b = b[min(len(b), align4(size)):]
	}
	return false
}

func align4(n int) int { return (n + 3) &^ 3 }

// close may be called on what was never made.
func (a *asker) close() error {
	if a == nil || a.fd < 0 {
		return nil
	}
	return unix.Close(a.fd)
}
