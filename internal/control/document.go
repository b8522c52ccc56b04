// Package control is how people and scripts talk to the daemon: HTTP over a unix
// socket, and the JSON documents that it speaks.
package control

import (
	"net/netip"
	"time"

	"github.com/tanist-ha/tanist/health"
	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/internal/failover"
	"github.com/tanist-ha/tanist/replication"
)

// Document is what `tanist status --json` prints.
type Document struct {
	Node      string     `json:"node"`
	Epoch     uint64     `json:"epoch"` // the highest of the instances
	Version   string     `json:"version"`
	Instances []Instance `json:"instances"`
	Peer      Peer       `json:"peer"`
	Reload    *Reload    `json:"reload,omitempty"` // the last one, absent before the first
	Journal   *Journal   `json:"journal,omitempty"`
	// Heartbeat are the paths of the advertisements.
	Heartbeat []HeartbeatPath `json:"heartbeat"`
	// LoopSilentMS is for how long the control loop has ended no turn, absent where it
	// answered in time.
	LoopSilentMS *int64 `json:"loop_silent_ms,omitempty"`
	Host         *Host  `json:"host,omitempty"`
	// Cut says what was left out because it was too long for the link; see Cut.
	Cut []string `json:"cut,omitempty"`
}

func newRestored(now time.Time, s failover.Status) *Restored {
	r := s.Restored
	if r.Count == 0 {
		return nil
	}
	return &Restored{Count: r.Count, Address: r.Address, At: now.Add(-s.Now.Sub(r.Last)).UTC()}
}

// Journal is whether this node's journal can be written. While it cannot, this node is
// not promoted.
type Journal struct {
	Writable bool   `json:"writable"`
	Error    string `json:"error,omitempty"`
	// ForSeconds is how long it has been so, absent if it always was.
	ForSeconds float64 `json:"for_seconds,omitempty"`
	Refused    uint64  `json:"refused"`  // records that could not be written at once, since the start
	Awaiting   int     `json:"awaiting"` // records that wait for the disk
}

// Reload is one reading of the configuration by a running daemon.
type Reload struct {
	At     time.Time `json:"at"`
	Result string    `json:"result"` // running, applied, unchanged, refused, busy or failed; after the last three nothing is changed
	Detail string    `json:"detail,omitempty"`
	Error  string    `json:"error,omitempty"` // the first
}

// Instance is one instance on this node.
type Instance struct {
	Name           string      `json:"name"`
	State          string      `json:"state"`
	Since          time.Time   `json:"since"`
	Reason         string      `json:"reason"`
	Detail         string      `json:"detail,omitempty"`
	Epoch          uint64      `json:"epoch"`
	VIPs           []VIP       `json:"vips"`
	Gate           Gate        `json:"gate"`
	Databases      []Database  `json:"databases"`
	Health         []Health    `json:"health"`
	Units          []Unit      `json:"units"`
	Labels         []Label     `json:"labels"`
	Drift          []Drift     `json:"drift"`
	Unprotected    []string    `json:"unprotected,omitempty"` // databases of the active node that this one lacks
	Stays          *Stays      `json:"stays,omitempty"`       // absent unless a check wants the role to move and it cannot
	Waiting        *Waiting    `json:"waiting,omitempty"`     // for what a transition waits
	Block          *Hold       `json:"block"`
	Maintenance    *Hold       `json:"maintenance"`
	LastTransition *Transition `json:"last_transition"`
	Heartbeat      *Heartbeat  `json:"heartbeat"`
	ClaimedBy      string      `json:"claimed_by,omitempty"` // who else answers for the held address: the peer's label or a hardware address
	Restored       *Restored   `json:"restored,omitempty"`   // absent as long as nobody took an address off
	// Stale says that the control loop did not answer in time: this is what it told AgeMS
	// ago, absent if it never did; VIPs are as of now. Certain says that its state is that
	// of now all the same.
	Stale   bool   `json:"stale,omitempty"`
	AgeMS   *int64 `json:"age_ms,omitempty"`
	Certain bool   `json:"certain,omitempty"`
	// UnitsAgeMS and LabelsAgeMS are absent where they were looked at for this answer.
	UnitsAgeMS  *int64 `json:"units_age_ms,omitempty"`
	LabelsAgeMS *int64 `json:"labels_age_ms,omitempty"`

	OneWay     []OneWay     `json:"one_way,omitempty"`
	Divergence []Divergence `json:"divergence,omitempty"` // of a standby in conflict
	// Wrote says whether the databases took writes since this node's latest promotion,
	// yes or no; absent where that is not known.
	Wrote     string    `json:"wrote,omitempty"`
	Witness   *Witness  `json:"witness,omitempty"` // absent without one
	Isolation Isolation `json:"isolation"`
}

