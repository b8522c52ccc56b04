// Command demo shows Tanist at work: two hosts with their own systemd, MariaDB
// and lsyncd on this machine, a client behind the virtual address, and what an
// operator sees in a refused switchover, a planned one, a power cut and a return.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/tanist-ha/tanist/test/lab"
	"github.com/tanist-ha/tanist/test/site"
)

// sceneBound is for one scene; a demo that hangs ends by itself.
const sceneBound = 2 * time.Minute

func main() {
	binary := flag.String("tanist", "bin/tanist", "`binary` to install on both hosts")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	err := run(ctx, *binary)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo: "+err.Error())
		os.Exit(1)
	}
}

type demo struct {
	*site.Site
	client *site.Client
	scenes []string // what was measured in each
}

func run(ctx context.Context, binary string) (err error) {
	if err := lab.Usable(); err != nil {
		return err
	}
	say("Two hosts on this machine, primary and reserve. The first time this builds a base image, which takes a minute or two.")
	s, err := site.Up(ctx, site.Options{Binary: binary, Lab: lab.Options{Log: tell}, Log: tell})
	if err != nil {
		return err
	}
	defer func() {
		// Also after Ctrl-C: whatever was made is taken away.
		down, cancel := context.WithTimeout(context.WithoutCancel(ctx), sceneBound)
		defer cancel()
		err = errors.Join(err, s.Down(down))
		tell("everything is taken down")
	}()
	d := &demo{Site: s}
	for _, scene := range []func(context.Context) error{d.begin, d.refused, d.planned, d.powerCut, d.comeBack, d.result} {
		bounded, cancel := context.WithTimeout(ctx, sceneBound)
		err := scene(bounded)
		cancel()
		if ctx.Err() != nil {
			err = errors.New("interrupted")
		}
		if err != nil {
			if d.client != nil {
				d.client.Stop()
			}
			return err
		}
	}
	return nil
}

func say(format string, args ...any) { fmt.Printf("\n== "+format+"\n", args...) }

func tell(format string, args ...any) { fmt.Printf("   "+format+"\n", args...) }

// command runs tanist on a host as an operator would and shows what it prints.
func (d *demo) command(ctx context.Context, n *lab.Node, args ...string) (site.Result, error) {
	fmt.Printf("\n%s# tanist %s\n", n.Hostname, strings.Join(args, " "))
	r, err := d.Tanist(ctx, n, args...)
	fmt.Print(r.Stdout, r.Stderr)
	if err == nil && r.Code != 0 {
		fmt.Printf("(exit status %d)\n", r.Code)
	}
	return r, err
}

func (d *demo) begin(ctx context.Context) error {
	say("Tanist starts as a systemd unit on both; a client writes rows and uploads files through %s.", site.VIP)
	if err := d.Start(ctx); err != nil {
		return err
	}
	if err := d.AwaitSettled(ctx, d.Primary); err != nil {
		return err
	}
	var err error
	if d.client, err = d.StartClient(context.WithoutCancel(ctx)); err != nil {
		return err
	}
	if err := d.client.AwaitAck(ctx); err != nil {
		return err
	}
	_, err = d.command(ctx, d.Primary, "status")
	return err
}

func (d *demo) refused(ctx context.Context) error {
	say("A lock on the reserve holds its replica up. A switchover now would lose rows, so it is refused and says why.")
	undo, err := d.HoldSQLThread(d.Reserve)(ctx)
	if err != nil {
		return err
	}
	defer undo()
	err = site.Await(ctx, "the replica lags", func(ctx context.Context) error { return d.GateSays(ctx, d.Reserve, "lagging") })
	if err != nil {
		return err
	}
	d.client.ResetGap()
	r, err := d.command(ctx, d.Primary, "switchover")
	if err != nil {
		return err
	}
	if r.Code != 3 {
		return fmt.Errorf("the switchover ended with %d, not 3", r.Code)
	}
	if err := d.client.AwaitAck(ctx); err != nil {
		return err
	}
	d.note("refused switchover")
	undo()
	return d.AwaitSettled(ctx, d.Primary)
}

func (d *demo) planned(ctx context.Context) error {
	say("The lock is gone and the replica has caught up. The same command again:")
	sampler := d.StartSampler(ctx)
	r, err := d.command(ctx, d.Primary, "switchover")
	if err != nil {
		sampler.Stop()
		return err
	}
	err = d.client.AwaitAck(ctx)
	h := sampler.Stop()
	if r.Code != 0 {
		return fmt.Errorf("the switchover ended with %d", r.Code)
	}
	if err != nil {
		return err
	}
	d.note("planned switchover")
	tell("address: %s; nobody had it for %s", h, h.None)
	if err := d.AwaitSettled(ctx, d.Reserve); err != nil {
		return err
	}
	_, err = d.command(ctx, d.Reserve, "status")
	return err
}

func (d *demo) powerCut(ctx context.Context) error {
	say("The active host, reserve, loses its power.")
	d.client.ResetGap()
	start := time.Now()
	if err := d.Reserve.PowerOff(ctx); err != nil {
		return err
	}
	if err := d.AwaitState(ctx, d.Primary, "active"); err != nil {
		return err
	}
	tell("primary is active %s after the cut", time.Since(start).Round(10*time.Millisecond))
	if err := d.client.AwaitAck(ctx); err != nil {
		return err
	}
	d.note("power cut")
	_, err := d.command(ctx, d.Primary, "status")
	return err
}

func (d *demo) comeBack(ctx context.Context) error {
	say("The old host returns. It stays standby: read-only, without address and lsyncd, its label file corrected.")
	if err := d.Reserve.PowerOn(ctx); err != nil {
		return err
	}
	err := site.Await(ctx, "the returned host is a settled standby", func(ctx context.Context) error {
		return d.StandbySettled(ctx, d.Reserve, d.Primary)
	})
	if err != nil {
		return err
	}
	if err := d.AwaitState(ctx, d.Reserve, "backup"); err != nil {
		return err
	}
	if _, err := d.command(ctx, d.Reserve, "status"); err != nil {
		return err
	}
	_, err = d.command(ctx, d.Reserve, "check-master")
	return err
}

func (d *demo) note(scene string) {
	d.scenes = append(d.scenes, fmt.Sprintf("%-20s longest gap between two acknowledged rows %6.0f ms", scene, float64(d.client.ResetGap().Microseconds())/1000))
}

func (d *demo) result(ctx context.Context) error {
	report := d.client.Stop()
	found, missing, err := d.client.Found(ctx, d.Primary)
	if err != nil {
		return err
	}
	uploads, err := d.client.UploadsOn(ctx, d.Primary)
	if err != nil {
		return err
	}
	say("What the client measured")
	for _, s := range d.scenes {
		tell("%s", s)
	}
	tell("rows acknowledged %d, found on the active host %d, missing %d", report.Acknowledged, found, len(missing))
	tell("files uploaded %d, found on the active host %d", report.Uploads, uploads)
	if uploads < report.Uploads {
		tell("lsyncd collects changes for a second before it copies them: a file uploaded right before the cut stayed on the host that lost its power")
	}
	if report.Unknown > 0 {
		tell("%d rows were sent and their answer was lost; they may be there or not", report.Unknown)
	}
	if len(missing) > 0 {
		tell("replication is asynchronous: a power cut can lose what had not reached the other host; `tanist status` counts what is known to be missing")
	}
	return nil
}
