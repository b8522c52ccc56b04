package hooks

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestFoldOfDifferences: a standby knows over a restart what only its databases have,
// until they are alike again, or it is the Active.
func TestFoldOfDifferences(t *testing.T) {
	diverged := func(name string, n uint64) Record {
		return Record{Kind: Diverged, Epoch: 5, Role: Standby, Loss: Loss{Database: name, Proved: n, ProvedKnown: true}}
	}
	began := Record{Kind: Began, Epoch: 6, Role: Active}
	for name, tt := range map[string]struct {
		records []Record
		want    []Loss
	}{
		"none":        {nil, nil},
		"two, sorted": {[]Record{diverged("team", 1), diverged("pivot", 2)}, []Loss{diverged("pivot", 2).Loss, diverged("team", 1).Loss}},
		"the latest":  {[]Record{diverged("pivot", 1), diverged("pivot", 2)}, []Loss{diverged("pivot", 2).Loss}},
		"one is alike again": {
			[]Record{diverged("team", 1), diverged("pivot", 2), {Kind: Reconciled, Epoch: 5, Loss: Loss{Database: "team"}}}, []Loss{diverged("pivot", 2).Loss},
		},
		"the same was there before": {[]Record{{Kind: Reconciled, Loss: Loss{Database: "pivot"}}}, nil},
		"promoted since":            {[]Record{diverged("pivot", 1), began}, nil},
		"promoted, and taken back":  {[]Record{diverged("pivot", 1), began, {Kind: Reverted, Epoch: 6}}, []Loss{diverged("pivot", 1).Loss}},
		"a switchover that may not have come about": {
			[]Record{diverged("pivot", 1), {Kind: Began, Epoch: 6, Role: Active, Planned: true}}, []Loss{diverged("pivot", 1).Loss},
		},
		"a switchover that did": {
			[]Record{diverged("pivot", 1), {Kind: Began, Epoch: 6, Role: Active, Planned: true}, {Kind: Acquired, Epoch: 6}}, nil,
		},
	} {
		var m Memory
		for _, r := range tt.records {
			before := m.Differs()
			next := m.Fold(r)
			if diff := cmp.Diff(before, m.Differs()); diff != "" {
				t.Errorf("%s: what was folded before is changed:\n%s", name, diff)
			}
			m = next
		}
		if diff := cmp.Diff(tt.want, m.Differs()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}
