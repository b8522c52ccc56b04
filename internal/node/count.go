package node

// What each instance has done since the daemon started, for metrics. The loop counts
// into values that it alone touches, and gives a reader a copy: counting takes no lock.

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/internal/failover"
)

// stepNames bounds the names of steps that are counted apart, for reloads can bring
// ever new ones. What comes later is counted under OtherSteps.
const stepNames = 256

// OtherSteps is the name under which steps are counted when there were too many names.
const OtherSteps = "other"

// Counters is what one instance has done. They outlive a reload that changes it.
type Counters struct {
	Sent, Received        uint64 // advertisements; on several paths each is sent once and received on each
	Renewed, NotRenewed   uint64 // leases
	Transitions           map[TransitionEnd]uint64
	TransitionTime        map[hooks.Role]Durations
	Steps                 map[StepEnd]uint64
	StepTime              map[string]Durations // by step; of those that ran
	AdvertisementLateness Durations            // how much later than due an advertisement was sent

	names map[string]bool // of steps
}

// TransitionEnd is how a transition ended.
type TransitionEnd struct {
	Role   hooks.Role // where it led
	Ending hooks.Ending
}

// StepEnd is how a step ended.
type StepEnd struct {
	Name    string
	Outcome hooks.Outcome
}

// Durations counts durations by length.
type Durations struct {
	Bounds []time.Duration // ascending; shared, not to be changed
	Counts []uint64        // those up to each bound and above the one before; the last one: above all
	Sum    time.Duration
}

func newDurations(bounds []time.Duration) Durations {
	return Durations{Bounds: bounds, Counts: make([]uint64, len(bounds)+1)}
}

func (d *Durations) observe(took time.Duration) {
	took = max(0, took)
	at, _ := slices.BinarySearch(d.Bounds, took)
	d.Counts[at]++
	d.Sum += took
}

func (d Durations) clone() Durations {
	d.Counts = slices.Clone(d.Counts)
	return d
}

// transitionBounds are for what takes from a moment to minutes.
func transitionBounds() []time.Duration {
	return []time.Duration{
		10 * time.Millisecond, 50 * time.Millisecond, 100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond,
		time.Second, 2500 * time.Millisecond, 5 * time.Second, 10 * time.Second, 30 * time.Second, time.Minute, 5 * time.Minute,
	}
}

// latenessBounds go up to what costs an Active its role.
func latenessBounds() []time.Duration {
	return []time.Duration{
		time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond, 10 * time.Millisecond, 25 * time.Millisecond,
		50 * time.Millisecond, 100 * time.Millisecond, 250 * time.Millisecond, time.Second,
	}
}

func newCounters() *Counters {
	return &Counters{
		Transitions: map[TransitionEnd]uint64{}, TransitionTime: map[hooks.Role]Durations{},
		names: map[string]bool{}, Steps: map[StepEnd]uint64{}, StepTime: map[string]Durations{}, AdvertisementLateness: newDurations(latenessBounds()),
	}
}

func (c *Counters) clone() Counters {
	n := *c
	n.names = nil
	n.Transitions, n.Steps = maps.Clone(c.Transitions), maps.Clone(c.Steps)
	n.TransitionTime, n.StepTime = map[hooks.Role]Durations{}, map[string]Durations{}
	for role, d := range c.TransitionTime {
		n.TransitionTime[role] = d.clone()
	}
	for name, d := range c.StepTime {
		n.StepTime[name] = d.clone()
	}
	n.AdvertisementLateness = c.AdvertisementLateness.clone()
	return n
}

// record counts what is being journaled, whether or not the disk takes it.
func (c *Counters) record(r hooks.Record) {
	switch r.Kind {
	case hooks.Ended:
		c.Transitions[TransitionEnd{r.Role, r.Ending}]++
		observe(c.TransitionTime, r.Role, r.Duration)
	case hooks.Stepped:
		name := r.Step.Name
		if !c.names[name] && len(c.names) >= stepNames {
			name = OtherSteps
		}
		c.names[name] = true
		c.Steps[StepEnd{name, r.Step.Outcome}]++
		if r.Step.Outcome != hooks.Skipped {
			observe(c.StepTime, name, r.Step.Duration)
		}
	default:
	}
}

func observe[K comparable](all map[K]Durations, key K, took time.Duration) {
	d, known := all[key]
	if !known {
		d = newDurations(transitionBounds())
	}
	d.observe(took)
	all[key] = d
}

func (c *Counters) renewed(err error) {
	if err != nil {
		c.NotRenewed++
		return
	}
	c.Renewed++
}

// heard counts an event that came from outside.
func (c *Counters) heard(ev failover.Event) {
	if _, ok := ev.(failover.Advertised); ok {
		c.Received++
	}
}

// Counters returns what each instance has done since the daemon started, by name.
func (n *Node) Counters(ctx context.Context) (map[string]Counters, error) {
	return ask(ctx, n, func(context.Context) map[string]Counters {
		all := map[string]Counters{}
		for _, in := range n.instances {
			all[in.Name] = in.counts.clone()
		}
		return all
	})
}
