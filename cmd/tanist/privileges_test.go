package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/tanist-ha/tanist/internal/control"
)

// nobody is a user who owns nothing but what a test gives him.
const nobody = 65534

const ordinaryConfig = `
key_file: %q
nodes:
  primary: {addresses: [%q]}
  reserve: {addresses: [%q]}
log: {level: info, format: console}
instances:
  - name: compass
    interface: veth0
    vrid: 51
    vips: [%q, %q]
    heartbeat: {mode: %s}
`

// Without databases and units to see to, a daemon of an ordinary user needs two
// capabilities: it becomes Active, holds and announces the address, hands it over,
// and loses it with its lease.
func TestOrdinaryUser(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"unicast", "multicast"} {
		t.Run("ipv4-"+mode, func(t *testing.T) {
			testOrdinaryUser(t, mode, "192.0.2.%d", 24, "192.0.2.100", "192.0.2.101")
		})
		t.Run("ipv6-"+mode, func(t *testing.T) {
			testOrdinaryUser(t, mode, "2001:db8::%d", 64, "fe80::100", "2001:db8::100")
		})
	}
}

func testOrdinaryUser(t *testing.T, mode, host string, bits int, vips ...string) {
	if !inside(t) {
		return
	}
	o := newOrdinary(t)
	mine, its := fmt.Sprintf(host, 11), fmt.Sprintf(host, 12)
	config := fmt.Appendf(nil, ordinaryConfig, filepath.Join(o.dir, "key"), mine, its,
		vips[0]+"/"+strconv.Itoa(bits), vips[1]+"/"+strconv.Itoa(bits), mode)
	if err := os.WriteFile(filepath.Join(o.dir, "tanist.yaml"), config, 0o644); err != nil {
		t.Fatal(err)
	}
	here, err := netlink.NewHandle()
	if err != nil {
		t.Fatal(err)
	}
	defer here.Close()
	if err := here.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "veth0"}, PeerName: "veth1"}); err != nil {
		t.Fatal(err)
	}
	number(t, here, mine+"/"+strconv.Itoa(bits), "fe80::11/64")
	heard := listenForAnnouncements(t)
	reserve := o.start(t, "reserve", true)
	there := moveVeth(t, reserve.Process.Pid)
	number(t, there, its+"/"+strconv.Itoa(bits), "fe80::12/64")
	primary := o.start(t, "primary", false)
	first, second := side{"primary", primary, here, hardware(t, here)}, side{"reserve", reserve, there, hardware(t, there)}
	eventually(t, "one to be active", func() bool {
		if o.is(second.node, "active") { // it had more time
			first, second = second, first
		}
		return o.is(first.node, "active") && o.is(second.node, "backup")
	})
	for _, s := range []side{first, second} {
		onlyCapabilities(t, s.Process.Pid)
	}
	for _, a := range vips {
		if lease := leaseOf(first.at, a); lease <= 0 || lease > 2 {
			t.Errorf("%s is on veth0 for %d s, want a lease of up to 2", a, lease)
		}
		eventually(t, "the active to announce "+a, func() bool { return heard.count(first.hardware, a) > 0 })
	}
	eventually(t, "the gate to open", func() bool { return o.ready(second.node) })
	if got := tanist(t, "switchover", "--socket", o.socket(second.node)); got.code != exitOK {
		t.Fatalf("switchover: %+v", got)
	}
	for _, a := range vips {
		if leaseOf(second.at, a) <= 0 || leaseOf(first.at, a) >= 0 {
			t.Errorf("after the switchover %s is not on the other alone", a)
		}
		eventually(t, "the other to announce "+a, func() bool { return heard.count(second.hardware, a) > 0 })
	}
	before := heard.count(first.hardware, vips[0])
	if err := second.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = second.Wait()
	eventually(t, "the killed one's lease to run out", func() bool {
		return leaseOf(second.at, vips[0]) < 0 && leaseOf(second.at, vips[1]) < 0
	})
	eventually(t, "the first to take over", func() bool { return o.is(first.node, "active") && leaseOf(first.at, vips[0]) > 0 })
	eventually(t, "the first to announce it", func() bool { return heard.count(first.hardware, vips[0]) > before })
	if err := first.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := first.end(t); code != exitOK {
		t.Errorf("exit status %d\n%s", code, first.stderr)
	}
	if leaseOf(first.at, vips[0]) >= 0 || leaseOf(first.at, vips[1]) >= 0 {
		t.Error("an address is left")
	}
	for _, s := range []side{first, second} {
		if said := forbidden.FindString(s.stderr.String()); said != "" {
			t.Errorf("%s misses a privilege: %s", s.node, said)
		}
	}
}

