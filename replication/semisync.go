package replication

// Semi-synchronous replication makes a lost source cost nothing: what a client
// was told is committed, a replica has. It holds only as long as the source
// really waited, and a source stops waiting by itself, so it is claimed only
// where the source's words prove it.

import (
	"fmt"
	"time"

	"github.com/tanist-ha/tanist/internal/mono"
)

// SemiSync is semi-synchronous replication as one server sees it. All is unknown
// where the plugin is not there.
type SemiSync struct {
	// SourceStatus is on while commits here wait for a replica's acknowledgement
	// (Rpl_semi_sync_source_status, Rpl_semi_sync_master_status).
	SourceStatus Optional[bool]
	// NoTx counts the commits that were told to the client without one
	// (Rpl_semi_sync_source_no_tx), since the server started or FLUSH STATUS.
	NoTx    Optional[uint64]
	Clients Optional[uint64] // semi-synchronous replicas connected here
	Waiting Optional[uint64] // sessions that wait now (Rpl_semi_sync_source_wait_sessions)
	// Patience is how long a commit waits before the server turns SourceStatus off
	// and goes on alone: rpl_semi_sync_source_timeout, and 0 where
	// rpl_semi_sync_source_wait_no_replica is off, with which it does not wait for
	// a replica that is not there.
	Patience Optional[time.Duration]
	// ReplicaEnabled is on where this server acknowledges as a replica
	// (rpl_semi_sync_replica_enabled): the setting, which does not go off with the
	// IO thread as the status does.
	ReplicaEnabled Optional[bool]
}

// waits returns whether commits wait for an acknowledgement, with the number that
// did not.
func (s SemiSync) waits() (noTx uint64, ok bool) {
	on, statusOK := s.SourceStatus.Get()
	noTx, noTxOK := s.NoTx.Get()
	return noTx, statusOK && noTxOK && on
}

// acknowledged is what was heard of a source's semi-sync: unbroken from since to
// at, while both are set.
type acknowledged struct {
	on        bool
	since, at mono.Instant
	last      SemiSync
}

// NoteSemiSync takes what the source says of semi-sync, together with a position
// and at the same instant: after Note. A word that does not say that commits wait,
// or that counts others than the word before, begins anew.
func (h *Heard) NoteSemiSync(s SemiSync, at mono.Instant) {
	if h.timed && at.Before(h.at) {
		at = h.at
	}
	noTx, ok := s.waits()
	if !ok {
		h.semi = acknowledged{}
		return
	}
	if before, _ := h.semi.last.waits(); !h.semi.on || before != noTx {
		h.semi.since = at
	}
	h.semi.on, h.semi.at, h.semi.last = true, at, s
}

// BoundSource says how a bound on the loss is known.
type BoundSource uint8

// BoundNone goes with no bound.
const (
	BoundNone     BoundSource = iota
	BoundSemiSync             // the source waited for this replica's acknowledgements
)

var boundNames = [...]string{"none", "semi-sync"}

// String returns in one word how the bound is known.
func (b BoundSource) String() string { return nameOf(boundNames[:], uint8(b)) }

// LossBound is the most that is lost with the source, in transactions that its
// clients were told are committed.
type LossBound struct {
	Transactions uint64
	From         BoundSource
	For          time.Duration // how long every word of the source had said so
	HeardAge     time.Duration // how long ago the last one was heard
}

// String returns "at most 0 transactions: semi-sync, on for 340 s, heard 0.4 s ago".
func (l LossBound) String() string {
	return fmt.Sprintf("at most %s: %s, on for %s, heard %s ago", transactions(l.Transactions), l.From, seconds(l.For), seconds(l.HeardAge))
}

// boundLoss says that nothing is lost where that is proved. At its last word the
// source waited, for one replica, which is this one; all that it had then is
// here; and the time since is too short for it to have given up waiting. The
// facts behind a word are older than the word: by less than the age at which
// facts are not known any more.
func (e *examination) boundLoss(applied Position) {
	h := e.in.Heard
	semi := h.semi.last
	patience, patienceOK := semi.Patience.Get()
	clients, _ := semi.Clients.Get()
	enabled, _ := e.in.Facts.SemiSync.ReplicaEnabled.Get()
	if !h.semi.on || !h.timed || h.semi.at != h.at || !patienceOK || clients != 1 || !enabled {
		return
	}
	received, ok := e.in.Facts.Received()
	if !ok || !received.Merge(applied).Covers(h.last) {
		return
	}
	// A commit that waits is in a MariaDB's position, and so covered; in
	// gtid_executed it is not, and may have waited for long already.
	if waiting, ok := semi.Waiting.Get(); h.last.Flavor() != FlavorMariaDB && (!ok || waiting > 0) {
		return
	}
	silence := e.now.Sub(h.at)
	if silence < 0 || silence+e.policy.maxAge() >= patience {
		return
	}
	e.out.Bound = Known(LossBound{From: BoundSemiSync, For: h.at.Sub(h.semi.since), HeardAge: silence})
}
