package peer

// The names of enum values on the wire. They are this package's own, so that a
// value may move or print differently in the core. A name once sent keeps its
// meaning for the life of Version.

import (
	"math"

	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/internal/failover"
	"github.com/tanist-ha/tanist/replication"
)

// unknown is what a name of a newer release reads as: a value that nothing
// compares equal to and that is no success, no state with rights and no stage to
// go on from. unknownName is what it is sent as.
const (
	unknown     = math.MaxUint8
	unknownName = "?"
)

// textOf names a value. One without a name is not sent but for 0, which then
// stands for none.
func textOf[E ~uint8](names map[E]string, e E) string {
	if s, ok := names[e]; ok || e == 0 {
		return s
	}
	return unknownName
}

// valueOf reads a name.
func valueOf[E ~uint8](names map[E]string, s string) E {
	if _, ok := names[0]; s == "" && !ok {
		return 0
	}
	for e, name := range names {
		if name == s {
			return e
		}
	}
	return unknown
}

var stateNames = map[failover.State]string{
	failover.Initialize: "initialize",
	failover.Backup:     "backup",
	failover.Promoting:  "promoting",
	failover.Active:     "active",
	failover.Demoting:   "demoting",
	failover.Fault:      "fault",
	failover.Refused:    "refused",
	failover.Conflict:   "conflict",
}

var reasonNames = map[failover.Reason]string{
	failover.Starting:         "starting",
	failover.PeerActive:       "peer_active",
	failover.PeerSilent:       "peer_silent",
	failover.PeerLeft:         "peer_left",
	failover.Elected:          "elected",
	failover.Adopted:          "adopted",
	failover.Requested:        "requested",
	failover.Forced:           "forced",
	failover.Preempting:       "preempting",
	failover.Stopping:         "stopping",
	failover.HandedOver:       "handed_over",
	failover.StrongerPeer:     "stronger_peer",
	failover.NewerEpoch:       "newer_epoch",
	failover.Late:             "late",
	failover.LeaseLost:        "lease_lost",
	failover.Unhealthy:        "unhealthy",
	failover.GateClosed:       "gate_closed",
	failover.AddressAnswers:   "address_answers",
	failover.JournalFailed:    "journal_failed",
	failover.StepFailed:       "step_failed",
	failover.CatchUpFailed:    "catch_up_failed",
	failover.PeerRefused:      "peer_refused",
	failover.PeerUnreachable:  "peer_unreachable",
	failover.TimedOut:         "timed_out",
	failover.Withdrawn:        "withdrawn",
	failover.Busy:             "busy",
	failover.Settling:         "settling",
	failover.NotElected:       "not_elected",
	failover.Drifted:          "drifted",
	failover.CannotAsk:        "cannot_ask",
	failover.LinkDown:         "link_down",
	failover.AddressTaken:     "address_taken",
	failover.StrangerAnswers:  "stranger_answers",
	failover.FenceFailed:      "fence_failed",
	failover.Deaf:             "deaf",
	failover.AddressForeign:   "address_found",
	failover.DatabaseDown:     "database_down",
	failover.DatabasesChanged: "databases_changed",
	failover.LongTransaction:  "long_transaction",
	failover.DataLost:         "data_lost",
	failover.Renumbered:       "renumbered",
	failover.Recovered:        "recovered",
}

var sourcesNames = map[failover.Sources]string{
	failover.NoDatabases:  "no_databases",
	failover.AllSources:   "all_sources",
	failover.AllReplicas:  "all_replicas",
	failover.MixedSources: "mixed",
}

var giveNames = map[failover.GiveStage]string{
	failover.GivePreparing:   "preparing",
	failover.GiveClosing:     "closing",
	failover.GiveFrozen:      "frozen",
	failover.GiveUndoing:     "undoing",
	failover.GiveRollingBack: "rolling_back",
	failover.GiveReleased:    "released",
	failover.GiveDone:        "done",
	failover.GiveFailed:      "failed",
}

var takeNames = map[failover.TakeStage]string{
	failover.TakePreparing:  "preparing",
	failover.TakePrepared:   "prepared",
	failover.TakeRefused:    "refused",
	failover.TakeCatchingUp: "catching_up",
	failover.TakePromoting:  "promoting",
	failover.TakeAcquired:   "acquired",
	failover.TakeDone:       "done",
	failover.TakeUndoing:    "undoing",
	failover.TakeUndone:     "undone",
}

var outcomeNames = map[failover.Outcome]string{
	failover.Done:         "done",
	failover.Incomplete:   "incomplete",
	failover.RefusedTo:    "refused",
	failover.RolledBack:   "rolled_back",
	failover.TimedOutBack: "timed_out",
}

var stepNames = map[hooks.Outcome]string{
	hooks.Pending:   "pending",
	hooks.Running:   "running",
	hooks.Unchanged: "unchanged",
	hooks.Changed:   "changed",
	hooks.Failed:    "failed",
	hooks.TimedOut:  "timed_out",
	hooks.Cancelled: "cancelled",
	hooks.Skipped:   "skipped",
	hooks.Lost:      "lost",
}

var codeNames = map[replication.Code]string{
	replication.IOStopped:    "io_stopped",
	replication.SQLStopped:   "sql_stopped",
	replication.Lagging:      "lagging",
	replication.NotKnown:     "unknown",
	replication.Undrained:    "undrained",
	replication.BehindSource: "behind_source",
	replication.Errant:       "errant",
	replication.Unreachable:  "unreachable",
	replication.NotReplica:   "not_replica",
	replication.Blocked:      "blocked",
	replication.Maintenance:  "maintenance",
	replication.Unhealthy:    "unhealthy",
}
