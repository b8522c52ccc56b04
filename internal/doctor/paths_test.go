package doctor

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func nodes() [2]string { return [2]string{"primary", "reserve"} }

// ends are both ends of a path on which everything works.
func ends() (here, there Sight) {
	ms, us := int64(120), int64(240)
	a, b := netip.MustParseAddr("10.77.1.11"), netip.MustParseAddr("10.77.1.12")
	clear := Ruling{Certain: true, Tool: "nft"}
	here = Sight{
		Local: a, Peer: b, Port: 7511, Interface: "eth1", Link: "up", HeardMS: &ms, PatienceMS: 1750, Sent: 3, Heard: 3,
		TCP: Connected, EchoUS: &us, OnLink: true, Hardware: []string{"02:00:00:77:01:0c"},
		In112: clear, Out112: clear, InTCP: clear, OutTCP: clear,
	}
	there = here
	there.Local, there.Peer, there.Hardware = b, a, []string{"02:00:00:77:01:0b"}
	return here, there
}

func dropping() Ruling {
	return Ruling{Drops: true, Certain: true, Tool: "nft", Rule: "meta l4proto 112 drop (table inet t, chain in, handle 2)", Chain: "inet t in", Family: "inet"}
}

// summary is what of findings is compared: all but those that are fine.
func summary(found []Finding) []string {
	var all []string
	for _, f := range found {
		if f.Severity != OK {
			all = append(all, f.Severity.String()+" "+string(f.Code)+" "+f.Node)
		}
	}
	return all
}

func TestPaths(t *testing.T) {
	silent := int64(32000)
	active, standby := Peer{Lives: true, Advertises: true}, Peer{Lives: true}
	for _, tt := range []struct {
		name   string
		change func(here, there *Sight)
		alone  bool // the peer cannot be asked
		peer   Peer
		want   []string
		fix    string // in the fix of the first problem
	}{
		{name: "all is well", change: func(_, _ *Sight) {}},
		{name: "all is well, as far as one end sees", change: func(_, _ *Sight) {}, alone: true, peer: active},
		{
			name:   "one way lost, the receiver drops",
			change: func(_, there *Sight) { there.Heard, there.In112 = 0, dropping() },
			want:   []string{"problem proto112_blocked reserve"}, fix: "nft insert rule inet t in ip saddr 10.77.1.11 meta l4proto 112 accept",
		},
		{
			name:   "one way lost, the sender drops",
			change: func(here, there *Sight) { there.Heard, here.Out112 = 0, dropping() },
			want:   []string{"problem proto112_blocked primary"}, fix: "nft insert rule inet t in ip daddr 10.77.1.12 meta l4proto 112 accept",
		},
		{
			name:   "one way lost, neither end drops",
			change: func(here, _ *Sight) { here.Heard = 0 },
			want:   []string{"problem proto112_blocked primary"}, fix: "tcpdump -ni eth1 'ip proto 112 and host 10.77.1.12'",
		},
		{
			name:   "a rule that could drop, and does not",
			change: func(here, _ *Sight) { here.In112 = dropping() },
		},
		{
			name:   "some lost",
			change: func(here, _ *Sight) { here.Heard = 2 },
			want:   []string{"warning proto112_lossy primary"}, fix: "ip -s link show eth1",
		},
		{
			name:   "sealed with another key, they got through",
			change: func(here, _ *Sight) { here.Heard, here.Unproved = 0, 3 },
		},
		{
			name:   "the peer cannot be asked and is not heard on this path",
			change: func(here, _ *Sight) { here.HeardMS = &silent }, alone: true, peer: active,
			want: []string{"problem proto112_blocked primary"}, fix: "tcpdump -ni eth1",
		},
		{
			name: "the peer cannot be asked and is a standby", alone: true, peer: standby,
			change: func(here, _ *Sight) { here.HeardMS = nil },
		},
		{
			name: "the peer cannot be asked, is a standby, and would not be heard", alone: true, peer: standby,
			change: func(here, _ *Sight) { here.HeardMS, here.In112 = nil, dropping() },
			want:   []string{"problem proto112_blocked primary"}, fix: "nft insert rule inet t in ip saddr 10.77.1.12",
		},
		{
			name: "lost where no instance advertises", change: func(here, there *Sight) {
				here.Unused, here.Heard, there.Heard, here.In112, there.In112 = true, 0, 0, dropping(), dropping()
			},
		},
		{
			name: "dropped where no instance advertises, the peer cannot be asked", alone: true, peer: active,
			change: func(here, _ *Sight) {
				here.Unused, here.HeardMS, here.PatienceMS, here.In112 = true, nil, 0, dropping()
			},
		},
		{
			name:   "a SYN is dropped where no instance advertises",
			change: func(here, there *Sight) { here.Unused, here.TCP, there.InTCP = true, Unanswered, dropping() },
			want:   []string{"problem tcp_blocked reserve"}, fix: "tcp dport 7511 accept",
		},
		{
			name: "no daemon of the peer's lives: its silence says nothing of a path", alone: true,
			change: func(here, _ *Sight) { here.HeardMS, here.TCP = &silent, Refused },
		},
		{
			name: "a SYN is dropped", change: func(here, there *Sight) { here.TCP, there.InTCP = Unanswered, dropping() },
			want: []string{"problem tcp_blocked reserve"}, fix: "nft insert rule inet t in ip saddr 10.77.1.11 tcp dport 7511 accept",
		},
		{
			name: "a SYN is dropped somewhere, the peer cannot be asked", alone: true, peer: active,
			change: func(here, _ *Sight) { here.TCP = Unanswered },
			want:   []string{"problem tcp_blocked reserve"}, fix: "# on reserve: nft list ruleset",
		},
		{
			name: "this node drops the peer's SYN, the peer cannot be asked", alone: true, peer: active,
			change: func(here, _ *Sight) { here.InTCP = dropping() },
			want:   []string{"problem tcp_blocked primary"}, fix: "nft insert rule inet t in ip saddr 10.77.1.12 tcp dport 7511 accept",
		},
		{
			name: "refused although the daemon lives", change: func(here, _ *Sight) { here.TCP = Refused },
			want: []string{"problem tcp_blocked reserve"}, fix: "tcpdump -ni eth1 'tcp port 7511",
		},
		{
			name: "hung up on by a daemon that has no place", change: func(here, _ *Sight) { here.TCP = Reset },
		},
		{
			name: "nothing answers",
			change: func(here, there *Sight) {
				for _, s := range []*Sight{here, there} {
					s.Heard, s.HeardMS, s.TCP, s.EchoUS, s.Hardware = 0, &silent, Unanswered, nil, nil
				}
			},
			want: []string{"problem path_dead primary"}, fix: "ip -s link show eth1",
		},
		{
			name: "no interface has the address", alone: true, peer: active,
			change: func(here, _ *Sight) {
				*here = Sight{Local: here.Local, Peer: here.Peer, Port: 7511}
			},
			want: []string{"problem path_not_open primary"}, fix: "ip -brief address show",
		},
		{
			name: "two hosts have the peer's address", change: func(here, _ *Sight) { here.Hardware = append(here.Hardware, "02:00:00:00:00:99") },
			want: []string{"problem address_duplicate primary"}, fix: "# take the address away",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			here, there := ends()
			tt.change(&here, &there)
			var other []Sight
			if !tt.alone {
				other = []Sight{there}
			}
			found := Paths(nodes(), []Sight{here}, other, tt.peer)
			if diff := cmp.Diff(tt.want, summary(found)); diff != "" {
				t.Fatalf("(-want +got)\n%s", diff)
			}
			wantFix(t, found, tt.fix)
		})
	}
}
