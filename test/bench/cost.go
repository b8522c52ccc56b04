package main

// What the two programs cost at rest: time on a core and memory, by the number of
// instances and the advertisement interval, and whether they keep their addresses
// while every core is busy.

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"time"
)

const (
	// restTime is what a pair gets to come to rest: both programs repeat their
	// announcements 5 s after a takeover.
	restTime = 7 * time.Second
	// busyTime is for how long every core is kept busy.
	busyTime = 30 * time.Second
	// overTime is what the pair gets after that to come to rest again.
	overTime = 5 * time.Second
)

// costPlan says what is measured.
type costPlan struct {
	Instances []int
	Intervals []time.Duration
	Window    time.Duration // of the CPU time
	Busy      bool          // the highest number of instances beside busy cores, too
	Asked     int           // how often each question is asked, where a program answers any
}

// Cost is what one pair cost, or why it could not be measured.
type Cost struct {
	Program   string        `json:"program"`
	Instances int           `json:"instances"`
	Interval  time.Duration `json:"interval_ns"`
	Sides     [2]CostSide   `json:"sides"` // Active, Backup
	Moves     Moves         `json:"moves"` // while nothing happened
	Busy      *Busy         `json:"busy,omitempty"`
	Answers   []Answer      `json:"answers,omitempty"` // after what Sides is about
	Cannot    string        `json:"cannot,omitempty"`
}

// CostSide is what all processes of one daemon cost.
type CostSide struct {
	CPU float64 `json:"cpu_percent"` // of one core
	// Sent is what the router sent, in frames a second: an Active that keeps its
	// interval sends at least one for each instance and interval.
	Sent float64 `json:"frames_per_second"`
	RSS  int64   `json:"rss_bytes"`
	PSS  int64   `json:"pss_bytes"`
}

// Busy is what happened to the addresses while every core was busy.
type Busy struct {
	Spinners int           `json:"spinners"`
	Time     time.Duration `json:"time_ns"`
	Moves    Moves         `json:"moves"`
	Answers  []Answer      `json:"answers,omitempty"` // meanwhile
	// Where the addresses were afterwards: on one router each, on both, on none.
	First, Second, Both, None int
}

// measureCost measures one combination. An error is this program's trouble; what
// the measured program cannot do is in the Cost.
func measureCost(ctx context.Context, p program, set settings, plan costPlan, dir string) (Cost, error) {
	c := Cost{Program: p.name(), Instances: set.Instances, Interval: set.Interval}
	pr, err := newPair(ctx, p, set, dir)
	if err != nil {
		if ctx.Err() != nil {
			return c, ctx.Err()
		}
		c.Cannot = firstLine(err)
		return c, nil
	}
	err = c.measure(ctx, pr, plan)
	return c, errors.Join(err, pr.close())
}

func (c *Cost) measure(ctx context.Context, p *pair, plan costPlan) error {
	if err := pause(ctx, restTime); err != nil {
		return err
	}
	w, err := watchMoves(p)
	if err != nil {
		return err
	}
	defer w.stop()
	before, err := readMeters(p)
	if err != nil {
		return err
	}
	if err := pause(ctx, plan.Window); err != nil {
		return err
	}
	after, err := readMeters(p)
	if err != nil {
		return err
	}
	c.Moves = w.moves()
	for _, s := range []side{first, second} {
		c.Sides[s] = after[s].since(before[s])
		if c.Sides[s].RSS, c.Sides[s].PSS, err = p.daemons[s].memory(); err != nil {
			return err
		}
	}
	if c.Answers, err = askAll(ctx, p, first, plan.Asked); err != nil {
		return err
	}
	if !plan.Busy || c.Instances != plan.most() {
		return nil
	}
	c.Busy, err = underLoad(ctx, p, w, plan.Asked)
	return err
}

// meter is what only grows.
type meter struct {
	at   time.Time
	cpu  time.Duration
	sent uint64
}

func readMeters(p *pair) (m [2]meter, err error) {
	for _, s := range []side{first, second} {
		link, err := p.routers[s].LinkByName(eth)
		if err != nil {
			return m, fmt.Errorf("count the frames of %s: %w", s, err)
		}
		m[s].at = time.Now()
		if m[s].cpu, err = p.daemons[s].cpu(); err != nil {
			return m, err
		}
		m[s].sent = link.Attrs().Statistics.TxPackets
	}
	return m, nil
}

