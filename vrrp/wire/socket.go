package wire

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"

	"github.com/tanist-ha/tanist/vrrp"
)

const (
	// receiveBuffer is the SO_RCVBUF asked for. The kernel doubles it and
	// charges about 768 bytes for a short packet, so it holds some 2,700.
	receiveBuffer = 1 << 20
	// classNetworkControl is DSCP CS6, the class of routing protocols, as TOS
	// or traffic class.
	classNetworkControl = 0xc0
)

type option struct {
	name              string
	level, opt, value int
}

// openSocket returns a raw socket that is ready to send and receive. The
// filter is its first option: nothing foreign is queued in the meantime.
func openSocket(cfg Config, index int) (int, error) {
	domain := unix.AF_INET
	if !cfg.Local.Is4() {
		domain = unix.AF_INET6
	}
	fd, err := unix.Socket(domain, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, vrrp.Protocol)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	if err := setUpSocket(fd, cfg, index); err != nil {
		return -1, errors.Join(err, os.NewSyscallError("close", unix.Close(fd)))
	}
	return fd, nil
}

func setUpSocket(fd int, cfg Config, index int) error {
	if err := attachFilter(fd, cfg, Sieve{}); err != nil {
		return err
	}
	if cfg.Interface != "" {
		if err := unix.BindToDevice(fd, cfg.Interface); err != nil {
			return os.NewSyscallError("setsockopt SO_BINDTODEVICE", err)
		}
	}
	// The forced form goes beyond net.core.rmem_max but needs CAP_NET_ADMIN.
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer) != nil {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer); err != nil {
			return os.NewSyscallError("setsockopt SO_RCVBUF", err)
		}
	}
	options := options4
	if !cfg.Local.Is4() {
		options = options6
	}
	for _, o := range append([]option{{"SO_RXQ_OVFL", unix.SOL_SOCKET, unix.SO_RXQ_OVFL, 1}}, options(cfg.group())...) {
		if err := unix.SetsockoptInt(fd, o.level, o.opt, o.value); err != nil {
			return os.NewSyscallError("setsockopt "+o.name, err)
		}
	}
	if err := unix.Bind(fd, sockaddr(cfg.Local, index)); err != nil {
		return os.NewSyscallError("bind", err)
	}
	if cfg.group() {
		return join(fd, cfg, index)
	}
	// Connected, the socket gets only packets from the peer.
	return os.NewSyscallError("connect", unix.Connect(fd, sockaddr(cfg.Peer, index)))
}

// options4 of a group keep our own packets from coming back, and those of
// groups that somebody else joined from coming in.
func options4(group bool) []option {
	all := []option{
		{"IP_TTL", unix.IPPROTO_IP, unix.IP_TTL, vrrp.TTL},
		{"IP_TOS", unix.IPPROTO_IP, unix.IP_TOS, classNetworkControl},
	}
	if group {
		all = append(all,
			option{"IP_MULTICAST_TTL", unix.IPPROTO_IP, unix.IP_MULTICAST_TTL, vrrp.TTL},
			option{"IP_MULTICAST_LOOP", unix.IPPROTO_IP, unix.IP_MULTICAST_LOOP, 0},
			option{"IP_MULTICAST_ALL", unix.IPPROTO_IP, unix.IP_MULTICAST_ALL, 0})
	}
	return all
}

// options6 ask for what a raw IPv6 socket does not hand over with the packet:
// hop limit and destination.
func options6(group bool) []option {
	all := []option{
		{"IPV6_UNICAST_HOPS", unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, vrrp.TTL},
		{"IPV6_TCLASS", unix.IPPROTO_IPV6, unix.IPV6_TCLASS, classNetworkControl},
		{"IPV6_RECVHOPLIMIT", unix.IPPROTO_IPV6, unix.IPV6_RECVHOPLIMIT, 1},
		{"IPV6_RECVPKTINFO", unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1},
	}
	if group {
		all = append(all,
			option{"IPV6_MULTICAST_HOPS", unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_HOPS, vrrp.TTL},
			option{"IPV6_MULTICAST_LOOP", unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_LOOP, 0},
			option{"IPV6_MULTICAST_ALL", unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_ALL, 0})
	}
	return all
}

// join makes fd, which is bound to the local address, send to and receive from
// the group on one interface. An IPv4 socket receives nothing for an address
// other than the one it is bound to, so it is bound once more: the first time
// has shown that the local address exists. The membership survives the link
// going down; it ends with the interface.
func join(fd int, cfg Config, index int) error {
	group := vrrp.Group(cfg.Local)
	if !cfg.Local.Is4() {
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_IF, index); err != nil {
			return os.NewSyscallError("setsockopt IPV6_MULTICAST_IF", err)
		}
		err := unix.SetsockoptIPv6Mreq(fd, unix.IPPROTO_IPV6, unix.IPV6_JOIN_GROUP,
			&unix.IPv6Mreq{Multiaddr: group.As16(), Interface: uint32(index)})
		return os.NewSyscallError("setsockopt IPV6_JOIN_GROUP", err)
	}
	if err := unix.Bind(fd, sockaddr(group, index)); err != nil {
		return os.NewSyscallError("bind", err)
	}
	mreq := &unix.IPMreqn{Multiaddr: group.As4(), Address: cfg.Local.As4(), Ifindex: int32(index)}
	if err := unix.SetsockoptIPMreqn(fd, unix.IPPROTO_IP, unix.IP_MULTICAST_IF, mreq); err != nil {
		return os.NewSyscallError("setsockopt IP_MULTICAST_IF", err)
	}
	return os.NewSyscallError("setsockopt IP_ADD_MEMBERSHIP", unix.SetsockoptIPMreqn(fd, unix.IPPROTO_IP, unix.IP_ADD_MEMBERSHIP, mreq))
}

// sockaddr gives link-local addresses and groups the index of their link.
func sockaddr(a netip.Addr, index int) unix.Sockaddr {
	if a.Is4() {
		return &unix.SockaddrInet4{Addr: a.As4()}
	}
	sa := &unix.SockaddrInet6{Addr: a.As16()}
	if a.IsLinkLocalUnicast() || a.IsLinkLocalMulticast() {
		sa.ZoneId = uint32(index)
	}
	return sa
}

// overflow returns the kernel's count of packets that found the queue full.
func overflow(m unix.SocketControlMessage) (uint64, bool) {
	if m.Header.Level != unix.SOL_SOCKET || m.Header.Type != unix.SO_RXQ_OVFL || len(m.Data) < 4 {
		return 0, false
	}
	return uint64(binary.NativeEndian.Uint32(m.Data)), true
}