// Restored is how often somebody else took a held address off the interface and
// the daemon put it back.
type Restored struct {
	Count   uint64    `json:"count"`
	Address string    `json:"address"` // the latest
	At      time.Time `json:"at"`
}

// VIP is one virtual address. Held is the kernel's word, not the daemon's; with an Error
// it gave none.
type VIP struct {
	Address   string `json:"address"`
	Interface string `json:"interface"`
	Held      bool   `json:"held"`
	Error     string `json:"error,omitempty"`
}

// Gate says whether this node could be promoted now.
type Gate struct {
	Open    bool         `json:"open"`
	Reasons []GateReason `json:"reasons"`
}

// GateReason is one thing that keeps the gate closed.
type GateReason struct {
	Code     replication.Code `json:"code"`
	Database string           `json:"database"` // empty when it concerns the node
	Detail   string           `json:"detail"`
}

// Database is one database. A value that is not known, or NULL, is null.
type Database struct {
	Name                string   `json:"name"`
	Role                string   `json:"role"`
	ReadOnly            *bool    `json:"read_only"`
	IORunning           *bool    `json:"io_running"`
	SQLRunning          *bool    `json:"sql_running"`
	LagSeconds          *float64 `json:"lag_seconds"`
	LagFrom             string   `json:"lag_from"` // how the lag was obtained
	Position            *string  `json:"position"`
	MissingTransactions *uint64  `json:"missing_transactions"`
	Error               string   `json:"error"`
	AgeMS               *int64   `json:"age_ms"` // of these facts
}

// Health is one health check.
type Health struct {
	Name   string `json:"name"`
	OK     *bool  `json:"ok"` // null before the first sample
	Effect string `json:"effect"`
	Detail string `json:"detail"`
	// Verdict says it in one word: unknown, well, failing or flapping. A check that is
	// flapping is well and counts as failing, to Until at the earliest.
	Verdict string    `json:"verdict"`
	Until   time.Time `json:"until,omitzero"`
	AgeMS   *int64    `json:"age_ms"` // of the latest sample, null when none is known
}

// Stays says why the role stays on a node though one of its checks wants it to move.
type Stays struct {
	Check  string       `json:"check"`
	Reason string       `json:"reason"`
	Detail string       `json:"detail,omitempty"`
	Gate   []GateReason `json:"gate,omitempty"` // of the peer
}

func newStays(w *failover.Why) *Stays {
	if w == nil {
		return nil
	}
	s := &Stays{Check: w.Check, Reason: w.Reason.String(), Detail: w.Detail}
	if len(w.Gate) > 0 {
		s.Gate = newGate(w.Gate).Reasons
	}
	return s
}

// Unit is one systemd unit that the plans name.
type Unit struct {
	Name    string `json:"name"`
	Active  string `json:"active"`  // the manager's word
	Running bool   `json:"running"` // the processes' word
	Error   string `json:"error,omitempty"`
}

// Label is one key of a foreign file that the plans set.
type Label struct {
	File   string  `json:"file"`
	Key    string  `json:"key"`
	Value  string  `json:"value"`
	Wanted *string `json:"wanted"` // null while the role is not certain
	Error  string  `json:"error,omitempty"`
}

// Hold is an operator's block or maintenance.
type Hold struct {
	Reason string    `json:"reason"`
	Until  time.Time `json:"until,omitzero"`
	UID    uint32    `json:"uid"` // of the operator
	// Of a maintenance: the node where it was switched on, whether the other one knows
	// of it, and for how long the address outlives a daemon.
	By           string  `json:"by,omitempty"`
	Shared       bool    `json:"shared,omitempty"`
	LeaseSeconds float64 `json:"lease_seconds,omitempty"`
}

// Transition is the running or the last transition.
type Transition struct {
	Epoch      uint64  `json:"epoch"`
	Kind       string  `json:"kind"` // promote or demote
	Planned    bool    `json:"planned"`
	Reason     string  `json:"reason"`
	Result     string  `json:"result"` // running, completed, aborted or interrupted
	DurationMS float64 `json:"duration_ms"`
	Steps      []Step  `json:"steps"`
	// Losses are what a promotion that a lost source preceded may have left behind.
	Losses []Loss `json:"losses,omitempty"`
}

// Loss is what one database may have lost. What is not known is null.
type Loss struct {
	Database     string   `json:"database"`
	Proved       *uint64  `json:"proved"`                 // transactions the source is known to have had
	AtMost       *uint64  `json:"at_most"`                // an estimate of those and what it wrote after its last word
	HeardSeconds *float64 `json:"heard_seconds"`          // how old that word was; null: from before a restart, or there was none
	Transactions string   `json:"transactions,omitempty"` // those proved
	SemiSync     bool     `json:"semi_sync,omitempty"`    // at_most is no estimate: the source waited for this node's acknowledgements
}

