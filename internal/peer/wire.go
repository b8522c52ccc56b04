package peer

// The wire format of what a node says of an instance, apart from the core's types
// so that either can change alone. What is new in every message (Seq, Stamp, Echo)
// travels beside it: see frame.go. Enums travel as the names of names.go, positions as the server writes them,
// instants and durations as integer nanoseconds. Fields are added, never renamed
// and never given another meaning; a reader ignores those that it does not know.

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/internal/failover"
	"github.com/tanist-ha/tanist/internal/words"
	"github.com/tanist-ha/tanist/replication"
)

type message struct {
	Instance    string         `json:"instance"`
	Boot        uint64         `json:"boot"`
	State       string         `json:"state"`
	Why         why            `json:"why"`
	Epoch       failover.Epoch `json:"epoch,omitempty"`
	ActiveEpoch failover.Epoch `json:"active_epoch,omitempty"`
	Holds       bool           `json:"holds,omitempty"`
	Bids        bool           `json:"bids,omitempty"`
	Hears       bool           `json:"hears,omitempty"`
	Sources     string         `json:"sources,omitempty"`
	Gate        []gateReason   `json:"gate,omitempty"`
	Positions   []position     `json:"positions,omitempty"`
	Stopped     []string       `json:"stopped,omitempty"`
	Steps       []step         `json:"steps,omitempty"`
	Give        *give          `json:"give,omitempty"`
	Take        *take          `json:"take,omitempty"`
	Wish        *wish          `json:"wish,omitempty"`
	Granted     *grant         `json:"granted,omitempty"`
	Drift       []drift        `json:"drift,omitempty"`
	Labels      []label        `json:"labels,omitempty"`
	Maintenance *maintenance   `json:"maintenance,omitempty"`

	HearsHeartbeat string `json:"hears_heartbeat,omitempty"`
	HearsLink      string `json:"hears_link,omitempty"`
	Wrote          string `json:"wrote,omitempty"`
}

type why struct {
	Reason string       `json:"reason"`
	Gate   []gateReason `json:"gate,omitempty"`
	Check  string       `json:"check,omitempty"`
	Detail string       `json:"detail,omitempty"`
}

type gateReason struct {
	Code     string `json:"code"`
	Database string `json:"database,omitempty"`
	Detail   string `json:"detail,omitempty"`
}

type position struct {
	Database string    `json:"database"`
	Executed string    `json:"executed"`
	SemiSync *semiSync `json:"semi_sync,omitempty"`
	Beat     *beat     `json:"beat,omitempty"`
	Binlog   string    `json:"binlog_state,omitempty"`
	Applied  string    `json:"applied,omitempty"`
}

// beat is there only where a heartbeat table is.
type beat struct {
	Server uint32 `json:"server"`
	Epoch  uint64 `json:"epoch"`
	Count  uint64 `json:"count"`
}

// semiSync is there only while commits wait; what is not known is left out.
type semiSync struct {
	NoTx     *uint64        `json:"no_tx,omitempty"`
	Clients  *uint64        `json:"clients,omitempty"`
	Waiting  *uint64        `json:"waiting,omitempty"`
	Patience *time.Duration `json:"patience,omitempty"`
}

type step struct {
	Name     string        `json:"name"`
	Title    string        `json:"title,omitempty"`
	Outcome  string        `json:"outcome"`
	Detail   string        `json:"detail,omitempty"`
	Duration time.Duration `json:"duration_ns,omitempty"`
}

type handover struct {
	Boot uint64 `json:"boot"`
	Seq  uint64 `json:"seq"`
}

type give struct {
	ID        handover       `json:"id"`
	Stage     string         `json:"stage"`
	Epoch     failover.Epoch `json:"epoch"`
	DryRun    bool           `json:"dry_run,omitempty"`
	Force     bool           `json:"force,omitempty"`
	Positions []position     `json:"positions,omitempty"`
	Lost      []string       `json:"lost,omitempty"`
	Cause     string         `json:"cause,omitempty"`
}

type take struct {
	ID    handover `json:"id"`
	Stage string   `json:"stage"`
	Why   why      `json:"why"`
	OK    bool     `json:"ok,omitempty"`
	Left  uint64   `json:"left,omitempty"`
}

type wish struct {
	ID      handover `json:"id"`
	Request request  `json:"request"`
}

type request struct {
	To      string        `json:"to"`
	DryRun  bool          `json:"dry_run,omitempty"`
	Force   bool          `json:"force,omitempty"`
	Reason  string        `json:"reason,omitempty"`
	UID     uint32        `json:"uid"`
	Timeout time.Duration `json:"timeout_ns"`
	Preempt bool          `json:"preempt,omitempty"`
}

type grant struct {
	ID      handover `json:"id"`
	Outcome string   `json:"outcome"`
	Why     why      `json:"why"`
}

