package peer

// Two daemons in network namespaces of their own, joined by two cables that are
// pulled: the kernel's own timeouts, which loopback does not show. A namespace
// belongs to a thread and a Link to many goroutines, so each is a process.

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/tanist-ha/tanist/internal/failover"
)

const childEnv = "TANIST_PEER_TEST_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		if err := child(os.Args[1] == "a"); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// child runs a link until its input ends. a speaks every failover.TellInterval;
// both print what they hear, and the state of their paths.
func child(a bool) error {
	cfg := Config{Node: "a", Peer: "b", Port: port}
	for _, net := range []byte{1, 2} {
		cfg.Paths = append(cfg.Paths, Path{
			Local: netip.AddrFrom4([4]byte{192, 0, 2, net*16 + 1}), Peer: netip.AddrFrom4([4]byte{192, 0, 2, net*16 + 2}),
		})
	}
	if !a {
		cfg.Node, cfg.Peer = "b", "a"
		for i, p := range cfg.Paths {
			cfg.Paths[i] = Path{Local: p.Peer, Peer: p.Local}
		}
	}
	if os.Getenv(childEnv) == callsMode {
		return callChild(cfg, a)
	}
	l, err := New(cfg)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	go func() {
		tick := time.NewTicker(failover.TellInterval)
		defer tick.Stop()
		for seq := uint64(1); ctx.Err() == nil; seq++ {
			if a {
				l.Send("compass", failover.PeerState{Boot: 1, Seq: seq, Stamp: now()})
				l.Flush()
			}
			s := l.Paths()
			fmt.Println("paths", s[0].Connected, s[0].Received, s[1].Connected, s[1].Received)
			<-tick.C
		}
	}()
	return l.Run(ctx, func(batch []Said) {
		for _, s := range batch {
			fmt.Println("heard", s.State.Seq, now().Sub(s.State.Stamp).Milliseconds()) // one kernel, one clock
		}
	})
}

// heard is what b printed of a message; counts are of its paths.
type line struct {
	at       time.Time
	seq      uint64
	age      int64 // ms
	received [2]uint64
}

func TestCablesPulled(t *testing.T) {
	hosts := twoHosts(t)
	runChild(t, hosts.a, "a")
	lines := runChild(t, hosts.b, "b")
	next := func(what string, want func(line) bool) line {
		t.Helper()
		timeout := time.After(limit)
		for {
			select {
			case l, ok := <-lines:
				if !ok {
					t.Fatalf("%s: the process ended", what)
				}
				if want(l) {
					return l
				}
			case <-timeout:
				t.Fatalf("%s: not within %v", what, limit)
			}
		}
	}
	var seq uint64
	worst := int64(0)
	// follow reads until both counts have grown by what is wanted of each path,
	// and sees that no message is lost on the way.
	follow := func(what string, grow [2]uint64, lossless bool) {
		t.Helper()
		var from *[2]uint64
		next(what, func(l line) bool {
			if l.seq > 0 {
				if lossless && seq > 0 && l.seq != seq+1 {
					t.Errorf("%s: message %d follows %d", what, l.seq, seq)
				}
				if lossless {
					worst = max(worst, l.age)
				}
				seq = l.seq
				return false
			}
			if from == nil {
				from = &l.received
			}
			return l.received[0] >= from[0]+grow[0] && l.received[1] >= from[1]+grow[1]
		})
	}
	follow("both paths carry", [2]uint64{5, 5}, false)
	follow("and lose nothing", [2]uint64{5, 5}, true)

	hosts.pull(t, 0)
	follow("the second path carries on", [2]uint64{0, 30}, true)
	began := time.Now()
	hosts.plug(t, 0)
	follow("the first is back", [2]uint64{3, 0}, true)
	t.Logf("healed after 3 s: back within %v; oldest message delivered meanwhile: %d ms", time.Since(began), worst)

	hosts.pull(t, 0)
	hosts.pull(t, 1)
	pulled := time.Now()
	next("silence for a while", func(line) bool { return time.Since(pulled) > 4*time.Second })
	began = time.Now()
	hosts.plug(t, 0)
	hosts.plug(t, 1)
	first := next("a word again", func(l line) bool { return l.seq > 0 && l.at.After(began) })
	t.Logf("both healed after 4 s: heard again within %v, a message %d ms old", first.at.Sub(began), first.age)
	seq = first.seq
	follow("both paths carry again", [2]uint64{5, 5}, false)
}

