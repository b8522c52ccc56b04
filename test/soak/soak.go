package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/tanist-ha/tanist/test/lab"
	"github.com/tanist-ha/tanist/test/site"
)

// bound is for whatever has to happen at all.
const bound = 2 * time.Minute

// minRate is what the writers must have acknowledged while nothing was moved, in
// rows a second, for a run to prove anything.
const minRate = 500

// longGap is a gap whose steps are shown.
const longGap = time.Second

// soak is one run on one site.
type soak struct {
	*site.Site
	rate   int
	tell   func(format string, args ...any)
	broken []string // what must not be, and was
	nextID int64
	random *rand.Rand // of the Compass rounds
}

// up makes a site whose primary is Active and whose reserve could take over.
func up(ctx context.Context, o site.Options, tell func(string, ...any)) (*site.Site, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	o.Lab.Log, o.Log = tell, tell
	s, err := site.Up(ctx, o)
	if err != nil {
		return nil, err
	}
	if err = s.Start(ctx); err == nil {
		err = s.AwaitSettled(ctx, s.Primary)
	}
	if err != nil {
		down, cancel := context.WithTimeout(context.WithoutCancel(ctx), bound)
		defer cancel()
		return nil, fmt.Errorf("%w (%w)", err, s.Down(down))
	}
	return s, nil
}

// wrong notes what must not be.
func (k *soak) wrong(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	k.broken = append(k.broken, text)
	k.tell("WRONG: %s", text)
}

// write starts the writers and waits until they write.
func (k *soak) write(ctx context.Context, active *lab.Node) (*site.Writers, error) {
	connections := 1
	if len(k.Databases) < 8 {
		connections = 8 / len(k.Databases)
	}
	begun := time.Now()
	w, err := k.StartWriters(ctx, site.Load{Rate: k.rate, Connections: connections, Patience: time.Second}, k.nextID)
	if err != nil {
		return nil, err
	}
	k.nextID += 1 << 40
	if err := w.AwaitFrom(ctx, k.ServerID(active), begun); err != nil {
		w.Stop()
		return nil, err
	}
	return w, nil
}

// switchovers hands the role over so many times, asked on alternating hosts,
// and then compares.
func switchovers(ctx context.Context, k *soak, times int) error {
	active := k.Primary
	w, err := k.write(ctx, active)
	if err != nil {
		return err
	}
	defer w.Stop()
	sampler := k.StartSampler(ctx)
	defer sampler.Stop()
	m := &moves{begun: time.Now()}
	for i := range times {
		bounded, cancel := context.WithTimeout(ctx, bound)
		err := k.switchover(bounded, w, active, i, m)
		cancel()
		if err != nil {
			return fmt.Errorf("switchover %d: %w", i+1, err)
		}
		active = k.Peer(active)
	}
	took := time.Since(m.begun)
	w.Stop()
	k.report(w, m, took)
	holders := sampler.Stop()
	k.tell("nobody had the address for %s, both for %s, longest", holders.None, holders.Both)
	if holders.None > 0 {
		k.wrong("nobody had the address for %s", holders.None)
	}
	ctx, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	return k.compare(ctx, w, active)
}

// moves are what the writers saw of the switchovers.
type moves struct {
	begun time.Time
	worst []time.Duration // of each, the longest gap of any database
	total time.Duration   // of all of them
}

func (k *soak) switchover(ctx context.Context, w *site.Writers, active *lab.Node, i int, m *moves) error {
	on := active
	if i%2 == 1 {
		on = k.Peer(active)
	}
	begun := time.Now()
	r, err := k.Tanist(ctx, on, "switchover")
	if err != nil {
		return err
	}
	if r.Code != 0 {
		return fmt.Errorf("exit status %d\n%s%s", r.Code, r.Stdout, r.Stderr)
	}
	next := k.Peer(active)
	if err := w.AwaitFrom(ctx, k.ServerID(next), begun); err != nil {
		return err
	}
	var worst time.Duration
	for _, g := range w.Gaps(k.ServerID(active), begun) {
		worst = max(worst, g.Length())
	}
	m.worst = append(m.worst, worst)
	m.total += worst
	k.tell("%d: %s to %s, asked on %s; gap %s", i+1, active.Hostname, next.Hostname, on.Hostname, worst.Round(time.Millisecond))
	if worst > longGap {
		k.tell("its steps:\n%s", r.Stdout)
	}
	return k.AwaitSettled(ctx, next)
}

