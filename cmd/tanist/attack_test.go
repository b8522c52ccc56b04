package main

// Attacks on whole daemons by somebody who has the active node's address: nothing
// of it changes what the standby does.

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"io"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/tanist-ha/tanist/internal/control"
	"github.com/tanist-ha/tanist/internal/peer"
	"github.com/tanist-ha/tanist/vrrp"
	"github.com/tanist-ha/tanist/vrrp/auth"
)

var (
	attackFrom = netip.MustParseAddr("192.0.2.11")
	attackTo   = netip.MustParseAddr("192.0.2.12")
)

// role is what no attack may change.
type role struct {
	State string
	Since time.Time
	Epoch uint64
	Held  bool
	Kinds string // of the last transition
}

func roleOf(in control.Instance) role {
	r := role{State: in.State, Since: in.Since, Epoch: in.Epoch, Held: in.VIPs[0].Held}
	if in.LastTransition != nil {
		r.Kinds = in.LastTransition.Kind
	}
	return r
}

// roles returns those of both nodes. Since wanders with the clocks that it is made of.
func (p *linkedPair) roles() map[string]role {
	p.t.Helper()
	both := map[string]role{}
	for _, node := range []string{"primary", "reserve"} {
		doc, ok := p.status(node)
		if !ok {
			p.t.Fatalf("%s gives no status", node)
		}
		both[node] = roleOf(doc.Instances[0])
	}
	return both
}

func (p *linkedPair) unchanged(what string, before map[string]role) {
	p.t.Helper()
	for node, now := range p.roles() {
		was := before[node]
		moved := now.Since.Sub(was.Since).Abs() > 100*time.Millisecond
		if now.Since = was.Since; now != was || moved {
			p.t.Errorf("%s: %s was %+v and is %+v, moved: %t", what, node, was, now, moved)
		}
	}
}

// overheard waits for an advertisement that leaves this namespace, and returns it
// without its IP header.
func overheard(t *testing.T) []byte {
	t.Helper()
	link, err := netlink.LinkByName("veth0")
	if err != nil {
		t.Fatal(err)
	}
	all := binary.NativeEndian.Uint16([]byte{unix.ETH_P_ALL >> 8, unix.ETH_P_ALL & 0xff}) // network order
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, int(all))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(fd) }()
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 5}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: link.Attrs().Index}); err != nil {
		t.Fatal(err)
	}
	for b := make([]byte, 2048); ; {
		n, _, err := unix.Recvfrom(fd, b, 0)
		if err != nil {
			t.Fatalf("no advertisement to be heard: %v", err)
		}
		from := attackFrom.As4()
		if p := b[:n]; n > 20 && p[0] == 0x45 && p[9] == vrrp.Protocol && bytes.Equal(p[12:16], from[:]) {
			return slices.Clone(p[20:])
		}
	}
}

// shouter sends advertisements in the name of the primary.
func shouter(t *testing.T) func(payload []byte) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, vrrp.Protocol)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_TTL, vrrp.TTL); err != nil {
		t.Fatal(err)
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: attackFrom.As4()}); err != nil {
		t.Fatal(err)
	}
	return func(payload []byte) {
		t.Helper()
		if err := unix.Sendto(fd, payload, 0, &unix.SockaddrInet4{Addr: attackTo.As4()}); err != nil {
			t.Fatal(err)
		}
	}
}

// sealedBy is an advertisement sealed with a key, as the instance of the pair would.
func sealedBy(t *testing.T, keyLine string, priority uint8) []byte {
	t.Helper()
	keys, err := auth.ParseKeys([]byte(keyLine + "\n"))
	if err != nil {
		t.Fatal(err)
	}
	s, err := auth.NewSealer(auth.SealerConfig{
		Mode: auth.Enforce, Keys: keys, Instance: auth.Instance{VRID: 51, Name: "compass"}, Boot: uint64(time.Now().Add(time.Hour).UnixNano()),
	})
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := s.Seal(bare(t, priority), attackFrom, attackTo, 1, 99)
	if err != nil {
		t.Fatal(err)
	}
	return sealed
}

