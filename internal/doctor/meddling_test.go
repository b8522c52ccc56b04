package doctor

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tanist-ha/tanist/internal/peer"
)

// Every reason of the peer link means something to a diagnosis, or deliberately nothing.
func TestReasonsMean(t *testing.T) {
	want := map[meaning][]string{
		misfit:  {"version", "no_key_here", "no_key_there", "wrong_key", "label"},
		meddled: {"protocol", "forged", "identity", "tls", "malformed"},
		nothing: {"stranger", "crowded", "slow", "unfinished", "dropped"},
	}
	got := map[meaning][]string{}
	for _, r := range peer.Reasons() {
		got[meaningOf(r)] = append(got[meaningOf(r)], r.String())
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestMeddling(t *testing.T) {
	after := func(r Refusal, change func(*Refusal)) Refusal {
		change(&r)
		return r
	}
	over := func(r *Refusal) { r.Stands = true }
	old := func(r *Refusal) { r.Last = 11 * time.Second }
	altered := []string{"problem link_altered primary"}
	for _, tt := range []struct {
		name     string
		refusals []Refusal
		want     []string
		says     []string
	}{
		{name: "nothing"},
		{
			name: "forged", refusals: []Refusal{refused(1, peer.ReasonForged)}, want: altered,
			says: []string{
				"primary and reserve have the same cluster key, and their proofs do not fit the connection", "10.77.1.12: refused as forged 14 times in 1m20s, last 400ms ago: words",
				"translated between the nodes (NAT)", "fix: tcpdump -ni any 'tcp port 7511'", "iptables-save -t nat",
			},
		},
		{
			name: "another certificate", refusals: []Refusal{refused(0, peer.ReasonIdentity)}, want: altered,
			says: []string{"in the place of reserve has no certificate of its cluster key", "somebody is between the nodes"},
		},
		{
			name: "records altered on both paths", refusals: []Refusal{refused(0, peer.ReasonTLS), refused(1, peer.ReasonTLS)}, want: altered,
			says: []string{"arrives altered or cut", "10.77.0.12: refused as tls", "10.77.1.12: refused as tls", "inspects or opens TLS"},
		},
		{
			name: "something else at the port", refusals: []Refusal{refused(0, peer.ReasonProtocol)}, want: []string{"problem port_taken primary"},
			says: []string{"what speaks at TCP port 7511 between primary and reserve is not Tanist", "ssh reserve ss -ltnp 'sport = :7511'"},
		},
		{
			name: "messages that are none", refusals: []Refusal{refused(0, peer.ReasonMalformed)}, want: []string{"problem version_differs primary"},
			says: []string{"reserve sends over the peer link what primary cannot read", "fix: tanist version"},
		},
		{name: "some time ago", refusals: []Refusal{after(refused(0, peer.ReasonForged), old)}},
		{
			name: "a connection stands", refusals: []Refusal{after(refused(0, peer.ReasonForged), over), after(refused(1, peer.ReasonTLS), over)},
			want: []string{"warning link_altered primary"}, says: []string{"somebody pretends to be reserve", "the link to 10.77.0.12 stands", "host 10.77.0.12'"},
		},
		{name: "a connection stands since", refusals: []Refusal{after(after(refused(0, peer.ReasonIdentity), over), old)}},
		{
			name: "what is over gives way to what is now", refusals: []Refusal{refused(0, peer.ReasonWrongKey), after(refused(0, peer.ReasonForged), func(r *Refusal) { r.Last = 5 * time.Second })},
		},
		{name: "two keys, which Proofs says", refusals: []Refusal{refused(0, peer.ReasonWrongKey)}},
		{
			name: "strangers, floods and ends", refusals: []Refusal{
				refused(0, peer.ReasonStranger), refused(0, peer.ReasonCrowded), refused(0, peer.ReasonSlow), refused(1, peer.ReasonUnfinished), refused(1, peer.ReasonDropped),
			},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			found := Meddling(nodes(), tt.refusals, 7511)
			if diff := cmp.Diff(tt.want, summary(found)); diff != "" {
				t.Fatalf("(-want +got)\n%s", diff)
			}
			saysAll(t, found, tt.says)
		})
	}
}

// saysAll wants each text in what is printed of the findings.
func saysAll(t *testing.T, found []Finding, says []string) {
	t.Helper()
	var text strings.Builder
	if err := NewReport(nodes(), []string{"primary"}, found).Print(&text, Style{}); err != nil {
		t.Fatal(err)
	}
	for _, want := range says {
		if !strings.Contains(text.String(), want) {
			t.Errorf("no word of %q:\n%s", want, text.String())
		}
	}
}
