package failover

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/replication"
)

// A round that does not come back, given up because the role changed, leaves the new
// role blind as well. That is told of, from its cancelling on.
func TestChecksThatHangOverAChange(t *testing.T) {
	r := settledRig(t, nil)
	c, ok := until[CheckSteps](r, 2*checkEvery, activePeer(3))
	if !ok {
		t.Fatal("no round of checks")
	}
	settles := func(e Effect) Event {
		switch e := e.(type) {
		case CheckSteps:
			t.Error("a second round")
		case StartStep:
			return StepEnded{ID: e.Order.ID, Outcome: hooks.Unchanged}
		default:
		}
		return nil
	}
	r.pump(3*checkEach, activePeer(3), nil, settles)
	r.pump(checkEach/2, activePeer(4), nil, settles)
	if r.o.settled != 4 {
		t.Fatalf("settled for epoch %d", r.o.settled)
	}
	if len(r.o.drift.strays) > 0 {
		t.Error("told of before its end can have come")
	}
	r.pump(time.Minute, activePeer(4), nil, settles)
	r.wantDrift("unit report", "label report", "mount report")
	r.checks(c, nil)
	for range 2 {
		r.round(2*checkEvery, activePeer(4), nil)
	}
	r.wantDrift()
}

// A database that does not answer is not as it should be again.
func TestDriftOfADatabaseThatIsGone(t *testing.T) {
	r := sourceRig(t, "pivot", "team")
	r.o.cfg.Promote = append(hooks.Plan{}, testPromote...)
	r.o.cfg.Promote[1].Drift = hooks.ReportDrift
	pivot := r.source("pivot", "0-1-1")
	var told []hooks.RecordKind
	look := func() {
		r.pump(4*checkEvery, PeerState{State: Backup, Hears: true, Sources: AllReplicas, Stopped: []string{unit}},
			func() []replication.Facts {
				facts := []replication.Facts{pivot, r.source("team", "0-1-1")}
				for i := range facts {
					facts[i].MeasuredAt = r.now
				}
				return facts
			},
			func(e Effect) Event {
				told = append(told, driftTellings([]Effect{e})...)
				if c, ok := e.(CheckSteps); ok {
					return found(c, nil)
				}
				return nil
			})
	}
	pivot.ReadOnly = replication.Known(true)
	look()
	r.wantDrift("open report")
	pivot = r.down("pivot", replication.ReachRefused)
	look()
	r.wantDrift("open report")
	if diff := cmp.Diff([]hooks.RecordKind{hooks.Strayed}, told); diff != "" {
		t.Errorf("journaled (-want +got):\n%s", diff)
	}
	pivot = r.source("pivot", "0-1-1")
	look()
	r.wantDrift()
	if diff := cmp.Diff([]hooks.RecordKind{hooks.Strayed, hooks.Mended}, told); diff != "" {
		t.Errorf("journaled (-want +got):\n%s", diff)
	}
}