// Step is one step of a transition.
type Step struct {
	Name       string  `json:"name"`
	Result     string  `json:"result"`
	DurationMS float64 `json:"duration_ms"`
	Detail     string  `json:"detail,omitempty"`
	// Output is the beginning and the end of what the program of a step that failed
	// printed, with control characters written out; the journal has more of it.
	Output string `json:"output,omitempty"`
}

// outputLimit bounds Step.Output, in bytes before control characters are written out.
const outputLimit = 600

// Peer is the other node as this one sees it.
type Peer struct {
	Label     string         `json:"label"`
	Reachable bool           `json:"reachable"`
	Paths     []Path         `json:"paths"`
	Instances []PeerInstance `json:"instances"`
	// Report is what the peer's own status said last, without what it says of this node's
	// instances; nil until one came. ReportAgeMS is how long ago it came.
	Report      *Document `json:"report,omitempty"`
	ReportAgeMS *int64    `json:"report_age_ms,omitempty"`
	// ClockOffsetMS is how far the peer's wall clock is ahead of this node's, give or
	// take ClockUncertaintyMS; null when unknown. ClocksDiffer: by more than ClockTolerance.
	ClockOffsetMS      *float64 `json:"clock_offset_ms"`
	ClockUncertaintyMS *float64 `json:"clock_uncertainty_ms"`
	ClocksDiffer       bool     `json:"clocks_differ"`
	// Configuration is in what the two nodes' configurations differ; null when unknown.
	Configuration *Difference `json:"configuration"`
	// Authenticated says that the peer has to prove itself on the link: there is a key.
	Authenticated bool `json:"authenticated"`
}

// Path is one way between the two nodes.
type Path struct {
	Address     string `json:"address"`
	Heard       bool   `json:"heard"`         // something came this way a moment ago
	HearsUs     *bool  `json:"hears_us"`      // our connection to the peer stands; null when unknown
	LastHeardMS *int64 `json:"last_heard_ms"` // null: never
	// PeerHeard is whether the peer ever heard us this way, as it says; null when unknown.
	PeerHeard      *bool  `json:"peer_heard"`
	PeerHeardMSAgo *int64 `json:"peer_heard_ms_ago"` // null: never, or unknown
	Error          string `json:"error,omitempty"`
	// Reason is the error's where it is a refusal, of this node's or of the peer's: see
	// docs/peer-link.md. Refused counts all of them by reason.
	Reason  string            `json:"reason,omitempty"`
	Refused map[string]uint64 `json:"refused,omitempty"`
	// Proved says that the peer's connection stands and is proved by the key, SecondKey
	// that this is not this node's first one. Version is the protocol's on it, 0 while
	// there is none.
	Proved    bool   `json:"proved"`
	SecondKey bool   `json:"second_key,omitempty"`
	Version   uint16 `json:"version,omitempty"`
}

// PeerInstance is what the peer last said about an instance.
type PeerInstance struct {
	Name   string `json:"name"`
	State  string `json:"state"`
	Reason string `json:"reason"`
	Detail string `json:"detail,omitempty"`
	Epoch  uint64 `json:"epoch"`
	Holds  bool   `json:"holds"`
	AgeMS  int64  `json:"age_ms"`
	Gate   Gate   `json:"gate"`
	Steps  []Step `json:"steps"`
	// Labels and Drift are at most the first sixteen.
	Labels []Label `json:"labels"`
	Drift  []Drift `json:"drift"`
}

// Extra is what a document needs beside the core's own status.
type Extra struct {
	VIPs      []netip.Prefix
	Interface string
	Held      func(netip.Addr) bool
	Units     []Unit
	Labels    []Label
	Drift     []Drift
	Heartbeat *Heartbeat
	// Sampled is when the latest sample of a health check was taken, the zero time when
	// there is none; nil when nobody knows.
	Sampled func(check string) time.Time
}

