package peer

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/internal/failover"
	"github.com/tanist-ha/tanist/internal/words"
	"github.com/tanist-ha/tanist/replication"
)

// TestWordsOfTheCore holds that every value travels under the word that status, log
// and journal have for it, and is read back.
func TestWordsOfTheCore(t *testing.T) {
	many := 0
	for v := range uint8(words.Unknown) {
		for _, e := range []struct {
			value fmt.Stringer
			state failover.PeerState
			at    func(message) string
			back  func(failover.PeerState) uint8
		}{
			{
				failover.Reason(v),
				failover.PeerState{Why: failover.Why{Reason: failover.Reason(v)}},
				func(m message) string { return m.Why.Reason }, func(s failover.PeerState) uint8 { return uint8(s.Why.Reason) },
			},
			{
				failover.State(v),
				failover.PeerState{State: failover.State(v)},
				func(m message) string { return m.State }, func(s failover.PeerState) uint8 { return uint8(s.State) },
			},
			{
				replication.Code(v),
				failover.PeerState{Gate: []replication.Reason{{Code: replication.Code(v)}}},
				func(m message) string { return m.Gate[0].Code }, func(s failover.PeerState) uint8 { return uint8(s.Gate[0].Code) },
			},
			{
				hooks.Outcome(v),
				failover.PeerState{Steps: []hooks.Result{{Outcome: hooks.Outcome(v)}}},
				func(m message) string { return m.Steps[0].Outcome }, func(s failover.PeerState) uint8 { return uint8(s.Steps[0].Outcome) },
			},
			{
				failover.Repair(v),
				failover.PeerState{Drift: []failover.Drift{{Repair: failover.Repair(v)}}},
				func(m message) string { return m.Drift[0].Repair }, func(s failover.PeerState) uint8 { return uint8(s.Drift[0].Repair) },
			},
			{
				failover.Outcome(v),
				failover.PeerState{Granted: &failover.Grant{Outcome: failover.Outcome(v)}},
				func(m message) string { return m.Granted.Outcome }, func(s failover.PeerState) uint8 { return uint8(s.Granted.Outcome) },
			},
		} {
			word := e.value.String()
			if word == "" || strings.HasSuffix(word, ")") {
				continue // no such value
			}
			many++
			content, err := encode("compass", e.state)
			if err != nil {
				t.Fatal(err)
			}
			var m message
			if err := json.Unmarshal(content, &m); err != nil {
				t.Fatal(err)
			}
			if got := e.at(m); got != word {
				t.Errorf("%T %s travels as %q", e.value, word, got)
			}
			if _, s, err := decode(content); err != nil || e.back(s) != v {
				t.Errorf("%T %s comes back as %+v, %v", e.value, word, s, err)
			}
		}
	}
	if many < 60 {
		t.Errorf("%d values", many)
	}
}
