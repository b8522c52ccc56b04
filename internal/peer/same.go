package peer

// What a node says of an instance changes seldom and is said ten times a second.
// Telling that it is the same costs less than encoding it.

import (
	"slices"

	"github.com/tanist-ha/tanist/internal/failover"
)

// sameState reports whether two states differ in nothing but Seq, Stamp and Echo.
func sameState(a, b *failover.PeerState) bool {
	return a.Boot == b.Boot && a.State == b.State && a.Epoch == b.Epoch && a.ActiveEpoch == b.ActiveEpoch &&
		a.Holds == b.Holds && a.Bids == b.Bids && a.Hears == b.Hears && a.Sources == b.Sources &&
		a.HearsHeartbeat == b.HearsHeartbeat && a.HearsLink == b.HearsLink && a.Wrote == b.Wrote &&
		sameWhy(a.Why, b.Why) && slices.Equal(a.Gate, b.Gate) && samePositions(a.Positions, b.Positions) &&
		slices.Equal(a.Stopped, b.Stopped) && slices.Equal(a.Steps, b.Steps) &&
		slices.Equal(a.Drift, b.Drift) && slices.Equal(a.Labels, b.Labels) &&
		sameGive(a.Give, b.Give) && sameTake(a.Take, b.Take) && sameWish(a.Wish, b.Wish) && sameGrant(a.Granted, b.Granted) &&
		sameMaintenance(a.Maintenance, b.Maintenance)
}

func sameWhy(a, b failover.Why) bool {
	return a.Reason == b.Reason && a.Check == b.Check && a.Detail == b.Detail && slices.Equal(a.Gate, b.Gate)
}

func samePositions(a, b []failover.Position) bool {
	return slices.EqualFunc(a, b, func(a, b failover.Position) bool {
		return a.Database == b.Database && a.Executed.Equal(b.Executed) && a.SemiSync == b.SemiSync && a.Beat == b.Beat &&
			a.Binlog.Equal(b.Binlog) && a.Applied.Equal(b.Applied)
	})
}

func sameGive(a, b *failover.Give) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.ID == b.ID && a.Stage == b.Stage && a.Epoch == b.Epoch && a.DryRun == b.DryRun && a.Force == b.Force &&
		a.Cause == b.Cause && samePositions(a.Positions, b.Positions) && slices.Equal(a.Lost, b.Lost)
}

func sameTake(a, b *failover.Take) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.ID == b.ID && a.Stage == b.Stage && a.OK == b.OK && a.Left == b.Left && sameWhy(a.Why, b.Why)
}

func sameWish(a, b *failover.Wish) bool {
	if a == nil || b == nil {
		return a == b
	}
	return *a == *b
}

func sameGrant(a, b *failover.Grant) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.ID == b.ID && a.Outcome == b.Outcome && sameWhy(a.Why, b.Why)
}

// keep returns a state that shares nothing with s that its owner may change.
func keep(s *failover.PeerState) failover.PeerState {
	k := *s
	k.Why = keepWhy(s.Why)
	k.Gate, k.Positions = slices.Clone(s.Gate), slices.Clone(s.Positions)
	k.Stopped, k.Steps = slices.Clone(s.Stopped), slices.Clone(s.Steps)
	k.Drift, k.Labels = slices.Clone(s.Drift), slices.Clone(s.Labels)
	k.Maintenance = keepMaintenance(s.Maintenance)
	if s.Give != nil {
		g := *s.Give
		g.Positions, g.Lost = slices.Clone(g.Positions), slices.Clone(g.Lost)
		k.Give = &g
	}
	if s.Take != nil {
		t := *s.Take
		t.Why = keepWhy(t.Why)
		k.Take = &t
	}
	if s.Wish != nil {
		w := *s.Wish
		k.Wish = &w
	}
	if s.Granted != nil {
		g := *s.Granted
		g.Why = keepWhy(g.Why)
		k.Granted = &g
	}
	return k
}

func keepWhy(w failover.Why) failover.Why {
	w.Gate = slices.Clone(w.Gate)
	return w
}
