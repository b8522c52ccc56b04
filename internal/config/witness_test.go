package config

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestWitness(t *testing.T) {
	f, err := parseFile(t, "testdata/good/witness.yaml")
	if err != nil {
		t.Fatal(err)
	}
	type wanted struct {
		OnIsolation Isolation
		Witness     *Witness
	}
	var got []wanted
	for _, in := range f.Instances {
		got = append(got, wanted{in.OnIsolation, in.Witness})
	}
	addr := netip.MustParseAddr
	want := []wanted{
		{IsolationHold, &Witness{WitnessGateway, []netip.Addr{addr("10.77.0.1")}}},
		{IsolationRelease, &Witness{WitnessGateway, []netip.Addr{addr("10.77.0.1"), addr("fe80::1%eth0"), addr("192.0.2.1")}}},
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if in := defaultInstance(); in.Witness != nil || in.OnIsolation != IsolationHold {
		t.Errorf("by default %+v, %s", in.Witness, in.OnIsolation)
	}
}
