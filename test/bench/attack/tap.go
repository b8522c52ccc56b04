package main

// When advertisements and the metronome's beats leave the first host.

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/tanist-ha/tanist/vrrp"
)

const (
	advertGap = 100 * time.Millisecond
	// beatProtocol is one for experiments (RFC 3692).
	beatProtocol = 253
	// receiveQueue is how many bytes may wait while this program gets no turn.
	receiveQueue = 1 << 20
	// networkControl is the type of service of a daemon's packets. A forgery from
	// this host's own address lacks it here, so that the tap can tell.
	networkControl = 0xc0
)

// tap sees what leaves the first host by the cable, with the kernel's times.
type tap struct {
	fd int

	mu      sync.Mutex // guards the fields below
	adverts []time.Time
	beats   []time.Time
}

func newTap() (*tap, error) {
	link, err := netlink.LinkByName(eth)
	if err != nil {
		return nil, err
	}
	all := binary.NativeEndian.Uint16([]byte{0, unix.ETH_P_ALL}) // network order
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	for _, err := range []error{
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveQueue),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 100_000}),
		unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, onlyBeats()),
		unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: link.Attrs().Index}),
	} {
		if err != nil {
			return nil, errors.Join(fmt.Errorf("listen to %s: %w", eth, err), unix.Close(fd))
		}
	}
	return &tap{fd: fd}, nil
}

// onlyBeats lets through what is of the active node's address and of either
// protocol, so that a flood fills no queue.
func onlyBeats() *unix.SockFprog {
	from := net.ParseIP(activeAddr).To4()
	program := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, K: 1},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: networkControl, Jf: 6},
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 12},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: binary.BigEndian.Uint32(from), Jf: 4},
		{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, K: 9},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: vrrp.Protocol, Jt: 1},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: beatProtocol, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: 256},
		{Code: unix.BPF_RET | unix.BPF_K, K: 0},
	}
	return &unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
}

// run listens until ctx ends.
func (t *tap) run(ctx context.Context) error {
	defer func() { _ = unix.Close(t.fd) }()
	packet, control := make([]byte, 256), make([]byte, 256)
	for ctx.Err() == nil {
		n, c, _, _, err := unix.Recvmsg(t.fd, packet, control, 0)
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("listen to %s: %w", eth, err)
		}
		if at, ok := stamp(control[:c]); ok && n >= 20 {
			t.note(packet[9] == beatProtocol, at)
		}
	}
	return nil
}

func (t *tap) note(beat bool, at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if beat {
		t.beats = append(t.beats, at)
	} else {
		t.adverts = append(t.adverts, at)
	}
}

// late returns by how much what was due in a window came later.
func (t *tap) late(w window) (adverts, beats []time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return lateIn(w, t.adverts), lateIn(w, t.beats)
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