func bare(t *testing.T, priority uint8) []byte {
	t.Helper()
	a := vrrp.Advertisement{VRID: 51, Priority: priority, MaxAdvertInterval: 10, Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.100")}}
	b, err := a.AppendTo(nil, attackFrom, attackTo, vrrp.ChecksumRFC)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestAttacksOnThePair forges, replays, cuts and alters advertisements, and plays
// with the link's port, while the pair runs.
func TestAttacksOnThePair(t *testing.T) {
	if !inside(t) {
		return
	}
	p := newLinkedPair(t)
	reserve := inAnotherNetwork(t, "192.0.2.12/24", p.run("reserve")...)
	addAddress(t, "veth0", "192.0.2.11/24")
	primary := startTanist(t, p.run("primary")...)
	p.settled("the pair", time.Now())
	before := p.roles()
	shout := shouter(t)
	good := overheard(t)
	p.settled("what was overheard is heard", time.Now())

	for _, attack := range []struct {
		name    string
		reasons []string // of which every one is counted
		do      func()
	}{
		{"goodbyes and claims without a key", []string{"auth_missing"}, func() {
			for range 200 {
				shout(bare(t, 0))
				shout(bare(t, 255))
			}
		}},
		{"of another key, as after a rotation", []string{"auth_key"}, func() {
			for range 50 {
				shout(sealedBy(t, hex.EncodeToString(bytes.Repeat([]byte{7}, auth.KeyLen)), 0))
				shout(sealedBy(t, hex.EncodeToString(bytes.Repeat([]byte{7}, auth.KeyLen)), 255))
			}
		}},
		{"replays", []string{"auth_replay"}, func() {
			for range 500 {
				shout(good)
			}
		}},
		{"every bit", []string{"auth_tag", "auth_missing", "auth_version", "auth_key"}, func() {
			for bit := range len(good) * 8 {
				flipped := slices.Clone(good)
				flipped[bit/8] ^= 1 << (bit % 8)
				shout(flipped)
			}
		}},
		{"every length", []string{"auth_missing"}, func() {
			for n := range len(good) {
				shout(good[:n])
			}
		}},
	} {
		was, _ := p.status("reserve")
		attack.do()
		eventually(t, attack.name+": it is counted", func() bool {
			now, ok := p.status("reserve")
			for _, reason := range attack.reasons {
				ok = ok && now.Instances[0].Heartbeat.Dropped[reason] > was.Instances[0].Heartbeat.Dropped[reason]
			}
			return ok
		})
		p.unchanged(attack.name, before)
	}

	flooded := func() bool {
		doc, ok := p.status("reserve")
		return ok && doc.Heartbeat[0].Flooded
	}
	forged := bare(t, 255)
	eventually(t, "a flood is seen", func() bool {
		for range 20_000 {
			shout(forged)
		}
		return flooded()
	})
	p.unchanged("a flood", before)
	eventually(t, "the flood is over", func() bool { return !flooded() })

	t.Run("the link", func(t *testing.T) { attackLink(t, p) })
	p.unchanged("the link's port", before)
	p.settled("and all is well", time.Now())
	for _, d := range []tanistProcess{primary, reserve} {
		if err := d.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if code := d.end(t); code != exitOK {
			t.Errorf("exit status %d\n%s", code, d.stderr)
		}
	}
}

// attackLink plays with the link's port of the reserve.
func attackLink(t *testing.T, p *linkedPair) {
	addAddress(t, "veth0", "192.0.2.66/24")
	dial := func(from netip.Addr) net.Conn {
		d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0))}
		conn, err := d.DialContext(t.Context(), "tcp4", netip.AddrPortFrom(attackTo, 7511).String())
		if err != nil {
			t.Fatal(err)
		}
		return conn
	}
	refused := func(reason peer.Reason) uint64 {
		doc, ok := p.status("reserve")
		if !ok {
			return 0
		}
		return doc.Peer.Paths[0].Refused[reason.String()]
	}
	const each = 50
	var held []net.Conn
	for range each {
		conn := dial(attackFrom)
		if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		held = append(held, conn, dial(attackFrom))
		stranger := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(192, 0, 2, 66)}, Timeout: 20 * time.Millisecond}
		if _, err := stranger.DialContext(t.Context(), "tcp4", netip.AddrPortFrom(attackTo, 7511).String()); err == nil {
			t.Fatal("a stranger is let in")
		}
	}
	for reason, n := range map[peer.Reason]uint64{peer.ReasonProtocol: each, peer.ReasonDropped: each, peer.ReasonSlow: each} {
		eventually(t, reason.String()+" is counted", func() bool {
			now := refused(reason)
			return now == n || reason == peer.ReasonDropped && now > n // by the packet
		})
	}
	for _, conn := range held {
		_ = conn.Close()
	}
	doc, _ := p.status("reserve")
	if path := doc.Peer.Paths[0]; !path.Proved || !path.Heard || path.HearsUs == nil || !*path.HearsUs {
		t.Errorf("the link in the end: %+v", path)
	}
}
