package doctor

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tanist-ha/tanist/internal/peer"
)

// refused is a refusal of a moment ago, on the first or the second path.
func refused(path byte, reason peer.Reason) Refusal {
	return Refusal{
		Peer: netip.AddrFrom4([4]byte{10, 77, path, 12}), Reason: reason, Count: 14,
		Since: 80 * time.Second, Last: 400 * time.Millisecond, Said: "refused: words",
	}
}

func TestProofs(t *testing.T) {
	running := Running{Version: "0.6.0", File: "/etc/tanist/tanist.yaml", KeyFile: "/etc/tanist/pair.key", Keys: []string{"1a2b3c4d"}}
	after := func(r Refusal, change func(*Refusal)) Refusal {
		change(&r)
		return r
	}
	over := func(r *Refusal) { r.Stands = true }
	old := func(r *Refusal) { r.Last = 11 * time.Second }
	wrongKey := []string{"problem wrong_key primary"}
	sealed := Doubt{Instance: "compass", Reason: "auth_key", Before: 4, After: 12}
	dropped := "instance compass: 12 advertisements dropped as auth_key, 8 of them in the last moments"
	for _, tt := range []struct {
		name     string
		doubt    Doubt
		refusals []Refusal
		want     []string
		says     []string // each once in the text
	}{
		{name: "nothing", doubt: Doubt{Reason: "auth_key"}},
		{name: "sealed with a key that is not here", doubt: sealed, want: wrongKey, says: []string{"reserve does not have the cluster key of primary", dropped}},
		{name: "a stranger beside the peer, who is heard", doubt: Doubt{Reason: "auth_key", Before: 4, After: 12, Heard: true}},
		{name: "forged once, long ago", doubt: Doubt{Reason: "auth_tag", Before: 4, After: 4}},
		{name: "replayed", doubt: Doubt{Reason: "auth_replay", Before: 4, After: 12}},

		{
			name: "another key, and no advertisement from a standby", refusals: []Refusal{refused(0, peer.ReasonWrongKey), refused(1, peer.ReasonWrongKey)}, want: wrongKey,
			says: []string{
				"reserve does not have the cluster key of primary",
				"10.77.0.12: refused as wrong_key 14 times in 1m20s, last 400ms ago", "10.77.1.12: refused as wrong_key 14 times",
				"the key here is 1a2b3c4d", "scp -p /etc/tanist/pair.key reserve:/etc/tanist/pair.key && ssh reserve systemctl reload tanist", "mode 0600",
			},
		},
		{name: "once", refusals: []Refusal{after(refused(0, peer.ReasonWrongKey), func(r *Refusal) { r.Count = 1 })}, want: wrongKey, says: []string{"10.77.0.12: refused as wrong_key 400ms ago"}},
		{name: "the same by both is said once", doubt: sealed, refusals: []Refusal{refused(0, peer.ReasonWrongKey)}, want: wrongKey, says: []string{dropped, "10.77.0.12: refused as wrong_key"}},
		{name: "a connection stands on the path", refusals: []Refusal{after(refused(0, peer.ReasonWrongKey), over)}},
		{
			name: "on one path of two", refusals: []Refusal{after(refused(0, peer.ReasonWrongKey), over), refused(1, peer.ReasonWrongKey)}, want: wrongKey,
			says: []string{"10.77.1.12: refused as wrong_key"},
		},
		{name: "of some time ago", refusals: []Refusal{after(refused(0, peer.ReasonWrongKey), old)}},
		{
			name: "what is over gives way to what is now", want: wrongKey, says: []string{"primary has a cluster key, reserve has none"},
			refusals: []Refusal{refused(0, peer.ReasonNoKeyThere), after(refused(0, peer.ReasonWrongKey), func(r *Refusal) { r.Last = 5 * time.Second })},
		},
		{
			name: "no key here", doubt: sealed, refusals: []Refusal{refused(0, peer.ReasonNoKeyHere)}, want: wrongKey,
			says: []string{
				"reserve has a cluster key, primary has none", "refused as no_key_here", dropped,
				"scp -p reserve:/etc/tanist/cluster.key /etc/tanist/cluster.key", "# key_file: /etc/tanist/cluster.key   in /etc/tanist/tanist.yaml",
			},
		},
		{
			name: "no key there", doubt: Doubt{Instance: "compass", Reason: "auth_missing", After: 3}, refusals: []Refusal{refused(0, peer.ReasonNoKeyThere)}, want: wrongKey,
			says: []string{"primary has a cluster key, reserve has none", "dropped as auth_missing", "# on reserve: key_file: /etc/tanist/pair.key", "ssh reserve 'tanist check && systemctl reload tanist'"},
		},
		{
			name: "releases too far apart", refusals: []Refusal{refused(0, peer.ReasonVersion)}, want: []string{"problem version_differs primary"},
			says: []string{"no version of the peer link in common", "refused as version 14 times in 1m20s, last 400ms ago: words", "primary runs tanist 0.6.0", "fix: ssh reserve tanist version"},
		},
		{
			name: "other nodes", refusals: []Refusal{refused(0, peer.ReasonLabel)}, want: []string{"problem configuration_differs primary"},
			says: []string{"name other nodes or paths", "last 400ms ago: words", "fix: ssh reserve cat /etc/tanist/tanist.yaml | diff /etc/tanist/tanist.yaml -"},
		},
		{
			name: "another key, and another node on the second path", doubt: sealed, refusals: []Refusal{refused(0, peer.ReasonWrongKey), refused(1, peer.ReasonLabel)},
			want: []string{"problem wrong_key primary", "problem configuration_differs primary"}, says: []string{dropped},
		},
		{name: "strangers and floods", refusals: []Refusal{refused(0, peer.ReasonStranger), refused(0, peer.ReasonCrowded), refused(1, peer.ReasonUnfinished), refused(1, peer.ReasonForged)}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			found := Proofs(nodes(), []Doubt{tt.doubt}, tt.refusals, running)
			if diff := cmp.Diff(tt.want, summary(found)); diff != "" {
				t.Fatalf("(-want +got)\n%s", diff)
			}
			var text strings.Builder
			if err := NewReport(nodes(), []string{"primary"}, found).Print(&text, Style{}); err != nil {
				t.Fatal(err)
			}
			for _, want := range tt.says {
				if n := strings.Count(text.String(), want); n != 1 {
					t.Errorf("%d times %q:\n%s", n, want, text.String())
				}
			}
		})
	}
}
