package failover

import (
	"testing"
	"time"

	"github.com/tanist-ha/tanist/hooks"
)

// TestLeaveBehindALongLease: a daemon that is told to leave while it takes a handover back
// waits for what the new node's kernel may have, which under maintenance is long.
func TestLeaveBehindALongLease(t *testing.T) {
	for name, maintained := range map[string]bool{"under maintenance": true, "as configured": false} {
		t.Run(name, func(t *testing.T) {
			r := activeRig(t, nil)
			var m *Maintenance
			if maintained {
				r.maintains(HoldRequest{})
				m = &Maintenance{Version: 1, By: "primary", On: true, Lease: MaintenanceLease}
			}
			says := func(stage TakeStage) {
				s := standby(m)
				s.Stopped = []string{unit}
				if r.o.give != nil {
					s.Take = &Take{ID: r.o.give.id, Stage: stage}
				}
				r.says(s)
			}
			says(0)
			r.step(SwitchoverWanted{Command: 9, Request: Request{To: "reserve", Timeout: 10 * time.Second, Force: true, Reason: "now"}})
			r.after(time.Millisecond, Checked{ID: need[CheckSteps](r).ID})
			says(TakePrepared)
			journal := r.o.give.journal
			r.ends("close", hooks.Changed)
			r.after(time.Millisecond, Durable{ID: journal})
			if r.o.give.stage != GiveFrozen {
				t.Fatalf("stage %d", r.o.give.stage)
			}
			most := r.o.LeaveTime()
			r.step(StopWanted{})
			left := time.Duration(0)
			for began := r.now; left == 0 && r.now.Sub(began) < 10*time.Minute; {
				// Its host lives, and nothing on the network of the address says more.
				if all := r.lives(100*time.Millisecond, around{kernel: Asked{Host: true}}); count[Stopped](all) > 0 {
					left = r.now.Sub(began)
				}
			}
			if left == 0 || left > most {
				t.Errorf("left after %s, the bound is %s", left, most)
			}
			if usual := LeaveTime(r.o.cfg); maintained != (left > usual) || maintained != (most > usual) {
				t.Errorf("left after %s, the bound is %s, that of the configuration alone %s", left, most, usual)
			}
		})
	}
}
