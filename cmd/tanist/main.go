// Command tanist is the failover supervisor and its command line. This package
// only wires and prints: decisions are made in the packages below.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/tanist-ha/tanist/internal/config"
	"github.com/tanist-ha/tanist/internal/control"
)

// version is set by the build.
var version = "devel"

// Exit statuses that more than one command uses.
const (
	exitOK      = 0
	exitProblem = 1
	// exitDied is a daemon that had started and could not go on. Unlike
	// exitProblem, which a restart would only repeat, systemd restarts it.
	exitDied = 70
)

// exitError ends the program with a status other than 1, its text already said.
type exitError struct{ status int }

func (e exitError) Error() string { return fmt.Sprintf("exit status %d", e.status) }

// common are the flags that every command has.
type common struct {
	config   string
	node     string
	socket   string
	stateDir string
	instance string
}

// commandGrowth, in percent, is how much garbage a command keeps: it is over before
// collecting it is worth the time. The daemon keeps less, see heapGrowth.
const commandGrowth = 400

func main() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(commandGrowth)
	}
	// A first SIGINT or SIGTERM asks a command to end in order; `run` sees to
	// its own signals.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second one ends them
	os.Exit(execute(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

func execute(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := newRoot()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	var exit exitError
	var problems config.Problems
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &exit):
		return exit.status
	case errors.As(err, &problems):
		fmt.Fprintln(stderr, problems.Error())
	default:
		fmt.Fprintln(stderr, "tanist: "+legible(err.Error()))
		if errors.Is(err, control.ErrUnreachable) {
			fmt.Fprintln(stderr, "  `systemctl status tanist` says what became of it, `tanist doctor` looks at this host without it")
		}
	}
	return exitProblem
}

func newRoot() *cobra.Command {
	c := &common{}
	root := &cobra.Command{
		Use:   "tanist",
		Short: "Moves a virtual address between two hosts, and the service with it",
		Long: "Tanist supervises the failover of a virtual address between two hosts that carry\n" +
			"databases and files: it moves the address, and around the move it stops, starts,\n" +
			"opens and closes what has to move with it, in order, and only if the gate allows.",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	flags := root.PersistentFlags()
	flags.StringVar(&c.config, "config", "/etc/tanist/tanist.yaml", "configuration `file`")
	flags.StringVar(&c.node, "node", "", "`label` of this host among the nodes (default: the one named like the host)")
	flags.StringVar(&c.socket, "socket", "/run/tanist/tanist.sock", "control socket of the daemon, a `file`")
	flags.StringVar(&c.stateDir, "state-dir", "/var/lib/tanist", "`directory` of the journal")
	flags.StringVar(&c.instance, "instance", "", "`name` of the instance (default: the only one)")
	root.AddCommand(
		newRun(c), newCheck(c), newStatus(c), newCheckMaster(c), newSwitchover(c),
		newBlock(c), newUnblock(c), newMaintenance(c),
		newReplication(c), newHistory(c), newRelease(c), newKeygen(), newVersion(), newConfig(),
		newAnnounce(c),
		newHooks(c),
		newImport(), newDemo(),
	)
	root.AddCommand(newDoctor(c))
	return root
}
