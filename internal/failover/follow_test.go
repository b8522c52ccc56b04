package failover

import (
	"testing"

	"github.com/tanist-ha/tanist/hooks"
)

// A node that lets go and does not know who is Active next has nobody to follow.
func TestFollowWaitsForAnActive(t *testing.T) {
	plan := append(hooks.DefaultDemote(),
		hooks.Step{Name: "follow", Action: hooks.Replication{Verb: hooks.FollowPeer}},
		hooks.Step{Name: "stop", Action: hooks.Replication{Verb: hooks.StopReplication}})
	var names []string
	for _, s := range newRig(t, nil).o.undecided(plan) {
		names = append(names, s.Name)
	}
	if len(names) != 3 || names[2] != "stop" {
		t.Errorf("runs %q", names)
	}
}