func (k *soak) report(w *site.Writers, m *moves, took time.Duration) {
	t := w.Tally()
	rate := float64(t.Acknowledged) / (took - m.total).Seconds()
	slices.Sort(m.worst)
	k.tell("%d switchovers, longest gap of a database: median %s, worst %s", len(m.worst),
		m.worst[len(m.worst)/2].Round(time.Millisecond), m.worst[len(m.worst)-1].Round(time.Millisecond))
	k.tell("%d rows acknowledged (%.0f/s between the gaps), %d refused, %d without an answer", t.Acknowledged, rate, t.Refused, t.Unknown)
	if rate < minRate {
		k.tell("NOTE: fewer than %d rows a second: this machine was too slow for what the run is to prove", minRate)
	}
}

// compare holds both hosts against what was acknowledged, and against each other.
// The writers are stopped.
func (k *soak) compare(ctx context.Context, w *site.Writers, active *lab.Node) error {
	if err := k.AwaitEqual(ctx, active); err != nil {
		return err
	}
	for _, n := range k.Nodes() {
		all, err := k.Rows(ctx, w, n)
		if err != nil {
			return err
		}
		for _, r := range all {
			if len(r.Missing) > 0 {
				k.wrong("%d acknowledged rows of %s are missing on %s, the first is %s", len(r.Missing), r.Database.Name(), n.Hostname, r.Missing[0].GTID)
			}
			if len(r.Duplicated) > 0 {
				k.wrong("%d rows of %s are on %s more than once, the first is %d", len(r.Duplicated), r.Database.Name(), n.Hostname, r.Duplicated[0])
			}
		}
	}
	return k.same(ctx, active)
}

// same compares the two hosts.
func (k *soak) same(ctx context.Context, active *lab.Node) error {
	differ, err := k.Unequal(ctx)
	if err != nil {
		return err
	}
	for _, line := range differ {
		k.wrong("the tables differ: %s", line)
	}
	for _, d := range k.Databases {
		errant, err := k.Errant(ctx, d, k.Peer(active))
		if err != nil {
			return err
		}
		if len(errant) > 0 {
			k.wrong("%s of the standby has errant transactions: %s", d.Name(), strings.Join(errant, ", "))
		}
	}
	return nil
}

// explain shows what an operator would look at first.
func (k *soak) explain(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	for _, n := range k.Nodes() {
		if n.On() {
			r, err := k.Tanist(ctx, n, "status")
			k.tell("status of %s (%v):\n%s%s", n.Hostname, err, r.Stdout, r.Stderr)
			for _, what := range []string{
				"SELECT ID, USER, COMMAND, TIME_MS, STATE, LEFT(INFO, 80) FROM information_schema.PROCESSLIST",
				"SELECT trx_mysql_thread_id, trx_state, trx_started, trx_rows_modified FROM information_schema.INNODB_TRX",
				"SELECT @@gtid_slave_pos, @@gtid_binlog_pos, @@read_only", "SHOW ALL SLAVES STATUS",
			} {
				rows, err := n.SQLAt(ctx, k.Databases[0].Socket(), what)
				k.tell("%s, %s (%v): %q", n.Hostname, what, err, rows)
			}
		}
		log, err := n.Journal(ctx, "tanist.service")
		lines := strings.Split(strings.TrimSpace(log), "\n")
		k.tell("journal of %s (%v):\n%s", n.Hostname, err, strings.Join(lines[max(0, len(lines)-40):], "\n"))
	}
}