type pair struct {
	a, b  netns.NsHandle
	right *netlink.Handle // of b
}

// twoHosts makes two namespaces joined by cables 0 and 1.
func twoHosts(t *testing.T) *pair {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root to make network namespaces")
	}
	p := &pair{}
	for _, ns := range []*netns.NsHandle{&p.a, &p.b} {
		err := onOwnThread(func() (err error) {
			*ns, err = netns.New()
			return err
		})
		if errors.Is(err, unix.EPERM) {
			t.Skip("needs CAP_SYS_ADMIN to make network namespaces")
		}
		check(t, err)
		t.Cleanup(func() { _ = ns.Close() })
	}
	left, err := netlink.NewHandleAt(p.a, unix.NETLINK_ROUTE)
	check(t, err)
	t.Cleanup(func() { _ = left.Close() })
	p.right, err = netlink.NewHandleAt(p.b, unix.NETLINK_ROUTE)
	check(t, err)
	t.Cleanup(func() { _ = p.right.Close() })
	for i := range 2 {
		name := fmt.Sprint("cable", i)
		check(t, left.LinkAdd(&netlink.Veth{
			LinkAttrs: netlink.LinkAttrs{Name: name, Namespace: netlink.NsFd(p.a)},
			PeerName:  name, PeerNamespace: netlink.NsFd(p.b),
		}))
		for host, h := range []*netlink.Handle{left, p.right} {
			addr, err := netlink.ParseAddr(fmt.Sprintf("192.0.2.%d/28", (i+1)*16+host+1))
			check(t, err)
			link, err := h.LinkByName(name)
			check(t, err)
			check(t, h.AddrAdd(link, addr))
			check(t, h.LinkSetUp(link))
		}
	}
	return p
}

// pull takes one end of a cable down, so that the other loses its carrier: what
// is sent there is gone without an error.
func (p *pair) pull(t *testing.T, cable int) {
	t.Helper()
	check(t, p.right.LinkSetDown(p.end(t, cable)))
}

func (p *pair) plug(t *testing.T, cable int) {
	t.Helper()
	check(t, p.right.LinkSetUp(p.end(t, cable)))
}

func (p *pair) end(t *testing.T, cable int) netlink.Link {
	t.Helper()
	link, err := p.right.LinkByName(fmt.Sprint("cable", cable))
	check(t, err)
	return link
}

// runChild runs this test program as one end of the link.
func runChild(t *testing.T, ns netns.NsHandle, end string) <-chan line {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", end)
	cmd.Env = append(os.Environ(), childEnv+"=1")
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	check(t, err)
	stdout, err := cmd.StdoutPipe()
	check(t, err)
	check(t, onOwnThread(func() error {
		if err := netns.Set(ns); err != nil {
			return err
		}
		return cmd.Start()
	}))
	lines := make(chan line, 10_000) // more than a test lasts
	read := make(chan struct{})
	go func() {
		defer close(read)
		defer close(lines)
		for sc := bufio.NewScanner(stdout); sc.Scan(); {
			l := line{at: time.Now()}
			var skip bool
			if n, _ := fmt.Sscanf(sc.Text(), "heard %d %d", &l.seq, &l.age); n == 2 {
				lines <- l
			} else if n, _ := fmt.Sscanf(sc.Text(), "paths %t %d %t %d", &skip, &l.received[0], &skip, &l.received[1]); n == 4 {
				lines <- l
			} else if !strings.HasPrefix(sc.Text(), "paths") {
				t.Errorf("%s says %q", end, sc.Text())
			}
		}
	}()
	t.Cleanup(func() {
		_ = stdin.Close()
		<-read
		if err := cmd.Wait(); err != nil {
			t.Errorf("%s: %v", end, err)
		}
	})
	return lines
}

// onOwnThread never unlocks its thread, so the runtime ends it and no other
// goroutine inherits the namespace.
func onOwnThread(fn func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		done <- fn()
	}()
	return <-done
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
