package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/tanist-ha/tanist/internal/config"
	"github.com/tanist-ha/tanist/internal/control"
	"github.com/tanist-ha/tanist/internal/failover"
	"github.com/tanist-ha/tanist/internal/node"
	"github.com/tanist-ha/tanist/internal/peer"
)

func newRun(c *common) *cobra.Command {
	return &cobra.Command{
		Use:   "run",
		Short: "Run the daemon in the foreground",
		Long: "Runs the daemon. It tells systemd when it can serve and that it makes progress.\n" +
			"SIGHUP reads the configuration again: an instance that is not changed does not\n" +
			"notice, one that is keeps its address, and a file with a mistake changes nothing.\n" +
			"SIGTERM is a planned leave: the role is handed over if the peer can take it, else\n" +
			"dropped. A second SIGTERM ends the daemon at once; the address then goes with its lease.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runDaemon(c) },
	}
}

// heapGrowth, in percent, is how much garbage the daemon keeps. With 255 instances its
// heap is some ten megabytes: to collect it more often than Go does by default costs
// half a percent of a core and saves 6 MB of 49. Twenty of the rest are the program.
const heapGrowth = 40

func runDaemon(c *common) error {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(heapGrowth)
	}
	file, self, err := load(c)
	if err != nil {
		return err
	}
	log, err := newLogger(file.Log, file.Nodes[self].Label)
	if err != nil {
		return err
	}
	d, err := build(c, file, self, log)
	if err != nil {
		return err
	}
	leave, kill, reload, stop := signals(log)
	defer stop()
	if d.run(leave, kill, reload, c.socket) != nil {
		return exitError{exitDied}
	}
	return nil
}

// keepSecrets is for commands that have passwords or keys in memory: no core
// dump, no reading by ptrace.
func keepSecrets() error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("keep secrets out of core dumps: %w", err)
	}
	return nil
}

// load reads the configuration and finds this host in it.
func load(c *common) (*config.File, int, error) {
	if err := keepSecrets(); err != nil {
		return nil, 0, err
	}
	file, err := config.Load(c.config)
	if err != nil {
		return nil, 0, err
	}
	host, err := os.Hostname()
	if err != nil {
		return nil, 0, fmt.Errorf("read the host name: %w", err)
	}
	self, _, err := file.Node(c.node, host)
	return file, self, err
}

// signals turns a first SIGTERM or SIGINT into a planned leave and a second one
// into an end at once, and SIGHUP into a reload. That has one place: however often
// SIGHUP comes during a reload, one more follows.
func signals(log *logger) (leave, kill context.Context, reload <-chan struct{}, stop func()) {
	leaving, left := context.WithCancel(context.Background())
	killing, killed := context.WithCancel(context.Background())
	again := make(chan struct{}, 1)
	got := make(chan os.Signal, 4)
	// A log that nobody reads any more must not end the daemon: SIGPIPE is heard
	// and means nothing. Ignored, it would be so in every program of a step.
	signal.Notify(got, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)
	go func() {
		for s := range got {
			switch {
			case s == syscall.SIGPIPE:
			case s == syscall.SIGHUP:
				select {
				case again <- struct{}{}:
				default:
				}
			case leaving.Err() == nil:
				log.event(kindLeaving, zapcore.InfoLevel, "told to leave", zap.Stringer("signal", s))
				left()
			default:
				killed()
			}
		}
	}()
	return leaving, killing, again, func() {
		signal.Stop(got)
		close(got)
		left()
		killed()
	}
}

// Times of the end.
const (
	// partTime is what the other parts get when the node has left.
	partTime = 2 * time.Second
	// logTime is what the last lines get to be written.
	logTime = 3 * time.Second
)