// NewInstance makes the document of an instance from its status at the date now.
func NewInstance(now time.Time, s failover.Status, x Extra) Instance {
	in := Instance{
		Name: s.Instance, State: s.State.String(), Since: now.Add(-s.Since).UTC().Truncate(time.Millisecond),
		Reason: s.Why.Reason.String(), Detail: s.Why.Detail, Epoch: uint64(s.ActiveEpoch),
		VIPs: []VIP{}, Gate: newGate(s.Gate.Reasons), Databases: []Database{}, Health: []Health{},
		Units: append([]Unit{}, x.Units...), Labels: append([]Label{}, x.Labels...), Drift: append(newDrift(s.Drift, s.Now), x.Drift...),
		LastTransition: newTransition(s), Heartbeat: x.Heartbeat, Restored: newRestored(now, s), ClaimedBy: s.Claimant,
		Unprotected: s.Unprotected, Waiting: NewWaiting(s.Waiting), Stays: newStays(s.Stays),
		Block: newHold(now, s.Block), Maintenance: newHold(now, s.Maintenance),
	}
	in.hear(now, s)
	for _, p := range x.VIPs {
		in.VIPs = append(in.VIPs, VIP{Address: p.String(), Interface: x.Interface, Held: x.Held(p.Addr())})
	}
	for i, d := range s.Databases {
		in.Databases = append(in.Databases, newDatabase(d, s.Gate.Databases[i], s.Now))
	}
	for _, h := range s.Health {
		check := Health{Name: h.Check.Name, Verdict: h.Verdict.String(), Effect: h.Check.Effect.String(), Detail: h.Detail}
		if ok := !h.Fails(); h.Verdict != health.Unknown {
			check.OK = &ok
		}
		if h.Verdict == health.Flapping {
			check.Until = now.Add(h.Until.Sub(s.Now)).UTC().Truncate(time.Millisecond)
		}
		if x.Sampled != nil {
			if at := x.Sampled(h.Check.Name); !at.IsZero() {
				age := now.Sub(at).Milliseconds()
				check.AgeMS = &age
			}
		}
		in.Health = append(in.Health, check)
	}
	return in
}

func newGate(reasons []replication.Reason) Gate {
	g := Gate{Open: len(reasons) == 0, Reasons: []GateReason{}}
	for _, r := range reasons {
		g.Reasons = append(g.Reasons, GateReason{Code: r.Code, Database: r.Database, Detail: r.Detail})
	}
	return g
}

func newTransition(s failover.Status) *Transition {
	if s.Last == nil {
		return nil
	}
	t := &Transition{
		Epoch: uint64(s.Last.Epoch), Kind: Kind(s.Last.Role), Planned: s.Last.Planned,
		Reason: s.Last.Reason.String(), Result: s.Last.Ending.String(), DurationMS: ms(s.Last.Duration),
		Steps: newSteps(s.Last.Steps), Losses: NewLosses(s.Last.Losses),
	}
	// Between two of its plans a switchover waits for the other node.
	if s.Last.Running || s.Last.Ending == hooks.Unfinished {
		t.Result, t.DurationMS = "running", ms(s.LastAge)
	}
	return t
}

// NewLosses makes the documents of losses.
func NewLosses(losses []hooks.Loss) []Loss {
	var ls []Loss
	for _, l := range losses {
		out := Loss{Database: l.Database, Transactions: l.Transactions, SemiSync: l.SemiSync}
		if l.ProvedKnown {
			out.Proved = &l.Proved
		}
		if l.AtMostKnown {
			out.AtMost = &l.AtMost
		}
		if l.HeardAgeKnown {
			s := l.HeardAge.Seconds()
			out.HeardSeconds = &s
		}
		ls = append(ls, out)
	}
	return ls
}

// Waiting is for what a transition waits.
type Waiting struct {
	For         string   `json:"for"`
	Left        uint64   `json:"left,omitempty"`         // transactions
	PerSecond   *float64 `json:"per_second,omitempty"`   // how many of them go, where that was seen
	SecondsLeft *float64 `json:"seconds_left,omitempty"` // an estimate from both
}

// NewWaiting returns nil when nothing is waited for.
func NewWaiting(w failover.Waiting) *Waiting {
	if w == (failover.Waiting{}) {
		return nil
	}
	return &Waiting{For: w.For, Left: w.Left}
}

// Kind is what status, log and metrics call a transition to a role: promote or demote.
func Kind(r hooks.Role) string {
	if r == hooks.Active {
		return "promote"
	}
	return "demote"
}

func newSteps(results []hooks.Result) []Step {
	steps := []Step{}
	for _, r := range results {
		s := Step{Name: r.Name, Result: r.Outcome.String(), DurationMS: ms(r.Duration), Detail: r.Detail}
		if !r.Outcome.OK() {
			s.Output = hooks.Legible(hooks.Shorten([]byte(r.Output), outputLimit))
		}
		steps = append(steps, s)
	}
	return steps
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// NewPeerInstance makes the document of what the peer last said.
func NewPeerInstance(s failover.Status) PeerInstance {
	p := s.PeerState
	return PeerInstance{
		Name: s.Instance, State: p.State.String(), Reason: p.Why.Reason.String(), Detail: p.Why.Detail,
		Epoch: uint64(p.ActiveEpoch), Holds: p.Holds, AgeMS: s.PeerAge.Milliseconds(),
		Gate: newGate(p.Gate), Steps: newSteps(p.Steps), Labels: newLabels(p.Labels), Drift: newDrift(p.Drift, p.Stamp.Add(s.PeerAge)),
	}
}
