package control

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tanist-ha/tanist/internal/failover"
	"github.com/tanist-ha/tanist/internal/mono"
)

func TestHearing(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	const second = mono.Instant(time.Second)
	for _, tt := range []struct {
		name   string
		status failover.Status
		want   string
	}{
		{"nothing is wrong and nobody is asked", failover.Status{}, `{"isolation":{"policy":"hold","isolated":false}}`},
		{
			"a witness that was not asked yet",
			failover.Status{Witness: &failover.Witnessing{Kind: "gateway"}},
			`{"witness":{"kind":"gateway","ok":null,"age_ms":null},"isolation":{"policy":"hold","isolated":false}}`,
		},
		{
			"a witness that cannot be asked",
			failover.Status{Witness: &failover.Witnessing{Kind: "gateway", Known: true, Age: time.Second, Detail: "no such device"}},
			`{"witness":{"kind":"gateway","ok":null,"age_ms":1000,"detail":"no such device"},"isolation":{"policy":"hold","isolated":false}}`,
		},
		{
			"isolated",
			failover.Status{
				Now:       100 * second,
				Isolation: failover.Isolation{Policy: failover.ReleaseIsolated, Isolated: true, Since: 95 * second},
				Witness:   &failover.Witnessing{Kind: "gateway", Known: true, Verdict: failover.VerdictNo, Age: 200 * time.Millisecond, Detail: "silent"},
			},
			`{"witness":{"kind":"gateway","ok":false,"age_ms":200,"detail":"silent"},
			  "isolation":{"policy":"release","isolated":true,"since":"2026-01-02T03:04:00Z"}}`,
		},
		{
			"one way",
			failover.Status{Now: 100 * second, OneWay: []failover.OneWay{
				{Sign: failover.HeartbeatSign, Direction: failover.ToPeer, Since: 98 * second},
				{Sign: failover.LinkSign, Direction: failover.FromPeer, Since: 40 * second},
			}},
			`{"one_way":[{"witness":"heartbeat","direction":"to_peer","since":"2026-01-02T03:04:03Z"},
			  {"witness":"link","direction":"from_peer","since":"2026-01-02T03:03:05Z"}],"isolation":{"policy":"hold","isolated":false}}`,
		},
		{
			"conflict",
			failover.Status{Wrote: failover.WroteYes, Divergence: []failover.Divergence{
				{Database: "pivot", Transactions: "0-1-101..103", Count: 3, Exact: true}, {Database: "team", Transactions: "0-1-9", Count: 1},
			}},
			`{"divergence":[{"database":"pivot","transactions":"0-1-101..103","count":3},
			  {"database":"team","transactions":"0-1-9","count":1,"estimate":true}],"wrote":"yes","isolation":{"policy":"hold","isolated":false}}`,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var in Instance
			in.hear(now, tt.status)
			var got, want map[string]any
			text, err := json.Marshal(in)
			if err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal(text, &got); err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal([]byte(tt.want), &want); err != nil {
				t.Fatal(err)
			}
			for key := range got {
				switch key {
				case "one_way", "divergence", "wrote", "witness", "isolation":
				default:
					delete(got, key)
				}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestVerdictInConflict: a standby whose databases differ is a standby; one that nobody
// can tell is not.
func TestVerdictInConflict(t *testing.T) {
	for _, tt := range []struct {
		reason failover.Reason
		want   Word
	}{{failover.Diverged, WordStandby}, {failover.AddressAnswers, WordUnknown}} {
		if got := Judge(Instance{State: "conflict", Reason: tt.reason.String(), VIPs: []VIP{{}}}); got.Word != tt.want {
			t.Errorf("%s: %s", tt.reason, got.Word)
		}
	}
	if got := Judge(Instance{State: "conflict", Reason: failover.Diverged.String(), VIPs: []VIP{{Held: true}}}); got.Word != WordUnknown {
		t.Errorf("with the address: %s", got.Word)
	}
}
