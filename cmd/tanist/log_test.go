package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/internal/failover"
	"github.com/tanist-ha/tanist/replication"
)

func observed(level zapcore.Level) (*logger, *observer.ObservedLogs) {
	core, lines := observer.New(level)
	return &logger{zap: zap.New(core), queue: make(chan func(*zap.Logger), logQueue), told: map[string]*trouble{}}, lines
}

// flush writes what is queued.
func flush(l *logger) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	l.run(ctx)
}

func TestTheSameTroubleIsToldOnceInAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, lines := observed(zapcore.DebugLevel)
		err := errors.New("no such device")
		for range 25 { // one each second
			l.Trouble("compass", "hold the address", err)
			l.Trouble("compass", "drop the address", err)
			l.Trouble("web", "hold the address", err)
			time.Sleep(time.Second)
		}
		flush(l)
		var got []string
		for _, e := range lines.FilterField(zap.String("instance", "compass")).FilterMessage("hold the address").All() {
			got = append(got, fmt.Sprint(e.Level, " ", e.ContextMap()["error"], " ", e.ContextMap()["times_untold"]))
		}
		want := []string{"warn no such device <nil>", "warn no such device 9", "warn no such device 9"}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		if lines.Len() != 9 {
			t.Errorf("%d lines of three troubles, want 9", lines.Len())
		}
	})
}

// Whatever is wrong, what the logger remembers of it stays bounded.
func TestKindsOfTroubleAreBounded(t *testing.T) {
	l, _ := observed(zapcore.DebugLevel)
	for i := range 10 * troubleKinds {
		l.Trouble("compass", fmt.Sprintf("do thing %d", i), errors.New("no"))
		if len(l.told) > troubleKinds {
			t.Fatalf("%d kinds", len(l.told))
		}
	}
}

// A log that nobody writes holds up nobody, and says later what it lost.
func TestTheLoggerNeverBlocks(t *testing.T) {
	l, lines := observed(zapcore.DebugLevel)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range logQueue {
				l.Note("compass", failover.Note{State: failover.Active})
			}
		})
	}
	wg.Wait()
	if got := l.dropped.Load(); got != 3*logQueue {
		t.Errorf("%d dropped, want %d", got, 3*logQueue)
	}
	flush(l)
	said := lines.FilterMessage("log lines were dropped").All()
	if len(said) != 1 || said[0].ContextMap()["since_start"] != uint64(3*logQueue) || lines.Len() != logQueue+1 {
		t.Errorf("%d lines, %v", lines.Len(), said)
	}
	l.info("again")
	flush(l)
	if lines.Len() != logQueue+2 {
		t.Error("the same loss was told twice")
	}
}

func TestNote(t *testing.T) {
	l, lines := observed(zapcore.DebugLevel)
	l.Note("compass", failover.Note{
		State: failover.Refused, Epoch: 7, Urgent: true,
		Why: failover.Why{Reason: failover.GateClosed, Gate: []replication.Reason{
			{Code: replication.Lagging, Database: "pivot", Detail: "7.0 s behind"}, {Code: replication.Blocked, Detail: "by an operator"},
		}},
	})
	l.Note("compass", failover.Note{
		State: failover.Active, Epoch: 8, Why: failover.Why{Reason: failover.Requested},
		Steps: []hooks.Result{
			{Name: "vip", Outcome: hooks.Changed, Duration: 1500 * time.Microsecond},
			{Name: "lsyncd", Outcome: hooks.Failed, Detail: "no such unit"},
			{Name: "tell", Outcome: hooks.Skipped},
		},
	})
	flush(l)
	all := lines.All()
	if len(all) != 2 {
		t.Fatalf("%d lines", len(all))
	}
	want := map[string]any{
		"instance": "compass", "state": "refused", "epoch": uint64(7), "reason": "gate_closed",
		"gate_pivot_lagging": "7.0 s behind", "gate_blocked": "by an operator",
	}
	if diff := cmp.Diff(want, all[0].ContextMap()); diff != "" || all[0].Level != zapcore.WarnLevel {
		t.Errorf("%v %s", all[0].Level, diff)
	}
	if got := all[1].ContextMap()["steps"]; got != "vip: changed in 1.5 ms; lsyncd: failed (no such unit); tell: skipped" || all[1].Level != zapcore.InfoLevel {
		t.Errorf("%v: %v", all[1].Level, got)
	}
}