// encode returns all of a state but its Seq, Stamp and Echo.
func encode(instance string, s failover.PeerState) ([]byte, error) {
	content, err := json.Marshal(toWire(instance, s))
	if err != nil {
		return nil, fmt.Errorf("encode the state of %s: %w", instance, err)
	}
	if len(content) > MaxMessage {
		return nil, fmt.Errorf("encode the state of %s: %d bytes, more than %d", instance, len(content), MaxMessage)
	}
	return content, nil
}

// decode reads what encode made.
func decode(content []byte) (instance string, s failover.PeerState, err error) {
	var m message
	if err := json.Unmarshal(content, &m); err != nil {
		return "", s, fmt.Errorf("decode a message: %w", err)
	}
	if m.Instance == "" || m.State == "" {
		return "", s, errors.New("decode a message: without instance or state")
	}
	return m.Instance, m.core(), nil
}

func toWire(instance string, s failover.PeerState) message {
	m := message{
		Instance: instance, Boot: s.Boot,
		State: words.Of(failover.Initialize, s.State), Why: toWhy(s.Why), Epoch: s.Epoch, ActiveEpoch: s.ActiveEpoch,
		Holds: s.Holds, Bids: s.Bids, Hears: s.Hears, Sources: words.Of(failover.NoDatabases, s.Sources),
		Gate: each(s.Gate, toGateReason), Positions: each(s.Positions, toPosition),
		Stopped: s.Stopped, Steps: each(s.Steps, toStep), Drift: each(s.Drift, toDrift), Labels: each(s.Labels, toLabel),
		Maintenance: toMaintenance(s.Maintenance), HearsHeartbeat: sensed(s.HearsHeartbeat), HearsLink: sensed(s.HearsLink),
	}
	if s.Wrote != failover.WroteUnknown {
		m.Wrote = words.Of(failover.WroteNo, s.Wrote)
	}
	if g := s.Give; g != nil {
		m.Give = &give{
			ID: handover(g.ID), Stage: words.Of(failover.GivePreparing, g.Stage), Epoch: g.Epoch, DryRun: g.DryRun, Force: g.Force,
			Positions: each(g.Positions, toPosition), Lost: g.Lost, Cause: words.Of(failover.Starting, g.Cause),
		}
	}
	if t := s.Take; t != nil {
		m.Take = &take{ID: handover(t.ID), Stage: words.Of(failover.TakePreparing, t.Stage), Why: toWhy(t.Why), OK: t.OK, Left: t.Left}
	}
	if w := s.Wish; w != nil {
		m.Wish = &wish{ID: handover(w.ID), Request: request(w.Request)}
	}
	if g := s.Granted; g != nil {
		m.Granted = &grant{ID: handover(g.ID), Outcome: words.Of(failover.Done, g.Outcome), Why: toWhy(g.Why)}
	}
	return m
}

// core turns a message into what the orchestrator reads. A position in a notation
// that this release does not read is left out: of that database nothing is known.
func (m message) core() failover.PeerState {
	s := failover.PeerState{
		Boot:  m.Boot,
		State: words.Value(failover.Initialize, m.State), Why: m.Why.core(), Epoch: m.Epoch, ActiveEpoch: m.ActiveEpoch,
		Holds: m.Holds, Bids: m.Bids, Hears: m.Hears, Sources: words.Value(failover.NoDatabases, m.Sources),
		Gate: each(m.Gate, gateReason.core), Stopped: m.Stopped, Steps: each(m.Steps, step.core),
		Drift: each(atMost(m.Drift, told), drift.core), Labels: each(atMost(m.Labels, told), label.core),
		Maintenance:    m.Maintenance.core(),
		HearsHeartbeat: words.Value(failover.SenseLost, m.HearsHeartbeat), HearsLink: words.Value(failover.SenseLost, m.HearsLink),
		Wrote: words.Value(failover.WroteNo, m.Wrote),
	}
	s.Positions, _ = readPositions(m.Positions)
	if g := m.Give; g != nil {
		s.Give = g.core()
	}
	if t := m.Take; t != nil {
		s.Take = &failover.Take{ID: failover.HandoverID(t.ID), Stage: words.Value(failover.TakePreparing, t.Stage), Why: t.Why.core(), OK: t.OK, Left: t.Left}
	}
	if w := m.Wish; w != nil {
		s.Wish = &failover.Wish{ID: failover.HandoverID(w.ID), Request: failover.Request(w.Request)}
		s.Wish.Request.Reason = brief(s.Wish.Request.Reason)
	}
	if g := m.Granted; g != nil {
		s.Granted = &failover.Grant{ID: failover.HandoverID(g.ID), Outcome: words.Value(failover.Done, g.Outcome), Why: g.Why.core()}
	}
	return s
}

