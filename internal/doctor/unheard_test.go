package doctor

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tanist-ha/tanist/vrrp"
	"github.com/tanist-ha/tanist/vrrp/auth"
)

// Of an instance that hears nobody, every reason is a finding or deliberately none.
func TestUnheard(t *testing.T) {
	refused := []string{"problem heartbeat_refused primary"}
	none := map[string]bool{
		"vrid": true, "unknown_vrid": true, "source": true, "ttl": true, "own": true, "overflow": true,
		"auth_key": true, "auth_tag": true, "auth_missing": true, "auth_family": true,
	}
	var all []Dropped
	for _, r := range vrrp.DropReasons() {
		all = append(all, Dropped{Instance: "compass", Packet: r, Lately: 7})
	}
	for _, r := range auth.Reasons() {
		all = append(all, Dropped{Instance: "compass", Proof: r, Lately: 7})
	}
	for _, d := range all {
		name := d.reason()
		t.Run(name, func(t *testing.T) {
			want := refused
			if none[name] {
				want = nil
			}
			found := Unheard(nodes(), []Dropped{d}, false)
			if diff := cmp.Diff(want, summary(found)); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			if want != nil {
				saysAll(t, found, []string{"instance compass hears nobody", "7 of them as " + name, "fix: "})
			}
			heard, before := d, d
			heard.Heard, before.Lately = true, 0
			if found := Unheard(nodes(), []Dropped{heard, before}, false); found != nil {
				t.Errorf("nothing is wrong: %+v", found)
			}
			if found := Unheard(nodes(), []Dropped{d}, true); want != nil && found[0].Severity != Warning {
				t.Errorf("the peer could be asked: %+v", found)
			}
		})
	}
	heard := Dropped{Path: "10.77.0.11-10.77.0.12", Peer: netip.MustParseAddr("10.77.0.12"), Packet: vrrp.DropTTL, Lately: 3, Heard: true}
	if found := Unheard(nodes(), []Dropped{heard}, true); found != nil {
		t.Errorf("somebody from afar in the name of a peer that is heard: %+v", found)
	}
	group := Dropped{Path: "eth0 224.0.0.18", Peer: netip.MustParseAddr("224.0.0.18"), Packet: vrrp.DropTTL, Lately: 3}
	found := Unheard(nodes(), []Dropped{group}, true)
	if diff := cmp.Diff(refused, summary(found)); diff != "" {
		t.Errorf("on a group (-want +got)\n%s", diff)
	}
	saysAll(t, found, []string{"another TTL than 255", "(eth0 224.0.0.18)", "fix: tcpdump"})
	for _, tt := range []struct {
		reason vrrp.DropReason
		want   []string
		says   string
	}{
		{vrrp.DropTTL, refused, "fix: ip route get 10.77.0.12"},
		{vrrp.DropOwn, []string{"warning heartbeat_refused primary"}, "from this node's own address come back (10.77.0.11-10.77.0.12)"},
		{vrrp.DropOverflow, []string{"warning heartbeat_refused primary"}, "than the daemon has time to read"},
		{vrrp.DropSource, nil, ""},
		{vrrp.DropUnknownVRID, nil, ""},
		{vrrp.DropLength, nil, ""},
	} {
		t.Run("socket "+tt.reason.String(), func(t *testing.T) {
			found := Unheard(nodes(), []Dropped{{Path: "10.77.0.11-10.77.0.12", Peer: netip.MustParseAddr("10.77.0.12"), Packet: tt.reason, Lately: 3}}, true)
			if diff := cmp.Diff(tt.want, summary(found)); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			saysAll(t, found, []string{tt.says})
		})
	}
}
