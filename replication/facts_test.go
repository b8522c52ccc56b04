package replication

import "testing"

func TestFactsFlavor(t *testing.T) {
	empty := Known(Position{})
	for name, tc := range map[string]struct {
		facts Facts
		want  Flavor
	}{
		"nothing read":            {Facts{}, FlavorNone},
		"MariaDB position":        {Facts{Executed: Known(position("0-1-1"))}, FlavorMariaDB},
		"MariaDB, only applied":   {Facts{Executed: empty, Applied: Known(position("0-1-1"))}, FlavorMariaDB},
		"MariaDB, new":            {Facts{Executed: empty, Applied: empty, BinlogState: Known(BinlogState{})}, FlavorMariaDB},
		"MySQL position":          {Facts{Executed: Known(position(uuidA + ":1"))}, FlavorMySQL},
		"MySQL, new, by its mode": {Facts{Executed: empty, Applied: empty, GTIDMode: Known(false)}, FlavorMySQL},
		"MySQL, new, by its UUID": {Facts{Executed: empty, Applied: empty, ServerUUID: Known(uuidA)}, FlavorMySQL},
		"no UUID is not read":     {Facts{Executed: empty, ServerUUID: Null[string](), GTIDMode: Unknown[bool]()}, FlavorNone},
	} {
		if got := tc.facts.Flavor(); got != tc.want {
			t.Errorf("%s: %s, want %s", name, got, tc.want)
		}
	}
}
