package failover

import (
	"testing"
	"time"

	"github.com/tanist-ha/tanist/hooks"
)

func TestAJournalThatCannotBeWritten(t *testing.T) {
	const minute = time.Minute
	handover := func(t *testing.T, q Request) (r *rig, id HandoverID) {
		t.Helper()
		r = activeRig(t, nil)
		r.says(PeerState{State: Backup, Bids: true})
		r.after(time.Millisecond, JournalChanged{Err: errTest})
		r.after(time.Millisecond, SwitchoverWanted{Command: 1, Request: q})
		if r.o.give != nil {
			id = r.o.give.id
		}
		return r, id
	}
	for name, q := range map[string]Request{
		"a switchover is refused": {Timeout: minute},
		"and a dry run says so":   {Timeout: minute, DryRun: true},
	} {
		t.Run(name, func(t *testing.T) {
			r, _ := handover(t, q)
			if a := need[Answer](r); a.Outcome != RefusedTo || a.Why.Reason != JournalFailed || a.Why.Detail != "primary: "+errTest.Error() {
				t.Errorf("%+v", a)
			}
			none[StartStep](r)
			none[Append](r)
			r.wantState(Active, PeerSilent)
		})
	}
	t.Run("one that is forced goes on", func(t *testing.T) {
		r, id := handover(t, Request{Timeout: minute, Force: true, Reason: "we know"})
		check := need[CheckSteps](r)
		r.after(time.Millisecond, Checked{ID: check.ID})
		r.takes(id, TakePrepared)
		journal := r.o.give.journal
		r.ends("close", hooks.Changed)
		r.after(time.Millisecond, Durable{ID: journal, Err: errTest})
		if r.o.give.stage != GiveFrozen {
			t.Fatalf("stage %d", r.o.give.stage)
		}
		r.takes(id, TakeAcquired)
		need[Drop](r)
	})
	t.Run("a leave goes on, though the record fails before the writes are closed", func(t *testing.T) {
		r := activeRig(t, nil)
		r.says(PeerState{State: Backup, Bids: true})
		r.after(time.Millisecond, JournalChanged{Err: errTest})
		r.after(time.Millisecond, StopWanted{})
		check := need[CheckSteps](r)
		r.after(time.Millisecond, Checked{ID: check.ID})
		id := r.o.give.id
		r.takes(id, TakePrepared)
		s := need[StartStep](r)
		r.after(time.Millisecond, Durable{ID: r.o.give.journal, Err: errTest})
		r.after(time.Millisecond, StepEnded{ID: s.Order.ID, Outcome: hooks.Changed})
		r.takes(id, TakeAcquired)
		need[Drop](r)
	})
	t.Run("a standby says so before the other node closes anything", func(t *testing.T) {
		r := newRig(t, nil)
		r.boots()
		r.after(time.Millisecond, JournalChanged{Err: errTest})
		give := Give{ID: HandoverID{Boot: 99, Seq: 1}, Stage: GivePreparing, Epoch: 2}
		r.says(PeerState{State: Active, Holds: true, Epoch: 1, ActiveEpoch: 1, Give: &give})
		if k := r.o.take.view; k.Stage != TakeRefused || k.Why.Reason != JournalFailed {
			t.Errorf("%+v", k)
		}
		r.after(time.Millisecond, JournalChanged{})
		give.ID.Seq++
		r.says(PeerState{State: Active, Holds: true, Epoch: 1, ActiveEpoch: 1, Give: &give})
		if k := r.o.take.view; k.Stage != TakePreparing {
			t.Errorf("once it can be written: %+v", k)
		}
	})
	t.Run("a takeover tries all the same: what stands may be old", func(t *testing.T) {
		r := newRig(t, nil)
		r.boots()
		r.after(time.Millisecond, JournalChanged{Err: errTest})
		r.asksSilence()
		r.journaled(nil)
		r.wantState(Promoting, PeerSilent)
	})
	t.Run("a record that nobody answers for is taken back", func(t *testing.T) {
		r := newRig(t, nil)
		r.boots()
		r.asksSilence()
		began := need[Append](r).Record
		r.after(measurePatience, Tick{})
		r.wantState(Refused, JournalFailed)
		reverted := need[Append](r).Record
		if reverted.Kind != hooks.Reverted || reverted.Epoch != began.Epoch {
			t.Errorf("%+v after %+v", reverted, began)
		}
		if m := (hooks.Memory{}).Fold(began).Fold(reverted); m.ActiveEpoch != 0 || m.Role != hooks.Standby {
			t.Errorf("after a restart: %+v", m)
		}
	})
}