// core returns nil for a handover whose final positions cannot all be read: a
// database without a target would count as caught up too early, and a handover
// that is not there is taken back by the old node.
func (g give) core() *failover.Give {
	positions, all := readPositions(g.Positions)
	if !all {
		return nil
	}
	return &failover.Give{
		ID: failover.HandoverID(g.ID), Stage: words.Value(failover.GivePreparing, g.Stage), Epoch: g.Epoch,
		DryRun: g.DryRun, Force: g.Force, Positions: positions, Lost: g.Lost, Cause: words.Value(failover.Starting, g.Cause),
	}
}

func toWhy(w failover.Why) why {
	return why{Reason: words.Of(failover.Starting, w.Reason), Gate: each(w.Gate, toGateReason), Check: w.Check, Detail: w.Detail}
}

func (w why) core() failover.Why {
	return failover.Why{Reason: words.Value(failover.Starting, w.Reason), Gate: each(w.Gate, gateReason.core), Check: brief(w.Check), Detail: brief(w.Detail)}
}

func toGateReason(r replication.Reason) gateReason {
	return gateReason{Code: words.Of(replication.IOStopped, r.Code), Database: r.Database, Detail: r.Detail}
}

func (r gateReason) core() replication.Reason {
	return replication.Reason{Code: words.Value(replication.IOStopped, r.Code), Database: brief(r.Database), Detail: brief(r.Detail)}
}

func toStep(r hooks.Result) step {
	return step{Name: r.Name, Title: r.Title, Outcome: words.Of(hooks.Pending, r.Outcome), Detail: r.Detail, Duration: r.Duration}
}

func (s step) core() hooks.Result {
	return hooks.Result{
		Name: brief(s.Name), Title: brief(s.Title), Outcome: words.Value(hooks.Pending, s.Outcome), Detail: brief(s.Detail), Duration: s.Duration,
	}
}

// maxText bounds each text that is passed on of what the other end says, in bytes:
// some go into the journal, whose records have a bound of their own, and into the log.
const maxText = 4 << 10

func brief(s string) string {
	if len(s) <= maxText {
		return s
	}
	return strings.ToValidUTF8(s[:maxText], "") + "..."
}

// sensed leaves out what is not known.
func sensed(s failover.Sense) string {
	if s == failover.SenseUnknown {
		return ""
	}
	return words.Of(failover.SenseLost, s)
}

func toPosition(p failover.Position) position {
	return position{
		Database: p.Database, Executed: p.Executed.String(), SemiSync: toSemiSync(p.SemiSync), Beat: toBeat(p.Beat),
		Binlog: p.Binlog.String(), Applied: p.Applied.String(),
	}
}

func toBeat(b replication.Beat) *beat {
	if b == (replication.Beat{}) {
		return nil
	}
	return &beat{Server: b.Server, Epoch: b.Epoch, Count: b.Count}
}

func (b *beat) core() replication.Beat {
	if b == nil {
		return replication.Beat{}
	}
	return replication.Beat{Server: b.Server, Epoch: b.Epoch, Count: b.Count}
}

func toSemiSync(s replication.SemiSync) *semiSync {
	if on, ok := s.SourceStatus.Get(); !ok || !on {
		return nil
	}
	return &semiSync{NoTx: known(s.NoTx), Clients: known(s.Clients), Waiting: known(s.Waiting), Patience: known(s.Patience)}
}

func (s *semiSync) core() replication.SemiSync {
	if s == nil {
		return replication.SemiSync{}
	}
	return replication.SemiSync{
		SourceStatus: replication.Known(true), NoTx: optional(s.NoTx), Clients: optional(s.Clients),
		Waiting: optional(s.Waiting), Patience: optional(s.Patience),
	}
}

func known[T any](o replication.Optional[T]) *T {
	v, ok := o.Get()
	if !ok {
		return nil
	}
	return &v
}

func optional[T any](p *T) replication.Optional[T] {
	if p == nil {
		return replication.Unknown[T]()
	}
	return replication.Known(*p)
}

// readPositions returns the positions that can be read, and whether all could.
func readPositions(in []position) (out []failover.Position, all bool) {
	all = true
	for _, p := range in {
		executed, err := replication.ParsePosition(p.Executed)
		if err != nil {
			all = false
			continue
		}
		q := failover.Position{Database: p.Database, Executed: executed, SemiSync: p.SemiSync.core(), Beat: p.Beat.core()}
		// Who wrote what is for a comparison, which does without.
		if binlog, err := replication.ParseBinlogState(p.Binlog); err == nil {
			if applied, err := replication.ParsePosition(p.Applied); err == nil {
				q.Binlog, q.Applied = binlog, applied
			}
		}
		out = append(out, q)
	}
	return out, all
}

// each maps a slice; of nothing comes nil.
func each[A, B any](in []A, f func(A) B) []B {
	var out []B
	for _, a := range in {
		out = append(out, f(a))
	}
	return out
}
