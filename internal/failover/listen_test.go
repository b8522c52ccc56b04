package failover

import (
	"testing"
	"time"

	"github.com/tanist-ha/tanist/hooks"
)

// Only an Active with nothing going on needs no advertisement that is still in a queue.
func TestListens(t *testing.T) {
	active := func(t *testing.T) *rig {
		r := activeRig(t, nil)
		r.run(time.Second)
		return r
	}
	for name, tc := range map[string]struct {
		make func(t *testing.T) *rig
		away time.Duration
		want bool
	}{
		"before its start": {func(t *testing.T) *rig { return newRig(t, nil) }, 0, true},
		"a standby": {func(t *testing.T) *rig {
			r := newRig(t, nil)
			r.boots()
			return r
		}, 0, true},
		"a node that takes over": {func(t *testing.T) *rig {
			r := newRig(t, nil)
			r.boots()
			r.asksSilence()
			r.journaled(nil)
			return r
		}, 0, true},
		"an Active":                     {active, 0, false},
		"an Active between its timers":  {active, 3 * TellInterval / 2, false},
		"an Active whose loop was away": {active, awayTime + 1, true},
		"an Active that hands over":     {func(t *testing.T) *rig { r, _ := switchover(t, Request{Timeout: time.Minute}); return r }, 0, true},
		"an Active that could not hand over": {func(t *testing.T) *rig {
			r, id := switchover(t, Request{Timeout: time.Minute})
			r.takes(id, TakeRefused)
			return r
		}, 0, false},
		"an Active that was handed the role": {handed, 0, false},
		"an Active whose witness answers": {func(t *testing.T) *rig {
			r := active(t)
			r.o.cfg.Witness, r.o.witness.yes = "gateway", r.now.Add(-LinkPatience)
			return r
		}, 0, false},
		"an Active that hears nobody": {func(t *testing.T) *rig {
			r := active(t)
			r.o.cfg.Witness, r.o.witness.yes = "gateway", r.now.Add(-LinkPatience-1)
			return r
		}, 0, true},
		"an Active that is told to leave":   {func(t *testing.T) *rig { r := active(t); r.step(StopWanted{}); return r }, 0, true},
		"an Active whose address was taken": {func(t *testing.T) *rig { r := active(t); r.step(AddressLost{}); return r }, 0, false},
		"an Active that met a stronger one": {func(t *testing.T) *rig {
			r := active(t)
			r.proves(255, r.o.activeEpoch+1)
			return r
		}, 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			r := tc.make(t)
			if got := r.o.Listens(r.now.Add(tc.away)); got != tc.want {
				t.Errorf("%t, in state %s", got, r.o.state)
			}
		})
	}
}

// handed returns a node that has the role by a planned switchover.
func handed(t *testing.T) *rig {
	t.Helper()
	r := newRig(t, func(c *Config) { c.Promote = c.Promote[2:] })
	r.boots()
	peer := PeerState{
		State: Active, Holds: true, Epoch: 1, ActiveEpoch: 1, Sources: NoDatabases, Bids: true,
		Give: &Give{ID: HandoverID{Boot: 99, Seq: 1}, Stage: GivePreparing, Epoch: 2},
	}
	r.says(peer)
	r.after(time.Millisecond, Checked{ID: need[CheckSteps](r).ID})
	peer.Give.Stage = GiveFrozen
	r.says(peer)
	r.journaled(nil)
	r.says(peer)
	r.acquires(nil)
	peer.State, peer.Holds, peer.Stopped, peer.Give.Stage = Demoting, false, []string{unit}, GiveReleased
	r.says(peer)
	r.ends("unit", hooks.Changed)
	r.wantState(Active, Requested)
	return r
}
