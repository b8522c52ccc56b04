package sim

import (
	"fmt"
	"io"
	"time"

	"github.com/tanist-ha/tanist/health"
	"github.com/tanist-ha/tanist/internal/failover"
)

// A story is a scenario that a person tells: the default configuration, a few
// things that happen at given times, and the transcript of what the nodes did.

type chapter struct {
	at time.Duration
	do func(w *World)
}

// story is one that the golden files tell.
type story struct {
	name     string
	chapters []chapter
	end      time.Duration
	checks   []health.Check
}

const (
	storyStart = 3 * time.Second // both run and the primary is Active
	storySeed  = 1
)

func stories() []story {
	to := func(label string, timeout time.Duration) func(*World) {
		return func(w *World) {
			w.check.commands++
			w.nodes[0].answer(0, failover.SwitchoverWanted{
				Command: failover.ID(w.check.commands),
				Request: failover.Request{To: label, Timeout: timeout, UID: 1000},
			})
		}
	}
	primary := func(do func(*World, *node)) func(*World) { return func(w *World) { do(w, w.nodes[0]) } }
	return append(healthStories(), []story{
		{"switchover", []chapter{{storyStart, to("reserve", 30*time.Second)}}, 5 * time.Second, nil},
		{"refused-while-lagging", []chapter{
			{storyStart, func(w *World) {
				w.settleAll()
				w.say(1, "replica becomes slow")
				w.nodes[1].dbs[0].slow = 50
			}},
			{storyStart + 12*time.Second, to("reserve", 30*time.Second)},
		}, 17 * time.Second, nil},
		{"power-cut", []chapter{
			{storyStart, primary(func(w *World, n *node) {
				w.say(0, "power cut")
				n.powerOff()
				w.schedule(5*time.Second, item{kind: kPower})
			})},
		}, 12 * time.Second, nil},
		{"kill-and-adopt", []chapter{
			{storyStart, primary(func(w *World, n *node) {
				w.say(0, "daemon killed, to be restarted")
				n.kill()
				w.schedule(100*time.Millisecond, item{kind: kStart})
			})},
		}, 6 * time.Second, nil},
		{"pause-and-late", []chapter{
			{storyStart, primary(func(w *World, n *node) {
				w.say(0, "daemon stands still for 6s")
				n.pause()
				w.schedule(6*time.Second, item{kind: kResume})
			})},
		}, 12 * time.Second, nil},
		{"rollback", []chapter{
			{storyStart, to("reserve", 30*time.Second)},
			{storyStart + 35*time.Millisecond, func(w *World) {
				w.say(1, "power cut")
				w.nodes[1].powerOff()
			}},
		}, 9 * time.Second, nil},
	}...)
}

// healthStories are about one check of each effect, sampled twice a second.
func healthStories() []story {
	checks := []health.Check{
		{Name: "gateway", Rise: 2, Fall: 3, Effect: health.Fault},
		{Name: "disk", Rise: 2, Fall: 3, Effect: health.Yield},
	}
	sick := func(node, check int, is bool) func(*World) {
		return func(w *World) { w.nodes[node].becomes(check, is) }
	}
	const gateway, disk = 0, 1
	var flaps []chapter
	for i := range 2 * health.FlapFalls {
		flaps = append(flaps, chapter{storyStart + time.Duration(2*i)*time.Second, sick(1, disk, i%2 == 0)})
	}
	flaps = append(flaps, chapter{storyStart + 15*time.Second, sick(0, disk, true)})
	return []story{
		{"health-fault", []chapter{{storyStart, sick(0, gateway, true)}, {storyStart + 5*time.Second, sick(0, gateway, false)}}, 12 * time.Second, checks},
		{"health-yield-moves", []chapter{{storyStart, sick(0, disk, true)}}, 8 * time.Second, checks},
		{"health-yield-stays", []chapter{
			{storyStart, sick(1, disk, true)}, {storyStart + 2*time.Second, sick(0, disk, true)}, {storyStart + 20*time.Second, sick(0, disk, false)},
		}, 28 * time.Second, checks},
		{"health-flapping", flaps, 90 * time.Second, checks},
	}
}

// Tell runs a story and writes its transcript.
func (s story) tell(out io.Writer) error {
	setup := DefaultSetup()
	setup.StepTime = 10 * time.Millisecond
	setup.Checks, setup.Probe = s.checks, 500*time.Millisecond
	w := NewWorld(storySeed, setup)
	w.trace = &transcript{out: out}
	w.script = func(i uint64) { s.chapters[i].do(w) }
	for i := range w.nodes {
		w.schedule(0, item{kind: kStart, node: uint8(i)})
	}
	w.schedule(operateEvery, item{kind: kRejoin})
	for i, c := range s.chapters {
		w.schedule(c.at, item{kind: kScript, id: uint64(i)})
	}
	w.Run(s.end)
	for i, n := range w.nodes {
		fmt.Fprintf(out, "at the end: %s is %s, address %t, lsyncd %t, label %q\n",
			labels[i], n.state.State, n.kernel.holds(), n.unit, n.file)
	}
	return w.Failure()
}
