package main

import (
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/tanist-ha/tanist/internal/control"
	"github.com/tanist-ha/tanist/internal/peer"
	"github.com/tanist-ha/tanist/vrrp"
)

const pairConfig = `
key_file: %s
nodes:
  primary: {addresses: [192.0.2.11]}
  reserve: {addresses: [192.0.2.12]}
log: {level: info, format: console}
instances:
  - name: compass
    interface: veth0
    vrid: 51
    vips: [192.0.2.100/24]
    heartbeat: {%s}
`

// inAnotherNetwork starts tanist in a network namespace of its own, once its
// veth0 is joined with the one here.
func inAnotherNetwork(t *testing.T, address string, args ...string) tanistProcess {
	t.Helper()
	wait := append([]string{"-c", `read go && exec "$@"`, "sh", os.Args[0]}, args...)
	p := tanistProcess{exec.CommandContext(t.Context(), "/bin/sh", wait...), &lockedBuffer{}}
	p.Env = append(os.Environ(), mainVariable+"=1")
	p.Stderr = p.stderr
	p.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	stdin, err := p.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	ns, err := netns.GetFromPid(p.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ns.Close() }()
	there, err := netlink.NewHandleAt(ns)
	if err != nil {
		t.Fatal(err)
	}
	defer there.Close()
	err = netlink.LinkAdd(&netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: "veth0"}, PeerName: "veth0", PeerNamespace: netlink.NsFd(int(ns)),
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"lo", "veth0"} {
		l, err := there.LinkByName(name)
		if err == nil {
			err = there.LinkSetUp(l)
		}
		if err == nil && name == "veth0" {
			var a *netlink.Addr
			if a, err = netlink.ParseAddr(address); err == nil {
				err = there.AddrAdd(l, a)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	here, err := netlink.LinkByName("veth0")
	if err == nil {
		err = netlink.LinkSetUp(here)
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(stdin, "go\n"); err != nil {
		t.Fatal(err)
	}
	return p
}

// Two whole daemons over each kind of heartbeat, with the key: they prove
// themselves to each other, take nothing from anybody else, and hand over.
func TestPairWithKey(t *testing.T) {
	t.Parallel()
	for name, heartbeat := range map[string]string{
		"unicast":   "advert_interval: 100ms",
		"multicast": "advert_interval: 100ms, mode: multicast",
		"version2":  "version: 2",
	} {
		t.Run(name, func(t *testing.T) { testPairWithKey(t, heartbeat) })
	}
}

func testPairWithKey(t *testing.T, heartbeat string) {
	if !inside(t) {
		return
	}
	dir := t.TempDir()
	key, file := filepath.Join(dir, "key"), filepath.Join(dir, "tanist.yaml")
	if got := tanist(t, "keygen", key); got.code != exitOK {
		t.Fatalf("keygen: %+v", got)
	}
	if err := os.WriteFile(file, fmt.Appendf(nil, pairConfig, key, heartbeat), 0o600); err != nil {
		t.Fatal(err)
	}
	with := func(node string) []string {
		state := filepath.Join(dir, node)
		if err := os.MkdirAll(state, 0o700); err != nil {
			t.Fatal(err)
		}
		return []string{"run", "--config", file, "--node", node, "--socket", filepath.Join(dir, node+".s"), "--state-dir", state}
	}
	status := func(node string) (control.Instance, bool) {
		doc, err := control.Dial(filepath.Join(dir, node+".s")).Status(t.Context())
		if err != nil || len(doc.Instances) == 0 {
			return control.Instance{}, false
		}
		return doc.Instances[0], doc.Instances[0].Heartbeat != nil
	}
	reserve := inAnotherNetwork(t, "192.0.2.12/24", with("reserve")...)
	addAddress(t, "veth0", "192.0.2.11/24")
	primary := startTanist(t, with("primary")...)

	eventually(t, "a proved heartbeat", func() bool {
		in, ok := status("reserve")
		return ok && in.State == "backup" && in.Heartbeat.Proved != nil && *in.Heartbeat.Proved
	})
	if in, _ := status("reserve"); in.Heartbeat.Auth != "hmac" || len(in.Heartbeat.Mismatch) != 0 || len(in.Heartbeat.Dropped) != 0 {
		t.Errorf("%+v", in.Heartbeat)
	}
	rotate(t, key, func(node string) control.Document {
		doc, err := control.Dial(filepath.Join(dir, node+".s")).Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return doc
	}, map[string]tanistProcess{"primary": primary, "reserve": reserve})
	forge(t, strings.Contains(heartbeat, "multicast"), strings.Contains(heartbeat, "version: 2"))
	eventually(t, "the forgery to be dropped", func() bool {
		in, ok := status("reserve")
		return ok && in.Heartbeat.Dropped["auth_missing"] > 0
	})
	if in, _ := status("reserve"); in.State != "backup" {
		t.Errorf("after a forged goodbye: %s, %s", in.State, in.Reason)
	}
	if err := primary.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := primary.end(t); code != exitOK {
		t.Errorf("exit status %d\n%s", code, primary.stderr)
	}
	eventually(t, "the reserve to be active", func() bool {
		in, ok := status("reserve")
		return ok && in.State == "active" && in.VIPs[0].Held
	})
	primary = startTanist(t, with("primary")...)
	eventually(t, "the returned one to hear it proved", func() bool {
		in, ok := status("primary")
		return ok && in.State == "backup" && in.Heartbeat.Proved != nil && *in.Heartbeat.Proved
	})
	for node, p := range map[string]tanistProcess{"primary": primary, "reserve": reserve} {
		if err := p.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if code := p.end(t); code != exitOK {
			t.Errorf("%s: exit status %d\n%s", node, code, p.stderr)
		}
		secret, err := os.ReadFile(key)
		if err != nil || strings.Contains(p.stderr.String(), strings.TrimSpace(string(secret))) {
			t.Errorf("%s logged the key, or it is gone: %v", node, err)
		}
	}
}

// rotate changes the key in the documented steps, one node after the other. The
// standby never misses a proof.
func rotate(t *testing.T, key string, status func(node string) control.Document, daemons map[string]tanistProcess) {
	t.Helper()
	older, err := os.ReadFile(key)
	if err != nil {
		t.Fatal(err)
	}
	newer := []byte(strings.Repeat("5e", 32) + "\n")
	for i, content := range [][]byte{append(slices.Clone(older), newer...), append(slices.Clone(newer), older...), newer} {
		if err := os.WriteFile(key, content, 0o600); err != nil {
			t.Fatal(err)
		}
		for _, node := range []string{"primary", "reserve"} {
			before := status(node).Reload
			if err := daemons[node].Process.Signal(syscall.SIGHUP); err != nil {
				t.Fatal(err)
			}
			var after *control.Reload
			eventually(t, "the reload", func() bool {
				after = status(node).Reload
				return after != nil && after.Result != reloadRunning && (before == nil || after.At.After(before.At))
			})
			if after.Result != reloadApplied || after.Detail != "the cluster key" {
				t.Errorf("step %d on %s: %+v", i, node, after)
			}
			since := time.Now()
			eventually(t, "an advertisement since", func() bool {
				ago := status("reserve").Instances[0].Heartbeat.LastHeardMS
				return ago != nil && time.Duration(*ago+1)*time.Millisecond < time.Since(since)
			})
			in := status("reserve").Instances[0]
			if h := in.Heartbeat; in.State != "backup" || !*h.Proved || len(h.Dropped) != 0 || h.SecondKey != (i == 1 && node == "primary") {
				t.Errorf("step %d on %s: %s, %+v", i, node, in.State, h)
			}
			for label := range daemons {
				eventually(t, "the link to be up and proved", func() bool {
					doc := status(label)
					link := doc.Peer.Paths[0]
					return doc.Peer.Authenticated && link.Heard && link.HearsUs != nil && *link.HearsUs && link.Proved
				})
				link := status(label).Peer.Paths[0]
				delete(link.Refused, peer.ReasonUnfinished.String()) // a node that asks whether the other one's host lives
				if len(link.Refused) != 0 {
					t.Errorf("step %d on %s: %s refused %v", i, node, label, link.Refused)
				}
			}
		}
	}
}

// forge says goodbye in the name of the primary, without the key.
func forge(t *testing.T, group, version2 bool) {
	t.Helper()
	src, dst := netip.MustParseAddr("192.0.2.11"), netip.MustParseAddr("192.0.2.12")
	if group {
		dst = vrrp.Group(src)
	}
	a := vrrp.Advertisement{VRID: 51, MaxAdvertInterval: 100, Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.100")}}
	if version2 {
		a.Version = vrrp.Version2
	}
	payload, err := a.AppendTo(nil, src, dst, vrrp.ChecksumRFC)
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, vrrp.Protocol)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(fd) }()
	for _, err := range []error{
		unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_TTL, vrrp.TTL),
		unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MULTICAST_TTL, vrrp.TTL),
		unix.SetsockoptInet4Addr(fd, unix.IPPROTO_IP, unix.IP_MULTICAST_IF, src.As4()),
		unix.Bind(fd, &unix.SockaddrInet4{Addr: src.As4()}),
		unix.Sendto(fd, payload, 0, &unix.SockaddrInet4{Addr: dst.As4()}),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
}
