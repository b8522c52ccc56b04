package sim

import (
	"errors"
	"time"

	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/internal/failover"
	"github.com/tanist-ha/tanist/replication"
)

// The plain scenario: the Active's host loses its power, the standby takes over,
// the host comes back as a standby that follows, and so on in turn.

// DefaultSetup is the configuration that an operator gets without asking.
func DefaultSetup() Setup {
	return Setup{
		Databases: 1, WriteRate: 400, Interval: 25, Lease: 2 * time.Second, Drain: 60 * time.Second,
		Policy:  replication.Policy{MaxLag: 5 * time.Second},
		Promote: promote(), Demote: demote(),
		Delay: 200 * time.Microsecond, StepTime: 5 * time.Millisecond, WeakHost: true,
	}
}

const stepTimeout = 5 * time.Second

func promote() hooks.Plan {
	return hooks.Plan{
		{Name: "replication stop", Timeout: stepTimeout, Action: hooks.Replication{Verb: hooks.StopReplication}},
		{Name: "writes open", Timeout: stepTimeout, Action: hooks.Writes{Open: true}},
		{Name: "vip acquire", Timeout: stepTimeout, Action: hooks.VIP{Acquire: true}},
		{Name: "label", Timeout: stepTimeout, Action: label},
		{Name: "lsyncd", Timeout: stepTimeout, Action: hooks.Unit{Verb: hooks.StartUnit, Name: "lsyncd.service"}},
	}
}

func demote() hooks.Plan {
	return hooks.Plan{
		{Name: "writes close", Timeout: stepTimeout, Action: hooks.Writes{}},
		{Name: "vip release", Timeout: stepTimeout, Action: hooks.VIP{}},
		{Name: "lsyncd", Timeout: stepTimeout, Action: hooks.Unit{Verb: hooks.StopUnit, Name: "lsyncd.service"}},
		{Name: "label", Timeout: stepTimeout, Action: label},
	}
}

var label = hooks.YAML{File: "/opt/compass/src/values.compass.yaml", Key: "master_service_label", Value: "{{.Active}}"}

const (
	plainLook  = 20 * time.Millisecond
	plainAfter = 300 * time.Millisecond // the host is back so long after the takeover
	plainBound = 30 * time.Second       // each takeover and each return
	scriptPlay = 1
)

// Plain runs failovers one after the other.
func Plain(seed uint64, failovers int, s Setup) *World {
	w := NewWorld(seed, s)
	p := &plain{w: w, left: failovers}
	w.script = p.play
	for i := range w.nodes {
		w.schedule(0, item{kind: kStart, node: uint8(i)})
	}
	w.schedule(operateEvery, item{kind: kRejoin})
	w.schedule(plainLook, item{kind: kScript, id: scriptPlay})
	return w
}

type plain struct {
	w     *World
	left  int
	down  int // the host that is off, -1: none
	since time.Duration
	stage int
}

// Finish runs the world of Plain to its end.
func (w *World) Finish() error {
	w.Run(1 << 60)
	if errors.Is(w.check.failure, errOver) {
		w.check.failure = nil
	}
	return w.Failure()
}

func (p *plain) play(uint64) {
	w := p.w
	w.schedule(plainLook, item{kind: kScript, id: scriptPlay})
	if w.now-p.since > plainBound {
		w.fail("liveness", "stage %d of the plain scenario takes more than %s", p.stage, plainBound)
		return
	}
	switch p.stage {
	case 0: // both up, one Active, the other ready
		for i, n := range w.nodes {
			if !n.kernel.holds() || !w.ready(1-i) || n.state.State != failover.Active {
				continue
			}
			if p.left == 0 {
				w.check.failure = errOver
				return
			}
			p.left--
			p.down = i
			w.say(i, "power cut")
			n.powerOff()
			p.to(1)
		}
	case 1: // the other takes over
		if n := w.nodes[1-p.down]; n.kernel.holds() && n.state.State == failover.Active {
			w.schedule(plainAfter, item{kind: kPower, node: uint8(p.down)})
			p.to(0)
		}
	}
}

func (p *plain) to(stage int) { p.stage, p.since = stage, p.w.now }

// ready reports whether a standby would be let through the gate.
func (w *World) ready(i int) bool {
	n := w.nodes[i]
	for _, db := range n.dbs {
		if !db.channel || !db.io || !db.sql {
			return false
		}
	}
	return n.state.Epoch == n.peer().state.Epoch && n.runs() && n.state.State == failover.Backup && len(n.state.Gate) == 0 && n.state.Hears && len(n.steps) == 0
}

var errOver = overError{}

type overError struct{}

func (overError) Error() string { return "the scenario is over" }
