package vip

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// roundSize bounds the requests sent at once. The kernel queues as many
	// answers before anybody reads, and the queue's default length holds three
	// times that.
	roundSize    = 64
	answerBuffer = 16 << 10 // a round's answers come one by one, 36 bytes each

	netlinkHeader = unix.SizeofNlMsghdr
	attrHeader    = 4
)

// From linux/if_link.h, linux/ip.h and linux/if_addr.h.
const (
	iflaInetConf                  = 1
	ipv4DevconfPromoteSecondaries = 20
	ifaProto                      = 11
)

// errNoAnswer says that the kernel did not answer in time.
var errNoAnswer = fmt.Errorf("the kernel did not answer: %w", unix.EAGAIN)

// request is one message that changes the kernel's network configuration.
type request struct {
	kind  uint16 // such as unix.RTM_NEWADDR
	flags uint16 // besides NLM_F_REQUEST and NLM_F_ACK
	body  []byte
}

// rounds sends many requests in one system call and reads the answers
// afterwards: a third of the cost of one after the other, and addresses renewed
// in one round expire in one sweep of the kernel's.
type rounds struct {
	mu  sync.Mutex // guards what follows, one exchange at a time
	fd  int
	seq uint32
	out []byte
	in  []byte
}

func openRounds(timeout time.Duration) (*rounds, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	tv := unix.NsecToTimeval(timeout.Nanoseconds())
	err = errors.Join(
		os.NewSyscallError("setsockopt SO_RCVTIMEO", unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv)),
		os.NewSyscallError("setsockopt SO_SNDTIMEO", unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &tv)),
		// An answer need not repeat the request.
		os.NewSyscallError("setsockopt NETLINK_CAP_ACK", unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_CAP_ACK, 1)),
		os.NewSyscallError("bind", unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})),
	)
	if err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	return &rounds{fd: fd, in: make([]byte, answerBuffer)}, nil
}

func (r *rounds) close() error { return os.NewSyscallError("close", unix.Close(r.fd)) }

// exchange sends the requests in their order and returns the answer to each,
// nil for success. After one that the kernel did not answer in time nothing
// more is sent, and the rest is errNoAnswer as well.
func (r *rounds) exchange(requests []request) []error {
	r.mu.Lock()
	defer r.mu.Unlock()
	answers := make([]error, len(requests))
	for start := 0; start < len(requests); start += roundSize {
		end := min(start+roundSize, len(requests))
		if err := r.round(requests[start:end], answers[start:end]); err != nil {
			for i := range answers[start:] {
				answers[start+i] = errors.Join(answers[start+i], err)
			}
			break
		}
	}
	return answers
}

// round fills in the answers. An error is about all of them.
func (r *rounds) round(requests []request, answers []error) error {
	first := r.seq + 1
	r.out = r.out[:0]
	for _, q := range requests {
		r.seq++
		r.out = q.appendTo(r.out, r.seq)
	}
	if err := unix.Sendto(r.fd, r.out, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return os.NewSyscallError("send to netlink", err)
	}
	for range requests {
		if err := r.readAnswer(first, answers); err != nil {
			return err
		}
	}
	return nil
}

// readAnswer skips what is left of a round that was given up.
func (r *rounds) readAnswer(first uint32, answers []error) error {
	for {
		n, _, err := unix.Recvfrom(r.fd, r.in, 0)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EAGAIN):
			return errNoAnswer
		case err != nil:
			return os.NewSyscallError("receive from netlink", err)
		}
		if i, ok, answer := parseAnswer(r.in[:n], first, len(answers)); ok {
			answers[i] = answer
			return nil
		}
	}
}

// parseAnswer takes one acknowledgement, and says to which of n requests that
// were numbered from first. Anything else is not ok.
func parseAnswer(b []byte, first uint32, n int) (i int, ok bool, answer error) {
	if len(b) < netlinkHeader+4 || binary.NativeEndian.Uint16(b[4:]) != unix.NLMSG_ERROR {
		return 0, false, nil
	}
	at := binary.NativeEndian.Uint32(b[8:]) - first
	if uint64(at) >= uint64(n) {
		return 0, false, nil
	}
	if code := int32(binary.NativeEndian.Uint32(b[netlinkHeader:])); code < 0 && code > math.MinInt32 {
		answer = unix.Errno(-code)
	}
	return int(at), true, answer
}

func (q request) appendTo(b []byte, seq uint32) []byte {
	b = binary.NativeEndian.AppendUint32(b, uint32(netlinkHeader+len(q.body)))
	b = binary.NativeEndian.AppendUint16(b, q.kind)
	b = binary.NativeEndian.AppendUint16(b, unix.NLM_F_REQUEST|unix.NLM_F_ACK|q.flags)
	b = binary.NativeEndian.AppendUint32(b, seq)
	b = binary.NativeEndian.AppendUint32(b, 0)
	return pad(append(b, q.body...))
}

