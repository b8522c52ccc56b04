package main

// Two hosts, each in a network namespace without a name, on one cable, and what
// leaves the first of them.

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"slices"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/tanist-ha/tanist/vrrp"
)

const (
	eth          = "veth0"
	activeAddr   = "192.0.2.11"
	standbyAddr  = "192.0.2.12"
	linkPort     = 7511
	advertGap    = 100 * time.Millisecond
	receiveQueue = 1 << 20 // bytes that may wait while this program gets no turn
)

type network struct{ here, there netns.NsHandle }

// newNetwork moves the calling thread into the first host's namespace.
func newNetwork() (n *network, err error) {
	n = &network{}
	if n.there, err = netns.New(); err != nil {
		return nil, err
	}
	if n.here, err = netns.New(); err != nil {
		return nil, err
	}
	far, err := netlink.NewHandleAt(n.there)
	if err != nil {
		return nil, err
	}
	defer far.Close()
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
	for h, address := range map[*netlink.Handle]string{near: activeAddr, far: standbyAddr} {
		if err := furnish(h, address+"/24"); err != nil {
			return nil, err
		}
	}
	return n, nil
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

func (n *network) close() {
	_ = n.here.Close()
	_ = n.there.Close()
}

// start starts a program on one of the hosts. It is called by the thread of newNetwork.
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

// listen notes when advertisements leave the first host, until ctx ends.
func (n *network) listen(ctx context.Context) (lateness, error) {
	fd, err := tap()
	if err != nil {
		return lateness{}, fmt.Errorf("listen to %s: %w", eth, err)
	}
	defer func() { _ = unix.Close(fd) }()
	var at []time.Time
	packet, control := make([]byte, 256), make([]byte, 256)
	for ctx.Err() == nil {
		_, c, _, _, err := unix.Recvmsg(fd, packet, control, 0)
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return lateness{}, err
		}
		if t, ok := stamp(control[:c]); ok {
			at = append(at, t)
		}
	}
	l := lateness{sent: len(at)}
	for i := 1; i < len(at); i++ {
		l.by = append(l.by, max(0, at[i].Sub(at[i-1])-advertGap))
	}
	slices.Sort(l.by)
	return l, nil
}

// tap opens a socket that sees what leaves by the cable, with the kernel's times.
func tap() (int, error) {
	link, err := netlink.LinkByName(eth)
	if err != nil {
		return 0, err
	}
	all := binary.NativeEndian.Uint16([]byte{0, unix.ETH_P_ALL}) // network order
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	for _, err := range []error{
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveQueue),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 100_000}),
		unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, onlyAdvertisements()),
		unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: link.Attrs().Index}),
	} {
		if err != nil {
			return 0, errors.Join(err, unix.Close(fd))
		}
	}
	return fd, nil
}

// onlyAdvertisements lets through what is of the active node's address and of VRRP,
// so that a flood the other way does not fill the queue.
func onlyAdvertisements() *unix.SockFprog {
	from := net.ParseIP(activeAddr).To4()
	program := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, K: 9},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: vrrp.Protocol, Jf: 3},
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 12},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: binary.BigEndian.Uint32(from), Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: 256},
		{Code: unix.BPF_RET | unix.BPF_K, K: 0},
	}
	return &unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
}

// stamp is when the kernel had a packet.
func stamp(control []byte) (time.Time, bool) {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return time.Time{}, false
	}
	for _, m := range messages {
		if m.Header.Level == unix.SOL_SOCKET && m.Header.Type == unix.SCM_TIMESTAMPNS && len(m.Data) >= 16 {
			return time.Unix(int64(binary.NativeEndian.Uint64(m.Data)), int64(binary.NativeEndian.Uint64(m.Data[8:]))), true
		}
	}
	return time.Time{}, false
}
