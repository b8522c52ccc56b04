package main

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"github.com/tanist-ha/tanist/internal/control"
)

// startReserve starts the other node in a namespace of its own, joined by a cable.
func startReserve(t *testing.T, instances string) *reloadRig {
	t.Helper()
	r, args := prepareReloadRig(t, "reserve", instances)
	p := tanistProcess{exec.CommandContext(t.Context(), os.Args[0], args...), &lockedBuffer{}}
	p.Env = append(os.Environ(), mainVariable+"=1")
	p.Stderr = p.stderr
	p.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	r.daemon = p
	far, err := netlink.LinkByName("veth1")
	if err == nil {
		err = netlink.LinkSetNsPid(far, p.Process.Pid)
	}
	if err != nil {
		t.Fatal(err)
	}
	ns, err := netns.GetFromPid(p.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	there, err := netlink.NewHandleAt(ns)
	if err != nil {
		t.Fatal(err)
	}
	defer there.Close()
	if far, err = there.LinkByName("veth1"); err == nil {
		err = there.LinkSetName(far, "veth0")
	}
	if err != nil {
		t.Fatal(err)
	}
	a, err := netlink.ParseAddr("192.0.2.12/24")
	if err == nil {
		err = there.AddrAdd(far, a)
	}
	if err == nil {
		err = there.LinkSetUp(far)
	}
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// The other node hears a replaced instance on without a break, whichever of the two
// was replaced, and a role that a reload takes away here is handed over.
func TestReloadOfAPair(t *testing.T) {
	if !inside(t) {
		return
	}
	veth(t, "veth0", "veth1", "192.0.2.11/24")
	primary := newReloadRig(t, instanceA+instanceB)
	reserve := startReserve(t, instanceA+instanceB)
	peerOf := func(r *reloadRig, name string) control.PeerInstance {
		for _, p := range r.status().Peer.Instances {
			if p.Name == name {
				return p
			}
		}
		return control.PeerInstance{}
	}
	settled := func(names ...string) bool {
		ours, theirs := primary.status(), reserve.status()
		return !slices.ContainsFunc(names, func(name string) bool {
			return instanceOf(ours, name).State != "active" || instanceOf(theirs, name).State != "backup" ||
				instanceOf(theirs, name).Reason != "peer_active" || peerOf(primary, name).AgeMS > 400 || peerOf(reserve, name).AgeMS > 400
		})
	}
	for _, r := range []*reloadRig{primary, reserve} {
		eventually(t, "the daemon", func() bool { _, err := r.client.Status(t.Context()); return err == nil })
	}
	eventually(t, "a settled pair", func() bool { return settled("a", "b") })
	epoch := primary.status().Epoch
	off := watchAddresses(t)

	changed := strings.Replace(instanceA, "vrid: 51", "vrid: 51, priority: {primary: 100, reserve: 90}, garp: {repeat: 1}", 1)
	for _, r := range []*reloadRig{reserve, primary} {
		name := map[bool]string{true: "active", false: "standby"}[r == primary]
		t.Run(name, func(t *testing.T) {
			doc := r.reload(reloadHead+changed+instanceB, reloadApplied)
			if now := instanceOf(doc, "a"); r == primary && now.Reason != "adopted" || r == reserve && now.State != "backup" {
				t.Errorf("%s, %s", now.State, now.Reason)
			}
			other := primary
			if r == primary {
				other = reserve
			}
			seen := instanceOf(r.status(), "a").Reason
			eventually(t, "the other node's view", func() bool {
				p := peerOf(other, "a")
				return p.AgeMS < 400 && (p.Reason == seen || p.Reason == "peer_active")
			})
			if primary.status().Epoch != epoch || len(off.addresses()) > 0 {
				t.Errorf("epoch %d after %d, taken off %v", primary.status().Epoch, epoch, off.addresses())
			}
		})
	}
	eventually(t, "a settled pair", func() bool {
		ours, theirs := primary.status(), reserve.status()
		return instanceOf(ours, "a").State == "active" && instanceOf(theirs, "a").State == "backup" && peerOf(primary, "a").AgeMS < 400 && peerOf(primary, "a").Gate.Open
	})

	t.Run("switchover", func(t *testing.T) { // between two new cores
		outcome, err := primary.client.Switchover(t.Context(), control.SwitchoverRequest{Instance: "a", TimeoutMS: 30_000}, func(control.Line) {})
		if err != nil || outcome.Result != "done" {
			t.Errorf("%+v, %v", outcome, err)
		}
		eventually(t, "the other one active", func() bool { return instanceOf(reserve.status(), "a").State == "active" })
	})
	t.Run("removed", func(t *testing.T) {
		primary.reload(reloadHead+changed, reloadApplied)
		b := instanceOf(reserve.status(), "b")
		if b.State != "active" && b.State != "promoting" || b.LastTransition == nil || !b.LastTransition.Planned {
			t.Errorf("it was not handed over: %s, %s, %+v", b.State, b.Reason, b.LastTransition)
		}
	})
	t.Run("added-again", func(t *testing.T) {
		primary.reload(reloadHead+changed+instanceB, reloadApplied)
		eventually(t, "the reserve to hear it", func() bool { p := peerOf(reserve, "b"); return p.AgeMS < 400 && p.State == "backup" })
		if b := instanceOf(reserve.status(), "b"); b.State != "active" {
			t.Errorf("%s, %s", b.State, b.Reason)
		}
	})
	for _, r := range []*reloadRig{primary, reserve} {
		if err := r.daemon.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if code := r.daemon.end(t); code != exitOK {
			t.Errorf("exit status %d\n%s", code, r.daemon.stderr)
		}
	}
	if t.Failed() {
		t.Logf("primary:\n%s\nreserve:\n%s", primary.daemon.stderr, reserve.daemon.stderr)
	}
}
