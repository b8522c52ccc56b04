package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/tanist-ha/tanist/internal/config"
	"github.com/tanist-ha/tanist/internal/control"
	"github.com/tanist-ha/tanist/internal/failover"
)

func newRun(c *common) *cobra.Command {
	return &cobra.Command{
		Use:   "run",
		Short: "Run the daemon in the foreground",
		Long: "Runs the daemon. It tells systemd when it can serve and that it makes progress.\n" +
			"SIGTERM is a planned leave: the role is handed over if the peer can take it, else\n" +
			"dropped. A second SIGTERM ends the daemon at once; the address then goes with its lease.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runDaemon(c) },
	}
}

func runDaemon(c *common) error {
	// Passwords and keys are in memory: no core dump, no reading by ptrace.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("keep secrets out of core dumps: %w", err)
	}
	file, self, err := load(c)
	if err != nil {
		return err
	}
	log, err := newLogger(file.Log)
	if err != nil {
		return err
	}
	d, err := build(c, file, self, log)
	if err != nil {
		return err
	}
	defer d.close()
	leave, kill, stop := signals(log)
	defer stop()
	if err := d.run(leave, kill, c.socket); err != nil {
		log.zap.Error("ended", zap.Error(err))
		return exitError{exitDied}
	}
	return nil
}

// load reads the configuration and finds this host in it.
func load(c *common) (*config.File, int, error) {
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
// into an end at once.
func signals(log *logger) (leave, kill context.Context, stop func()) {
	leave, left := context.WithCancel(context.Background())
	kill, killed := context.WithCancel(context.Background())
	got := make(chan os.Signal, 4)
	signal.Notify(got, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	go func() {
		for s := range got {
			switch {
			case s == syscall.SIGHUP:
				log.warn("SIGHUP: this release reads its configuration only when it starts")
			case leave.Err() == nil:
				log.info("told to leave", zap.Stringer("signal", s))
				left()
			default:
				killed()
			}
		}
	}()
	return leave, kill, func() {
		signal.Stop(got)
		close(got)
		left()
		killed()
	}
}

// supervise runs the parts: the node's end is the daemon's, and the rest lives
// as long as the node.
func (d *daemon) supervise(world context.Context, end context.CancelFunc, leave, kill context.Context, socket string) error {
	server, err := control.Listen(socket, d)
	if err != nil {
		return err
	}
	logged := make(chan struct{})
	logCtx, endLog := context.WithCancel(context.WithoutCancel(world))
	defer func() { endLog(); <-logged }()
	go func() { defer close(logged); d.log.run(logCtx) }()
	d.log.info("starting", zap.String("version", version), zap.String("node", d.file.Nodes[d.self].Label))
	d.log.warn("the peer link is not authenticated in this release: it accepts only the configured addresses")

	byVRID := map[uint8]string{}
	for _, s := range d.services {
		byVRID[s.cfg.VRID] = s.cfg.Name
	}
	d.heartbeat.deliver = func(vrid uint8, ev failover.Advertised) {
		if name, ok := byVRID[vrid]; ok {
			d.node.Deliver(name, ev)
		}
	}
	g, world := errgroup.WithContext(world)
	g.Go(func() error { return d.heartbeat.run(world) })
	g.Go(func() error {
		return d.link.Run(world, func(instance string, s failover.PeerState) { d.node.Deliver(instance, failover.PeerSaid{State: s}) })
	})
	g.Go(func() error { return server.Run(world) })
	for _, s := range d.services {
		g.Go(func() error { s.survey.run(world); return nil })
	}
	// A part that fails ends the daemon as a signal would.
	leave, left := context.WithCancel(leave)
	defer left()
	context.AfterFunc(world, left)
	var nodeErr error
	g.Go(func() error {
		defer end()
		nodeErr = d.node.Run(leave, kill)
		return nil
	})
	if err := d.notifier.Ready(); err != nil {
		d.log.Trouble("", "tell systemd that the daemon serves", err)
	}
	context.AfterFunc(leave, func() { _ = d.notifier.Stopping() })
	err = g.Wait()
	if errors.Is(nodeErr, context.Canceled) {
		nodeErr = errors.New("ended at once: a held address goes with its lease")
	}
	return errors.Join(err, nodeErr)
}