// side is a daemon and the network that it is in.
type side struct {
	node string
	tanistProcess
	at       *netlink.Handle
	hardware string // of its veth0
}

// forbidden is a line about something that the daemon may not do.
var forbidden = regexp.MustCompile(`(?im)^.*(permission denied|not permitted).*$`)

// ordinary is what an ordinary user has to run tanist with.
type ordinary struct {
	dir, binary string
	gid         uint32
}

func newOrdinary(t *testing.T) *ordinary {
	t.Helper()
	o := &ordinary{dir: t.TempDir(), gid: nobody}
	if g, err := user.LookupGroup("tanist"); err == nil { // the socket is to be this group's
		gid, err := strconv.ParseUint(g.Gid, 10, 32)
		if err != nil {
			t.Fatal(err)
		}
		o.gid = uint32(gid)
	}
	o.binary = filepath.Join(o.dir, "tanist")
	if err := copyFile(o.binary, os.Args[0]); err != nil { // that one is where only root may go
		t.Fatal(err)
	}
	if got := tanist(t, "keygen", filepath.Join(o.dir, "key")); got.code != exitOK {
		t.Fatalf("keygen: %+v", got)
	}
	for _, err := range []error{
		os.Chmod(filepath.Dir(o.dir), 0o711), os.Chmod(o.dir, 0o755),
		os.Chown(filepath.Join(o.dir, "key"), nobody, int(o.gid)),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return o
}

func copyFile(to, from string) error {
	r, err := os.Open(from)
	if err != nil {
		return err
	}
	defer r.Close()
	w, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(w, r)
	return errors.Join(err, w.Close())
}

func (o *ordinary) socket(node string) string { return filepath.Join(o.dir, node, "run", "socket") }

// start starts a daemon of the user's, in this network namespace or its own.
func (o *ordinary) start(t *testing.T, node string, elsewhere bool) tanistProcess {
	t.Helper()
	state, run := filepath.Join(o.dir, node, "state"), filepath.Dir(o.socket(node))
	for _, dir := range []string{state, run} {
		err := os.MkdirAll(dir, 0o755)
		if err == nil {
			err = os.Chown(dir, nobody, int(o.gid))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	p := tanistProcess{exec.CommandContext(t.Context(), o.binary, "run", "--config", filepath.Join(o.dir, "tanist.yaml"),
		"--node", node, "--socket", o.socket(node), "--state-dir", state), &lockedBuffer{}}
	p.Env = []string{mainVariable + "=1"}
	p.Dir = "/"
	p.Stderr = p.stderr
	p.SysProcAttr = &syscall.SysProcAttr{
		Credential:  &syscall.Credential{Uid: nobody, Gid: o.gid},
		AmbientCaps: []uintptr{unix.CAP_NET_ADMIN, unix.CAP_NET_RAW},
		Pdeathsig:   syscall.SIGKILL,
	}
	if elsewhere {
		p.SysProcAttr.Cloneflags = syscall.CLONE_NEWNET
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the log of the %s:\n%s", node, p.stderr)
		}
	})
	return p
}

func (o *ordinary) status(node string) (control.Document, control.Instance) {
	doc, err := control.Dial(o.socket(node)).Status(context.Background())
	if err != nil || len(doc.Instances) == 0 {
		return control.Document{}, control.Instance{}
	}
	return doc, doc.Instances[0]
}

func (o *ordinary) is(node, state string) bool {
	_, in := o.status(node)
	return in.State == state
}

// ready reports whether a node could take the role, as far as the other knows.
func (o *ordinary) ready(node string) bool {
	doc, in := o.status(node)
	return doc.Peer.Reachable && in.Gate.Open && in.Heartbeat != nil && in.Heartbeat.Proved != nil && *in.Heartbeat.Proved
}

// onlyCapabilities requires that a process is the user's and has no more than the
// two capabilities, or the test would show nothing.
func onlyCapabilities(t *testing.T, pid int) {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	caps := fmt.Sprintf("CapEff:\t%016x\n", 1<<unix.CAP_NET_ADMIN|1<<unix.CAP_NET_RAW)
	uids := fmt.Sprintf("Uid:\t%[1]d\t%[1]d\t%[1]d\t%[1]d\n", nobody)
	if !strings.Contains(string(status), caps) || !strings.Contains(string(status), uids) {
		t.Errorf("want %q and %q in\n%s", caps, uids, status)
	}
}

// moveVeth gives veth1 to the namespace of a process, where it is veth0.
func moveVeth(t *testing.T, pid int) *netlink.Handle {
	t.Helper()
	ns, err := netns.GetFromPid(pid)
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	there, err := netlink.NewHandleAt(ns)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = there.Close() })
	l, err := netlink.LinkByName("veth1")
	if err == nil {
		err = netlink.LinkSetNsFd(l, int(ns))
	}
	if err == nil {
		l, err = there.LinkByName("veth1")
	}
	if err == nil {
		err = there.LinkSetName(l, "veth0")
	}
	if err != nil {
		t.Fatal(err)
	}
	return there
}

