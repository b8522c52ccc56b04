package main

import (
	"context"
	"errors"
	"maps"
	"sync"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/hooks/journal"
	"github.com/tanist-ha/tanist/hooks/notify"
	"github.com/tanist-ha/tanist/hooks/step"
	"github.com/tanist-ha/tanist/internal/node"
)

// recordPatience bounds how long a notice's record waits for the journal.
const recordPatience = 10 * time.Second

// notices delivers what the notify steps of all instances have to tell, and
// journals what became of it. It outlives the instances and, a little, the node.
type notices struct {
	courier *notify.Courier
	journal func(ctx context.Context, instance string, r hooks.Record) error // the node's, while that runs
	log     *logger

	mu     sync.Mutex        // guards the fields below
	late   []hooks.Record    // for which the node has ended too early
	became map[string]uint64 // how many ended so
}

// What became of a notice, as the metric calls it.
const (
	noticeDelivered = "delivered"
	noticeFailed    = "failed"  // every attempt
	noticeDropped   = "dropped" // too many waited, or the daemon ended
	noticeLost      = "lost"    // the daemon ended without a word about it
)

func noticeResult(o hooks.Outcome) string {
	switch {
	case o.OK():
		return noticeDelivered
	case o == hooks.Cancelled:
		return noticeDropped
	case o == hooks.Lost:
		return noticeLost
	}
	return noticeFailed
}

// counts returns how many notices ended how, since the daemon started.
func (n *notices) counts() map[string]uint64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	all := map[string]uint64{noticeDelivered: 0, noticeFailed: 0, noticeDropped: 0, noticeLost: 0}
	maps.Copy(all, n.became)
	return all
}

func newNotices(cgroup string, log *logger) *notices {
	n := &notices{log: log, became: map[string]uint64{}}
	n.courier = notify.New(notify.Config{
		Run: func(ctx context.Context, command []string) notify.Delivery {
			program := step.NewExec(hooks.Exec{Command: command}, cgroup)
			var d notify.Delivery
			d.Outcome, d.Detail = step.Execute(ctx, program)
			d.Output = step.Printed(program)
			return d
		},
		Record: n.record,
	})
	return n
}

func (n *notices) post(of hooks.Step, a hooks.Notify) {
	n.courier.Post(notify.Notice{Step: of, Action: a, At: time.Now()})
}

func (n *notices) record(r hooks.Record) {
	ctx, cancel := context.WithTimeout(context.Background(), recordPatience)
	defer cancel()
	n.tell(r)
	err := n.journal(ctx, r.Instance, r)
	if errors.Is(err, node.ErrStopped) {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.late = append(n.late, r)
		return
	}
	if err != nil {
		n.log.Trouble(r.Instance, "journal what became of the notice "+r.Step.Name, err)
	}
}

func (n *notices) tell(r hooks.Record) {
	n.mu.Lock()
	n.became[noticeResult(r.Step.Outcome)]++
	n.mu.Unlock()
	fields := []zap.Field{
		zap.String("instance", r.Instance), zap.String("step", r.Step.Name), zap.Uint32("attempts", r.Attempts),
		zap.String("outcome", r.Step.Outcome.String()), zap.String("detail", r.Step.Detail),
	}
	if r.Step.Outcome.OK() {
		n.log.event(kindNotice, zapcore.InfoLevel, "a notice was delivered", fields...)
		return
	}
	n.log.event(kindNoticeFailed, zapcore.WarnLevel, "a notice was not delivered", fields...)
}

// finish journals what the node could not take any more, once that has left. What
// is not journaled is found as lost at the next start.
func (n *notices) finish(j *journal.Journal) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.late) == 0 {
		return nil
	}
	if err := j.Append(n.late...); err != nil {
		return err
	}
	return j.Sync()
}

// lost journals the notices of which an earlier daemon did not say what became.
// They are not repeated: who was told twice would not know it.
func (n *notices) lost(j *journal.Journal, entries []journal.Entry) {
	records := make([]hooks.Record, len(entries))
	for i, e := range entries {
		records[i] = e.Record
	}
	lost := hooks.Unnotified(records)
	if len(lost) == 0 {
		return
	}
	for _, r := range lost {
		n.tell(r)
	}
	if err := j.Append(lost...); err != nil {
		n.log.Trouble("", "journal the notices that were lost", err)
	}
}
