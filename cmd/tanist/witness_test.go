package main

import (
	"context"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"github.com/tanist-ha/tanist/internal/failover"
)

// TestGateways asks real kernels: one address that answers is enough, and what cannot be
// asked is not a no.
func TestGateways(t *testing.T) {
	if !inside(t) {
		return
	}
	router(t, "eth0", "10.77.0.11/24", "10.77.0.1/24")
	for _, tt := range []struct {
		name      string
		addresses []string
		want      failover.Verdict
		says      string
	}{
		{"one that answers", []string{"10.77.0.1"}, failover.VerdictYes, "10.77.0.1 answers"},
		{"the second answers", []string{"10.77.0.2", "10.77.0.1"}, failover.VerdictYes, "10.77.0.1 answers"},
		{"nobody answers", []string{"10.77.0.2", "10.77.0.3"}, failover.VerdictNo, "10.77.0.3"},
		{"no way there", []string{"192.0.2.1"}, failover.VerdictUnknown, "192.0.2.1"},
		{"this host itself", []string{"10.77.0.11"}, failover.VerdictUnknown, "address of this host"},
		{"one that is silent, one that cannot be asked", []string{"10.77.0.2", "192.0.2.1"}, failover.VerdictNo, "192.0.2.1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var gs gateways
			for _, a := range tt.addresses {
				gs = append(gs, netip.MustParseAddr(a))
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			got, detail := gs.Ask(ctx, failover.AskWitness{})
			if got != tt.want || !strings.Contains(detail, tt.says) {
				t.Errorf("%s: %s", got, detail)
			}
		})
	}
}

// router puts another host at the end of a cable.
func router(t *testing.T, link, own, theirs string) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: link}, PeerName: "far"}))
	far, err := netlink.LinkByName("far")
	must(err)
	done := make(chan error, 1)
	ready := make(chan netns.NsHandle, 1)
	go func() {
		runtime.LockOSThread() // for good: the thread is not ours any more
		ns, err := netns.New()
		if err != nil {
			done <- err
			return
		}
		ready <- ns
		<-done
	}()
	select {
	case err := <-done:
		t.Fatal(err)
	case ns := <-ready:
		t.Cleanup(func() { done <- nil; _ = ns.Close() })
		must(netlink.LinkSetNsFd(far, int(ns)))
		h, err := netlink.NewHandleAt(ns)
		must(err)
		t.Cleanup(func() { _ = h.Close() })
		addTo(t, h, "far", theirs)
	}
	h, err := netlink.NewHandle()
	must(err)
	t.Cleanup(func() { _ = h.Close() })
	addTo(t, h, link, own)
}

func addTo(t *testing.T, h *netlink.Handle, name, prefix string) {
	t.Helper()
	l, err := h.LinkByName(name)
	if err == nil {
		err = h.LinkSetUp(l)
	}
	if err != nil {
		t.Fatal(err)
	}
	a, err := netlink.ParseAddr(prefix)
	if err == nil {
		err = h.AddrAdd(l, a)
	}
	if err != nil {
		t.Fatal(err)
	}
}