// number gives veth0 addresses that count at once, and sets it up.
func number(t *testing.T, h *netlink.Handle, prefixes ...string) {
	t.Helper()
	l, err := h.LinkByName("veth0")
	if err == nil {
		err = h.LinkSetIP6AddrGenMode(l, addressesByHand)
	}
	for _, prefix := range prefixes {
		var a *netlink.Addr
		if err == nil {
			a, err = netlink.ParseAddr(prefix)
		}
		if err == nil {
			a.Flags = unix.IFA_F_NODAD
			err = h.AddrAdd(l, a)
		}
	}
	if err == nil {
		err = h.LinkSetUp(l)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// addressesByHand is IN6_ADDR_GEN_MODE_NONE: no link-local address of the kernel's.
const addressesByHand = 1

func hardware(t *testing.T, h *netlink.Handle) string {
	t.Helper()
	l, err := h.LinkByName("veth0")
	if err != nil {
		t.Fatal(err)
	}
	return l.Attrs().HardwareAddr.String()
}

// leaseOf returns for how many seconds veth0 has an address, -1 if it has not.
func leaseOf(h *netlink.Handle, address string) int {
	l, err := h.LinkByName("veth0")
	if err != nil {
		return -1
	}
	as, err := h.AddrList(l, netlink.FAMILY_ALL)
	if err != nil {
		return -1
	}
	for _, a := range as {
		if a.IP.String() == address {
			return a.ValidLft
		}
	}
	return -1
}

// announcements are the gratuitous ARP and unsolicited neighbour advertisements
// that went over veth0, either way.
type announcements struct {
	mu   sync.Mutex // guards seen
	seen map[announcement]int
}

type announcement struct{ hardware, address string }

func (a *announcements) count(hardware, address string) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.seen[announcement{hardware, address}]
}

func listenForAnnouncements(t *testing.T) *announcements {
	t.Helper()
	all := uint16(unix.ETH_P_ALL)
	order := binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, all))
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(order))
	if err != nil {
		t.Fatal(err)
	}
	l, err := netlink.LinkByName("veth0")
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: order, Ifindex: l.Attrs().Index})
	}
	if err == nil {
		err = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 100_000})
	}
	if err != nil {
		t.Fatal(err)
	}
	a := &announcements{seen: map[announcement]int{}}
	stop, ended := make(chan struct{}), make(chan struct{})
	t.Cleanup(func() {
		close(stop)
		<-ended
		_ = unix.Close(fd)
	})
	go func() {
		defer close(ended)
		frame := make([]byte, 2048)
		for {
			select {
			case <-stop:
				return
			default:
			}
			if n, _, err := unix.Recvfrom(fd, frame, 0); err == nil {
				a.take(frame[:n])
			}
		}
	}()
	return a
}

func (a *announcements) take(frame []byte) {
	const header, arpSender, arpTarget, naTarget = 14, 14 + 14, 14 + 24, 14 + 48
	if len(frame) < arpTarget+4 {
		return
	}
	var ip netip.Addr
	switch binary.BigEndian.Uint16(frame[12:]) {
	case unix.ETH_P_ARP:
		if string(frame[arpSender:arpSender+4]) != string(frame[arpTarget:arpTarget+4]) {
			return // a question or an answer
		}
		ip = netip.AddrFrom4([4]byte(frame[arpSender:]))
	case unix.ETH_P_IPV6:
		allNodes := netip.MustParseAddr("ff02::1")
		if len(frame) < naTarget+16 || frame[header+6] != unix.IPPROTO_ICMPV6 || frame[header+40] != 136 ||
			netip.AddrFrom16([16]byte(frame[header+24:])) != allNodes {
			return
		}
		ip = netip.AddrFrom16([16]byte(frame[naTarget:]))
	default:
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.seen[announcement{net.HardwareAddr(frame[6:12]).String(), ip.String()}]++
}