// pad fills up to the next message or attribute.
func pad(b []byte) []byte {
	for len(b)%unix.NLMSG_ALIGNTO != 0 {
		b = append(b, 0)
	}
	return b
}

func appendAttr(b []byte, kind uint16, value ...byte) []byte {
	b = binary.NativeEndian.AppendUint16(b, uint16(attrHeader+len(value)))
	b = binary.NativeEndian.AppendUint16(b, kind)
	return pad(append(b, value...))
}

func words(ws ...uint32) []byte {
	var b []byte
	for _, w := range ws {
		b = binary.NativeEndian.AppendUint32(b, w)
	}
	return b
}

// holdRequest adds p to the interface, or renews it, for a number of seconds.
//
// An IPv6 address skips duplicate address detection, during which it would not
// be usable: Ask has asked. It is deprecated from the start, so the host does
// not choose it as the source of its own connections, which would break when
// the address moves; what is addressed to it is answered all the same. (Among
// IPv4 addresses the host prefers the first of a subnet.) And it brings no route
// to its subnet: the host's own address there does, and renewals would put the
// lease on that route too.
func holdRequest(a assigned, index int, label string, seconds uint32) request {
	b := appendAttr(addressBody(a, index), unix.IFA_ADDRESS, a.far.AsSlice()...)
	preferred := seconds // 0 would make the address deprecated
	if a.Addr().Is6() {
		preferred = 0
		b = appendAttr(b, unix.IFA_FLAGS, words(unix.IFA_F_NODAD|unix.IFA_F_NOPREFIXROUTE)...)
	} else {
		b = appendIPv4(b, a.Prefix, label)
	}
	b = appendAttr(b, unix.IFA_CACHEINFO, words(preferred, seconds, 0, 0)...)
	b = appendAttr(b, ifaProto, AddressProtocol)
	return request{kind: unix.RTM_NEWADDR, flags: unix.NLM_F_CREATE | unix.NLM_F_REPLACE, body: b}
}

// dropRequest removes an address. Of IPv4 it names no more than the address
// itself: the kernel would not find one that has another label, prefix length
// or far end.
func dropRequest(a assigned, index int) request {
	return request{kind: unix.RTM_DELADDR, body: addressBody(a, index)}
}

// dropExactRequest removes an IPv4 address only under its prefix length and far
// end. Of IPv6 an interface has an address once.
func dropExactRequest(a assigned, index int) request {
	return request{kind: unix.RTM_DELADDR, body: appendAttr(addressBody(a, index), unix.IFA_ADDRESS, a.far.AsSlice()...)}
}

// assigned is an address as an interface has it, with the address at the far
// end of a point-to-point link, usually its own.
type assigned struct {
	netip.Prefix
	far netip.Addr
}

func plain(p netip.Prefix) assigned { return assigned{Prefix: p, far: p.Addr()} }

func addressBody(a assigned, index int) []byte {
	family := byte(unix.AF_INET)
	if a.Addr().Is6() {
		family = unix.AF_INET6
	}
	b := append(make([]byte, 0, 128), family, byte(a.Bits()), 0, unix.RT_SCOPE_UNIVERSE)
	b = append(b, words(uint32(index))...)
	return appendAttr(b, unix.IFA_LOCAL, a.Addr().AsSlice()...)
}

// appendIPv4 gives a subnet that has one its broadcast address (RFC 3021).
func appendIPv4(b []byte, p netip.Prefix, label string) []byte {
	if p.Bits() < 31 {
		a := p.Addr().As4()
		broadcast := binary.BigEndian.AppendUint32(nil, binary.BigEndian.Uint32(a[:])|1<<(32-p.Bits())-1)
		b = appendAttr(b, unix.IFA_BROADCAST, broadcast...)
	}
	if label != "" {
		b = appendAttr(b, unix.IFA_LABEL, append([]byte(label), 0)...)
	}
	return b
}

// promoteRequest sets net.ipv4.conf.IFACE.promote_secondaries over netlink,
// which works where /proc/sys is read-only.
func promoteRequest(index int) request {
	setting := appendAttr(nil, ipv4DevconfPromoteSecondaries, words(1)...)
	conf := appendAttr(nil, iflaInetConf|unix.NLA_F_NESTED, setting...)
	inet := appendAttr(nil, unix.AF_INET|unix.NLA_F_NESTED, conf...)
	b := append([]byte{unix.AF_UNSPEC, 0, 0, 0}, words(uint32(index), 0, 0)...)
	return request{kind: unix.RTM_SETLINK, body: appendAttr(b, unix.IFLA_AF_SPEC|unix.NLA_F_NESTED, inet...)}
}
