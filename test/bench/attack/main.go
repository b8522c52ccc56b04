// Command attack measures how much later than due the active node's advertisements
// leave while somebody with the standby's address attacks it: the time between two
// of them on the wire, by the kernel's clock. It needs root.
//
//	go run ./test/bench/attack                     everything, two minutes
//	go run ./test/bench/attack -time 60s -attack connections,forged
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/tanist-ha/tanist/test/site"
)

// workerArgument makes this program the attacker, in the namespace it is started in.
const workerArgument = "attacker"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	var err error
	if len(os.Args) == 3 && os.Args[1] == workerArgument {
		err = attackAs(ctx, os.Args[2])
	} else {
		err = run(ctx, os.Args[1:], os.Stdout)
	}
	stop()
	if err != nil {
		if !errors.Is(err, flag.ErrHelp) {
			fmt.Fprintln(os.Stderr, "attack: "+err.Error())
		}
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) (err error) {
	f := flag.NewFlagSet("attack", flag.ContinueOnError)
	each := f.Duration("time", 20*time.Second, "`time` of each row")
	binary := f.String("tanist", "", "`file` of tanist (default: built from this module)")
	only := f.String("attack", strings.Join(names(), ","), "`attacks`, comma separated")
	if err := f.Parse(args); err != nil {
		return err
	}
	if *each < time.Second || *each > time.Hour {
		return fmt.Errorf("%v for each row: want 1s to 1h", *each)
	}
	if os.Geteuid() != 0 {
		return errors.New("needs root for network namespaces")
	}
	dir, err := os.MkdirTemp("", "ta")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if *binary == "" {
		if *binary, err = site.Build(ctx, dir); err != nil {
			return err
		}
	}
	runtime.LockOSThread() // of the namespace; the process ends with it
	net, err := newNetwork()
	if err != nil {
		return err
	}
	defer net.close()
	p, err := startPair(ctx, net, dir, *binary)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	fmt.Fprint(out, "| attack | attempts | adverts | late, ms: median / 99 % / worst | 99 % to quiet | CPU | the role | refused and dropped |\n|---|---:|---:|---:|---:|---:|---|---|\n")
	var quiet lateness
	for _, name := range append([]string{"none"}, append(strings.Split(*only, ","), "none")...) {
		r, err := p.row(ctx, name, *each)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if quiet.sent == 0 {
			quiet = r.late
		}
		fmt.Fprintln(out, r.line(quiet))
	}
	return nil
}

// row is what one attack did.
type row struct {
	name     string
	attempts string
	late     lateness
	role     string
	cpu      float64 // of the active daemon, in processors
	refused  map[string]uint64
}

func (r row) line(quiet lateness) string {
	return fmt.Sprintf("| %s | %s | %d | %s / %s / %s | %.1f | %.0f %% | %s | %s |", title(r.name), r.attempts, r.late.sent,
		ms(r.late.at(50)), ms(r.late.at(99)), ms(r.late.at(100)), float64(r.late.at(99))/float64(max(quiet.at(99), time.Microsecond)),
		100*r.cpu, r.role, counts(r.refused))
}

func ms(d time.Duration) string { return fmt.Sprintf("%.2f", float64(d)/float64(time.Millisecond)) }

func counts(of map[string]uint64) string {
	var all []string
	for reason, n := range of {
		all = append(all, fmt.Sprintf("%s %d", reason, n))
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}

// lateness is by how much the gaps between advertisements were longer than due.
type lateness struct {
	sent int
	by   []time.Duration // sorted
}

func (l lateness) at(percent int) time.Duration {
	if len(l.by) == 0 {
		return 0
	}
	return l.by[(len(l.by)-1)*percent/100]
}