// run runs the daemon until it has left or a part of it fails, and logs which.
func (d *daemon) run(leave, kill context.Context, reload <-chan struct{}, socket string) error {
	logs, endLog := context.WithCancel(context.Background())
	logged := make(chan struct{})
	go func() { defer close(logged); d.log.run(logs) }()
	err := d.supervise(leave, kill, reload, socket)
	if err != nil {
		d.log.event(kindDied, zapcore.ErrorLevel, "ended", zap.Error(err))
	} else {
		d.log.event(kindLeft, zapcore.InfoLevel, "left")
	}
	endLog()
	select {
	case <-logged:
	case <-time.After(logTime): // nobody reads what standard error says
	}
	return err
}

// supervise runs the parts. They live as long as the node, which needs them to
// leave in order: one that fails makes the node leave, as a signal would.
func (d *daemon) supervise(leave, kill context.Context, reload <-chan struct{}, socket string) error {
	server, err := control.Listen(socket, d)
	if err != nil {
		return err
	}
	d.log.event(kindStarting, zapcore.InfoLevel, "starting", zap.String("version", version), zap.String("node", d.nodes[d.self].Label))
	d.warnUnproved()

	world, end := context.WithCancel(context.Background())
	defer end()
	leave, left := context.WithCancel(leave)
	defer left()
	var parts errgroup.Group
	part := func(run func(context.Context) error) {
		parts.Go(func() error {
			defer left()
			return run(world)
		})
	}
	part(func(ctx context.Context) error {
		return d.heartbeat.Run(ctx, func(instance string, ev failover.Advertised) { d.node.Deliver(instance, ev) })
	})
	part(func(ctx context.Context) error { return d.link.Run(ctx, d.told()) })
	part(server.Run)
	part(d.web.Run)
	part(d.feed.Run)
	part(d.sight.run)
	part(d.learn)
	part(d.refresh)
	part(d.tellReport)
	part(d.tellRefusals)
	part(d.askClock)
	part(d.visited)
	part(func(ctx context.Context) error { return d.tend(ctx, leave, reload) })
	part(func(ctx context.Context) error { return d.tellManager(ctx, leave) })

	told, silent := context.WithCancel(context.Background())
	noticed := make(chan struct{})
	go func() {
		defer close(noticed)
		_ = d.notices.courier.Run(told, kill) // it returns nil
	}()
	nodeErr := d.node.Run(leave, kill)
	silent()
	<-noticed           // within notify.LeaveTime and what the end of a program takes
	if nodeErr == nil { // otherwise something may still write to the journal
		nodeErr = d.notices.finish(d.journal)
	}
	end()
	ended := make(chan error, 1)
	go func() { ended <- parts.Wait() }()
	select {
	case err = <-ended:
	case <-time.After(partTime):
		err = errors.New("a part of the daemon does not end")
	}
	if errors.Is(nodeErr, context.Canceled) {
		nodeErr = errors.New("ended at once: a held address goes with its lease")
	}
	if err = errors.Join(err, nodeErr); err == nil {
		d.close() // otherwise something may still use what this closes
	}
	return err
}

// told returns what takes the messages of the peer link. It is called by one
// goroutine at a time.
func (d *daemon) told() func([]peer.Said) {
	var heard []node.Heard
	return func(said []peer.Said) {
		heard = heard[:0]
		for _, s := range said {
			heard = append(heard, node.Heard{Instance: s.Instance, Event: failover.PeerSaid{State: s.State}})
		}
		d.node.DeliverAll(heard)
		clear(heard)
	}
}

// tellManager tells the service manager that the daemon serves, and later that it
// leaves and needs its time for that.
func (d *daemon) tellManager(ctx, leave context.Context) error {
	d.said("serves", d.notifier.Ready())
	select {
	case <-leave.Done():
	case <-ctx.Done():
		return nil
	}
	d.said("stops", d.notifier.Stopping())
	return d.askForTime(ctx)
}

// said notes when the service manager could not be told what the daemon does.
func (d *daemon) said(what string, err error) {
	if err != nil {
		d.log.Trouble("", "tell the service manager that the daemon "+what, err)
	}
}

// sleep waits and reports false when ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
