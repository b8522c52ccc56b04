package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/tanist-ha/tanist/test/site"
)

// Programs that move the databases.
const (
	tanistProgram  = "tanist"
	compassProgram = "keepalived + script"
)

func vip() netip.Addr { return netip.MustParseAddr(site.VIP) }

// scenario is one thing that happens to a settled pair, or something measured
// without one.
type scenario struct {
	name    string
	title   string
	program string // empty: no pair
	// limit is for it and for the service after it: what takes longer is "never".
	limit   time.Duration
	run     func(context.Context, *trial) error
	served  func(context.Context, *trial) error           // once every database takes rows, may be nil
	restore func(context.Context, *trial) error           // before the pair can settle, may be nil
	rejoin  bool                                          // the old host's databases may have rows that the new ones lack
	alone   func(context.Context, options, *report) error // instead of run
	metrics []metric
}

func scenarios() []scenario {
	planned := []metric{gap, middleGap, probesLost, outage, rowsLost}
	return []scenario{
		{
			name: "switchover", title: "planned switchover", program: tanistProgram, limit: trialBound,
			run: switchover, metrics: planned,
		},
		{
			name: "kill", title: "a source's mysqld killed", program: tanistProgram, limit: trialBound,
			run: kill, restore: running, rejoin: true, metrics: []metric{served, gap, outage, rowsLost},
		},
		{
			name: "stop", title: "a source's mysqld stopped", program: tanistProgram, limit: trialBound,
			run: stop, served: fencedBefore, restore: running, rejoin: true, metrics: []metric{served, fencedAfter, unfenced, gap, outage, rowsLost},
		},
		{
			name: "power", title: "power cut of the active host", program: tanistProgram, limit: trialBound,
			run: power, served: detected, restore: powerOn, rejoin: true, metrics: []metric{served, beyond, outage, rowsLost},
		},
		{
			name: "compass", title: "planned switchover", program: compassProgram, limit: 4 * trialBound,
			run: restartKeepalived, rejoin: true, metrics: planned,
		},
		{name: "round256", title: "status round of 256 databases", alone: rounds, metrics: []metric{round}},
		{name: "round256-hanging", title: "the same with 40 of them hanging", alone: hangingRounds, metrics: []metric{round}},
	}
}

func switchover(ctx context.Context, t *trial) error {
	r, err := t.Tanist(ctx, t.from, "switchover")
	if err != nil {
		return err
	}
	if r.Code != 0 {
		return fmt.Errorf("switchover: exit status %d: %s", r.Code, strings.TrimSpace(r.Stderr))
	}
	t.out.steps = r.Stdout
	return nil
}

// victim is the database that a fault meets.
const victim = site.Database(1)

func kill(ctx context.Context, t *trial) error {
	pid, err := t.from.MainPID(ctx, victim.Unit())
	if err != nil {
		return err
	}
	t.at = time.Now()
	return t.from.Kill(pid, syscall.SIGKILL)
}

func stop(ctx context.Context, t *trial) error {
	pid, err := t.from.MainPID(ctx, victim.Unit())
	if err != nil {
		return err
	}
	if t.fence, err = t.watchFence(ctx, pid); err != nil {
		return err
	}
	t.at = time.Now()
	return t.from.Kill(pid, syscall.SIGSTOP)
}

// fencedBefore notes when the stopped server was dead: as long as it could wake
// up it could take rows.
func fencedBefore(ctx context.Context, t *trial) error {
	ended, before, err := t.fence.end(ctx)
	t.out.Unfenced = !before
	if !ended.IsZero() {
		t.out.Fenced = ended.Sub(t.at)
	}
	return err
}

// running waits until the database that met the fault runs again: its unit
// restarts it.
func running(ctx context.Context, t *trial) error {
	return site.Await(ctx, victim.Name()+" of "+t.from.Hostname+" runs", func(ctx context.Context) error {
		_, err := victim.SQL(ctx, t.from, "SELECT 1")
		return err
	})
}

func power(ctx context.Context, t *trial) error { return t.from.PowerOff(ctx) }

func powerOn(ctx context.Context, t *trial) error { return t.from.PowerOn(ctx) }

// detected notes when the new active host found out, by the first word of it in
// its log.
func detected(ctx context.Context, t *trial) error {
	out, err := t.to.Exec(ctx, "journalctl", "--unit=tanist.service", "--output=short-unix", "--no-pager", "--quiet",
		fmt.Sprintf("--since=@%d", t.at.Unix()))
	if err != nil {
		return err
	}
	t.out.Detected, err = firstSilent(out, t.at)
	return err
}

// firstSilent finds the first log line after an instant that says that the peer
// is silent, and returns how long after it that is.
func firstSilent(log string, after time.Time) (time.Duration, error) {
	for s := bufio.NewScanner(strings.NewReader(log)); s.Scan(); {
		stamp, text, _ := strings.Cut(s.Text(), " ")
		seconds, err := strconv.ParseFloat(stamp, 64)
		if err != nil || !strings.Contains(text, "reason=peer_silent") {
			continue
		}
		if since := time.UnixMicro(int64(seconds * 1e6)).Sub(after.Round(0)); since > 0 {
			return since, nil
		}
	}
	return 0, errors.New("the log does not say when the peer fell silent")
}