func (m meter) since(before meter) CostSide {
	span := m.at.Sub(before.at)
	return CostSide{
		CPU:  100 * float64(m.cpu-before.cpu) / float64(span),
		Sent: float64(m.sent-before.sent) / span.Seconds(),
	}
}

func (p costPlan) most() int {
	most := 0
	for _, n := range p.Instances {
		most = max(most, n)
	}
	return most
}

// underLoad counts what happens to the addresses while every core is busy.
func underLoad(ctx context.Context, p *pair, w *watch, asked int) (*Busy, error) {
	b := &Busy{Spinners: runtime.NumCPU(), Time: busyTime}
	before := w.moves()
	end, err := spin(p.bridge, b.Spinners, busyTime)
	if err != nil {
		return nil, err
	}
	began := time.Now()
	b.Answers, err = askAll(ctx, p, first, asked)
	if err == nil {
		err = pause(ctx, busyTime-time.Since(began))
	}
	end()
	if err != nil {
		return nil, err
	}
	if err := pause(ctx, overTime); err != nil {
		return nil, err
	}
	after := w.moves()
	b.Moves = Moves{after.Lost - before.Lost, after.Taken - before.Taken}
	held, err := p.holders()
	if err != nil {
		return nil, err
	}
	for vrid := 1; vrid <= p.set.Instances; vrid++ {
		switch a := vipOf(vrid); {
		case held[first][a] && held[second][a]:
			b.Both++
		case held[first][a]:
			b.First++
		case held[second][a]:
			b.Second++
		default:
			b.None++
		}
	}
	return b, nil
}

// spinVariable makes this program a spinner: it keeps a core busy for that long.
const spinVariable = "TANIST_BENCH_SPIN"

// spinIfTold never returns in a spinner.
func spinIfTold() {
	text, told := os.LookupEnv(spinVariable)
	if !told {
		return
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		fmt.Fprintln(os.Stderr, spinVariable+": "+err.Error())
		os.Exit(2)
	}
	runtime.GOMAXPROCS(1)
	for end := time.Now().Add(d); time.Now().Before(end); {
		continue
	}
	os.Exit(0)
}

// spin starts processes that keep a core busy each, for d at most. They end with
// the namespace that starts them.
func spin(in *space, n int, d time.Duration) (end func(), err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	var all []*exec.Cmd
	end = func() {
		for _, c := range all {
			_ = c.Process.Kill()
			_ = c.Wait()
		}
	}
	for range n {
		c := exec.Command(self)
		c.Env = []string{spinVariable + "=" + d.String()}
		c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		if err := in.do(c.Start); err != nil {
			end()
			return nil, fmt.Errorf("start a spinner: %w", err)
		}
		all = append(all, c)
	}
	return end, nil
}

// measureCosts measures every combination, both programs next to each other.
func measureCosts(ctx context.Context, programs []program, plan costPlan, base settings, dir string, tell func(string, ...any)) ([]Cost, error) {
	var all []Cost
	for _, n := range plan.Instances {
		for _, interval := range plan.Intervals {
			for _, p := range programs {
				set := base
				set.Instances, set.Interval = n, interval
				c, err := measureCost(ctx, p, set, plan, filepath.Join(dir, fmt.Sprintf("c%d", len(all))))
				if err != nil {
					return all, err
				}
				tell("%s", c)
				all = append(all, c)
			}
		}
	}
	return all, nil
}

func (c Cost) String() string {
	text := fmt.Sprintf("%s, %d instances, %v: ", c.Program, c.Instances, c.Interval)
	if c.Cannot != "" {
		return text + "cannot: " + c.Cannot
	}
	text += fmt.Sprintf("CPU %.2f %% and %.2f %%, frames/s %.0f and %.0f, RSS %s and %s MB, PSS %s and %s MB", c.Sides[0].CPU, c.Sides[1].CPU, c.Sides[0].Sent, c.Sides[1].Sent,
		mega(c.Sides[0].RSS), mega(c.Sides[1].RSS), mega(c.Sides[0].PSS), mega(c.Sides[1].PSS))
	if c.Moves != (Moves{}) {
		text += fmt.Sprintf(", AT REST %d lost and %d taken over", c.Moves.Lost, c.Moves.Taken)
	}
	if b := c.Busy; b != nil {
		text += fmt.Sprintf("; busy: %d lost, %d taken over, then %d/%d/%d/%d on a/b/both/none", b.Moves.Lost, b.Moves.Taken, b.First, b.Second, b.Both, b.None)
	}
	return text
}

func mega(bytes int64) string { return fmt.Sprintf("%.1f", float64(bytes)/1e6) }
