package notify

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/tanist-ha/tanist/hooks"
)

// QueueSize is how many notices of one instance wait at most. When one more comes
// the oldest is dropped: what is so now is worth more than what was.
const QueueSize = 64

// Bounds of a delivery.
const (
	// Attempts is how often one notice is tried.
	Attempts = 5
	// AttemptTime bounds one attempt.
	AttemptTime = 10 * time.Second
	// FirstPause is the time between the first two attempts; each later one is
	// twice as long.
	FirstPause = time.Second
	// LeaveTime is what the notices that wait get when the daemon leaves.
	LeaveTime = 3 * time.Second
)

// Notice is what is to be told to somebody.
type Notice struct {
	Step   hooks.Step   // whose notice it is
	Action hooks.Notify // of the step, expanded
	At     time.Time    // when the plan came to it
}

// Delivery is how one attempt ended.
type Delivery struct {
	Outcome hooks.Outcome // Changed when it was delivered
	Detail  string
	Output  string // of a program
	Final   bool   // another attempt would end the same way
}

// Config is what a Courier works with.
type Config struct {
	// Run runs a program until it or ctx ends, and leaves nothing of it behind.
	Run func(ctx context.Context, command []string) Delivery
	// Record keeps what became of a notice. It is called by several goroutines and
	// may block for a bounded time; what Post drops waits for it with the others.
	Record func(hooks.Record)
}

// Courier delivers notices.
type Courier struct {
	cfg     Config
	times   times
	leaving chan struct{} // closed when the daemon leaves

	mu    sync.Mutex // guards the fields below
	lanes map[string]*lane
	state state
	busy  sync.WaitGroup // of lanes that work; only started under mu while running
	work  func(n Notice) // delivers one, set by Run
}

type times struct {
	attempt, pause, leave time.Duration
}

type state uint8

const (
	waiting state = iota // before Run
	running
	ended
)

// lane holds the notices of one instance that wait.
type lane struct {
	queue   []Notice
	dropped []Notice // not recorded yet, QueueSize at most
	works   bool
}

// New returns a Courier that delivers nothing before Run.
func New(cfg Config) *Courier {
	return &Courier{
		cfg: cfg, times: times{AttemptTime, FirstPause, LeaveTime}, leaving: make(chan struct{}), lanes: map[string]*lane{},
	}
}

// Post takes a notice and does not wait, unless QueueSize dropped ones wait for their
// record. One that is not taken any more is recorded as dropped.
func (c *Courier) Post(n Notice) {
	if dropped, why := c.post(n); why != "" {
		c.drop(dropped, why)
	}
}

func (c *Courier) drop(n Notice, why string) {
	c.record(n, 0, Delivery{Outcome: hooks.Cancelled, Detail: why}, 0)
}

func overflow() string { return fmt.Sprintf("dropped: %d newer notices wait", QueueSize) }

// post returns the notice that is dropped for it and that no lane records, with the
// reason.
func (c *Courier) post(n Notice) (dropped Notice, why string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state == ended {
		return n, "dropped: the daemon ends"
	}
	name := n.Action.Vars.Instance
	l := c.lanes[name]
	if l == nil {
		l = &lane{}
		c.lanes[name] = l
	}
	l.queue = append(l.queue, n)
	if len(l.queue) > QueueSize {
		l.dropped, l.queue = append(l.dropped, l.queue[0]), l.queue[1:]
	}
	if len(l.dropped) > QueueSize {
		dropped, l.dropped, why = l.dropped[0], l.dropped[1:], overflow()
	}
	c.begin(l)
	return dropped, why
}

// begin lets a lane work. The caller has mu.
func (c *Courier) begin(l *lane) {
	if c.state != running || l.works || len(l.queue) == 0 {
		return
	}
	l.works = true
	c.busy.Go(func() {
		for {
			n, dropped, ok := c.next(l)
			switch {
			case !ok:
				return
			case dropped:
				c.drop(n, overflow())
			default:
				c.work(n)
			}
		}
	})
}

// next takes out what a lane does next: to record the dropped ones, which are older,
// comes before the others.
func (c *Courier) next(l *lane) (n Notice, dropped, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	from := &l.queue
	if len(l.dropped) > 0 {
		from, dropped = &l.dropped, true
	}
	if len(*from) == 0 {
		l.works = false
		return Notice{}, false, false
	}
	n, *from = (*from)[0], (*from)[1:]
	return n, dropped, true
}

// Run delivers until ctx ends. What waits then gets LeaveTime and one attempt each;
// the rest is recorded as dropped. kill ends that at once. When Run returns every
// notice has its record and nothing is under way.
func (c *Courier) Run(ctx, kill context.Context) error {
	work, cut := context.WithCancel(kill)
	defer cut()
	c.mu.Lock()
	c.state, c.work = running, func(n Notice) { c.deliver(work, n) }
	for _, l := range c.lanes {
		c.begin(l)
	}
	c.mu.Unlock()
	select {
	case <-ctx.Done():
	case <-kill.Done():
	}
	close(c.leaving)
	late := time.AfterFunc(c.times.leave, cut)
	defer late.Stop()
	c.mu.Lock()
	c.state = ended // lanes go on with what they have
	c.mu.Unlock()
	c.busy.Wait()
	return nil
}

// deliver tries one notice as often as it may and records how that ended.
func (c *Courier) deliver(work context.Context, n Notice) {
	began, pause := time.Now(), c.times.pause
	last := Delivery{Outcome: hooks.Cancelled, Detail: "dropped: the daemon ends"}
	tries := uint32(0)
	for work.Err() == nil {
		tries++
		last = c.attempt(work, n)
		if last.Outcome.OK() || last.Final || tries == Attempts || !c.pause(work, pause) {
			break
		}
		pause *= 2
	}
	if tries > 0 && !last.Outcome.OK() && tries < Attempts && !last.Final {
		last.Outcome, last.Detail = hooks.Cancelled, "dropped, as the daemon ends: "+last.Detail
	}
	c.record(n, tries, last, time.Since(began))
}

// pause waits between two attempts; a daemon that leaves makes none after it.
func (c *Courier) pause(work context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-c.leaving:
	case <-work.Done():
	}
	return false
}

func (c *Courier) attempt(work context.Context, n Notice) Delivery {
	ctx, cancel := context.WithTimeout(work, c.times.attempt)
	defer cancel()
	if len(n.Action.Exec) > 0 {
		return c.cfg.Run(ctx, n.Action.Exec)
	}
	return post(ctx, n)
}

func (c *Courier) record(n Notice, tries uint32, d Delivery, took time.Duration) {
	r := hooks.NoticeOf(n.Step, n.Action)
	r.Attempts = tries
	r.Step.Outcome, r.Step.Detail, r.Step.Output, r.Step.Duration = d.Outcome, d.Detail, d.Output, took
	c.cfg.Record(r)
}
