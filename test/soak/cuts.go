package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/tanist-ha/tanist/test/lab"
	"github.com/tanist-ha/tanist/test/site"
)

// cuts takes the power of the active host so many times, brings it back each
// time, and compares what was lost with what was reported.
func cuts(ctx context.Context, k *soak, times int) error {
	active := k.Primary
	var t losses
	for i := range times {
		bounded, cancel := context.WithTimeout(ctx, 3*bound)
		err := k.cut(bounded, active, i, &t)
		cancel()
		if err != nil {
			return fmt.Errorf("cut %d: %w", i+1, err)
		}
		active = k.Peer(active)
	}
	slices.Sort(t.served)
	k.tell("%d power cuts, %d rows acknowledged; lost %d acknowledged rows in %d cuts; served again after %s median, %s worst",
		len(t.served), t.acknowledged, t.rows, t.cuts, t.served[len(t.served)/2].Round(time.Millisecond), t.served[len(t.served)-1].Round(time.Millisecond))
	k.tell("transactions lost %d, reported: %d proved, at most %d (and %d databases without a bound)", t.transactions, t.proved, t.atMost, t.unbounded)
	k.tell("the way back: %s", t.back)
	return nil
}

// losses adds up what the cuts cost.
type losses struct {
	served       []time.Duration // from the cut until all databases took rows again
	acknowledged int
	rows         int // acknowledged and lost
	cuts         int // in which a row was
	transactions uint64
	proved       uint64 // reported
	atMost       uint64 // reported
	unbounded    int    // reports without a bound
	back         site.Rejoined
}

// cut is one power cut of the active host under load, its return and what follows.
func (k *soak) cut(ctx context.Context, active *lab.Node, i int, t *losses) error {
	standby := k.Peer(active)
	w, err := k.write(ctx, active)
	if err != nil {
		return err
	}
	defer w.Stop()
	watch, err := k.WatchRelay(ctx, standby)
	if err != nil {
		return err
	}
	defer watch.Stop()
	// Another instant each time, in the second after the writers write.
	if err := wait(ctx, time.Second+time.Duration(i*137%1000)*time.Millisecond); err != nil {
		return err
	}
	trouble := troubles()[i%len(troubles())]
	relieve, err := trouble.begin(ctx, k, active)
	if err != nil {
		return err
	}
	defer relieve()
	if err := wait(ctx, troubleTime); err != nil {
		return err
	}
	begun := time.Now()
	if err := active.PowerOff(ctx); err != nil {
		return err
	}
	if err := wait(ctx, trouble.after); err != nil {
		return err
	}
	relieve()
	if err := k.AwaitState(ctx, standby, "active"); err != nil {
		return err
	}
	if err := w.AwaitFrom(ctx, k.ServerID(standby), begun); err != nil {
		return err
	}
	w.Stop()
	served := servedAgain(w, k.ServerID(active), begun)
	t.served = append(t.served, served)
	t.acknowledged += w.Tally().Acknowledged
	if err := k.opened(ctx, watch); err != nil {
		return err
	}
	watch.Stop()
	lost, err := k.lost(ctx, w, watch, standby)
	if err != nil {
		return err
	}
	reports, err := k.lossReports(ctx, standby)
	if err != nil {
		return err
	}
	if err := k.comeBack(ctx, active); err != nil {
		return err
	}
	if err := k.judge(ctx, active, lost, reports, t); err != nil {
		return err
	}
	k.tell("%d: %s lost its power, %s; served again after %s; %s; %s", i+1, active.Hostname, trouble.title, served.Round(time.Millisecond), summary(lost), reports)
	back, err := k.rejoin(ctx, active, i%2 == 0)
	t.back.Add(back)
	return err
}

// trouble is what is wrong with the replication before the power goes.
type trouble struct {
	title string
	after time.Duration // for how long it goes on after the cut
	begin func(context.Context, *soak, *lab.Node) (relieve func(), err error)
}

// Times of a trouble.
const (
	troubleTime = 300 * time.Millisecond // before the cut
	// drainTime is longer than the standby takes to find out: it has to wait.
	drainTime = 1500 * time.Millisecond
)

func troubles() []trouble {
	return []trouble{
		{"replicating", 0, func(context.Context, *soak, *lab.Node) (func(), error) { return func() {}, nil }},
		{"not all received", 0, unsent},
		{"not all applied", drainTime, unapplied},
	}
}

// unsent keeps the rows, not the heartbeats and not the clients, from the standby.
func unsent(ctx context.Context, k *soak, active *lab.Node) (func(), error) {
	heal := sync.OnceFunc(func() {
		if err := k.Heal(context.WithoutCancel(ctx)); err != nil {
			k.tell("heal: %v", err)
		}
	})
	return heal, k.CutOneWay(ctx, active, k.Peer(active), lab.Eth0)
}

// unapplied holds the standby's first database up while it receives.
func unapplied(ctx context.Context, k *soak, active *lab.Node) (func(), error) {
	return k.HoldTable(ctx, k.Databases[0], k.Peer(active))
}

// wait is a part of the load, not a way to wait for something.
func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

func servedAgain(w *site.Writers, server uint32, cut time.Time) time.Duration {
	var longest time.Duration
	for _, g := range w.Gaps(server, cut) {
		longest = max(longest, g.First.Sub(cut))
	}
	return longest
}

// opened waits until the watch saw each database open.
func (k *soak) opened(ctx context.Context, watch *site.RelayWatch) error {
	return site.Await(ctx, "each database is seen open", func(context.Context) error {
		for _, d := range k.Databases {
			if watch.Seen(d).Opened.IsZero() {
				return errors.New(d.Name() + " is not")
			}
		}
		return nil
	})
}

// loss is the truth about one database after a cut.
type loss struct {
	database site.Database
	rows     []site.Ack    // acknowledged, and not on the new active host
	at       site.Position // what the new active host had applied when it opened
	// transactions that the old host had and the new one had not, acknowledged or
	// not; known when the old host is back.
	transactions uint64
}

// lost finds the rows that are not on the new active host, and notes where what
// had been received was not applied.
func (k *soak) lost(ctx context.Context, w *site.Writers, watch *site.RelayWatch, active *lab.Node) ([]loss, error) {
	all, err := k.Rows(ctx, w, active)
	if err != nil {
		return nil, err
	}
	losses := make([]loss, 0, len(all))
	for _, r := range all {
		seen := watch.Seen(r.Database)
		if seen.Looks == 0 {
			return nil, fmt.Errorf("%s was never looked at", r.Database.Name())
		}
		if n := seen.AtOpen.Lacks(seen.Received); n > 0 {
			k.wrong("%s was opened with %d received transactions not applied (received %v, applied %v)", r.Database.Name(), n, seen.Received, seen.AtOpen)
		}
		for _, a := range r.Missing {
			if seen.Received.Has(a.GTID) {
				k.wrong("%s: row %d, transaction %s, is lost and had been received", r.Database.Name(), a.ID, a.GTID)
			}
		}
		if len(r.Duplicated) > 0 {
			k.wrong("%d rows of %s are there more than once, the first is %d", len(r.Duplicated), r.Database.Name(), r.Duplicated[0])
		}
		losses = append(losses, loss{database: r.Database, rows: r.Missing, at: seen.AtOpen})
	}
	return losses, nil
}

func summary(all []loss) string {
	rows, transactions := 0, uint64(0)
	for _, l := range all {
		rows += len(l.rows)
		transactions += l.transactions
	}
	if transactions == 0 {
		return "nothing lost"
	}
	return fmt.Sprintf("lost %d transactions, %d of them acknowledged", transactions, rows)
}

// comeBack gives the old active host its power again, and waits until it is a
// standby.
func (k *soak) comeBack(ctx context.Context, n *lab.Node) error {
	if err := n.PowerOn(ctx); err != nil {
		return err
	}
	return k.AwaitState(ctx, n, "backup")
}

// rejoin makes the returned host a replica with the same rows, and empties the
// tables for the next cut.
func (k *soak) rejoin(ctx context.Context, returned *lab.Node, discard bool) (site.Rejoined, error) {
	active := k.Peer(returned)
	if err := k.Truncate(ctx, active); err != nil {
		return site.Rejoined{}, err
	}
	back, err := k.Rejoin(ctx, returned, discard)
	if err == nil {
		err = k.same(ctx, active)
	}
	if err == nil {
		err = k.AwaitSettled(ctx, active)
	}
	return back, err
}
