package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/hooks/journal"
	"github.com/tanist-ha/tanist/internal/config"
	"github.com/tanist-ha/tanist/internal/control"
	"github.com/tanist-ha/tanist/replication/mysql"
	"github.com/tanist-ha/tanist/vrrp/vip"
)

// releasePatience bounds the closing of writes; the addresses go first.
const releasePatience = 20 * time.Second

func newRelease(c *common) *cobra.Command {
	var force bool
	var reason string
	cmd := &cobra.Command{
		Use:   "release",
		Short: "Drop the addresses and close writes, without a daemon",
		Long: "Drops every virtual address and closes every database of this host. It is for a host\n" +
			"whose daemon cannot be kept running. Where the configuration cannot be read, or is no\n" +
			"longer what the last daemon worked with, it also lets go of what that one had.\n\n" +
			"It refuses while a daemon runs, which would only put things back; --force is for one\n" +
			"that hangs and cannot be ended. What was done is in the journal, if no daemon has that\n" +
			"open. Exit status: 0 all is let go; 1 something is not, or nothing was done.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if force && strings.TrimSpace(reason) == "" {
				return errors.New("--force goes against a daemon that runs: say why with --reason")
			}
			r := releaser{common: c, force: force, reason: reason, stdout: cmd.OutOrStdout(), stderr: cmd.ErrOrStderr()}
			return r.run(cmd.Context())
		},
	}
	cmd.Flags().BoolVar(&force, "force", false, "also while a daemon runs; needs --reason")
	cmd.Flags().StringVar(&reason, "reason", "", "why; it stays in the journal")
	return cmd
}

// releaser lets go of what this host has.
type releaser struct {
	common         *common
	force          bool
	reason         string
	stdout, stderr io.Writer
}

// holding is what a configuration says that this host may hold.
type holding struct {
	file *config.File
	self int
}

func (r releaser) run(ctx context.Context) error {
	holdings, err := r.holdings()
	if err != nil {
		return err
	}
	if err := r.nobodyRuns(ctx); err != nil {
		return err
	}
	book, memories, err := r.journal(ctx)
	if err != nil {
		return err
	}
	var errs []error
	did := map[string][]string{} // by instance
	for _, h := range holdings {
		for _, in := range h.file.Instances {
			err := dropAddresses(in)
			errs = append(errs, err)
			if err == nil {
				did[in.Name] = append(did[in.Name], "dropped "+addressWords(in))
			}
		}
	}
	ctx, cancel := context.WithTimeout(ctx, releasePatience)
	defer cancel()
	for _, h := range holdings {
		for _, in := range h.file.Instances {
			names, err := closeDatabases(ctx, h, in)
			errs = append(errs, err)
			if len(names) > 0 {
				did[in.Name] = append(did[in.Name], "closed writes of "+strings.Join(names, ", "))
			}
		}
	}
	r.tell(book, memories, did)
	return errors.Join(errs...)
}

// holdings are what the file says, and beside or instead of it what the last daemon
// worked with.
func (r releaser) holdings() ([]holding, error) {
	file, self, err := load(r.common)
	last, kept, node, keptErr := lastApplied(r.common.stateDir)
	switch {
	case err != nil && keptErr != nil:
		if !errors.Is(keptErr, fs.ErrNotExist) {
			return nil, errors.Join(err, keptErr)
		}
		fmt.Fprintf(r.stderr, "tanist: no daemon left word in %s of what it worked with: nothing is released, addresses go with their lease and writes stay as they are\n", r.common.stateDir)
		return nil, err
	case err != nil:
		fmt.Fprintf(r.stderr, "tanist: the configuration cannot be used; letting go of what the daemon of %s worked with\n%v\n", last.At.Local().Format(time.DateTime), err)
		return []holding{{kept, node}}, nil
	case keptErr != nil && !errors.Is(keptErr, fs.ErrNotExist):
		fmt.Fprintf(r.stderr, "tanist: what the last daemon worked with is not known, only what the configuration says now: %v\n", keptErr)
	case keptErr == nil && !sameEssentials(file, kept):
		fmt.Fprintf(r.stderr, "tanist: the configuration was changed since the daemon of %s; letting go of what it worked with, too\n", last.At.Local().Format(time.DateTime))
		return []holding{{file, self}, {kept, node}}, nil
	}
	return []holding{{file, self}}, nil
}

func sameEssentials(a, b *config.File) bool {
	one, errOne := a.Essentials()
	two, errTwo := b.Essentials()
	return errOne == nil && errTwo == nil && bytes.Equal(one, two)
}

// nobodyRuns refuses where a daemon answers or ought to.
func (r releaser) nobodyRuns(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, askPatience)
	defer cancel()
	switch _, err := control.Dial(r.common.socket).Status(ctx); {
	case r.force || errors.Is(err, control.ErrUnreachable):
		return nil
	case err == nil:
		return fmt.Errorf("a daemon answers on %s: stop it, or use `tanist switchover`", r.common.socket)
	case errors.Is(err, control.ErrForbidden):
		return fmt.Errorf("whether a daemon runs cannot be told: %w", err)
	default:
		return fmt.Errorf("there is a daemon on %s: stop it first, or say --force --reason: %w", r.common.socket, err)
	}
}

// recordTime is what the journal's disk gets.
const recordTime = 2 * time.Second

// journal opens the journal, which keeps a daemon from starting meanwhile. Only one
// that a daemon has open is an error: a disk that is full or hangs must not hold an
// address, and where there is no state there is nobody to read it.
func (r releaser) journal(ctx context.Context) (*journal.Journal, map[string]hooks.Memory, error) {
	path := filepath.Join(r.common.stateDir, "journal")
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	type opened struct {
		journal *journal.Journal
		entries []journal.Entry
		err     error
	}
	done := make(chan opened, 1)
	go func() {
		j, entries, err := journal.Open(path)
		done <- opened{j, entries, err}
	}()
	ctx, cancel := context.WithTimeout(ctx, recordTime)
	defer cancel()
	got := opened{err: errors.New("its disk does not answer")}
	select {
	case got = <-done:
	case <-ctx.Done():
	}
	switch {
	case got.err == nil:
		return got.journal, journal.Memories(got.entries), nil
	case errors.Is(got.err, journal.ErrOwned) && !r.force:
		return nil, nil, fmt.Errorf("a daemon runs, though none answers on %s: stop it first, or say --force --reason: %w", r.common.socket, got.err)
	}
	r.unjournaled(got.err)
	return nil, nil, nil
}

func (r releaser) unjournaled(err error) {
	fmt.Fprintf(r.stderr, "tanist: not in the journal: %v\n", err)
}

func dropAddresses(in config.Instance) error {
	holder, err := vip.Open(vip.Config{Interface: in.Interface, Addresses: in.VIPs})
	if err != nil {
		return err
	}
	return errors.Join(holder.Release(), holder.Close())
}

func addressWords(in config.Instance) string {
	var words []string
	for _, p := range in.VIPs {
		words = append(words, p.String())
	}
	return strings.Join(words, ", ") + " from " + in.Interface
}

// closeDatabases closes the databases of an instance and returns which it closed.
func closeDatabases(ctx context.Context, h holding, in config.Instance) (names []string, err error) {
	ds, err := openDatabases(opener{file: h.file, self: h.self, in: in}, nil)
	if err != nil {
		return nil, err
	}
	defer ds.close()
	var mu sync.Mutex // guards names
	err = ds.each(ctx, func(d *database) error {
		_, err := d.CloseWrites(ctx, 0)
		word := d.Name()
		switch {
		case mysql.NotRunning(err):
			word += " (its server does not run)"
		case err != nil:
			return err
		}
		mu.Lock()
		names = append(names, word)
		mu.Unlock()
		return nil
	})
	slices.Sort(names)
	return names, errors.Join(err, ds.uncertain())
}

// tell says what was done, and writes it down within a time.
func (r releaser) tell(book *journal.Journal, memories map[string]hooks.Memory, did map[string][]string) {
	var records []hooks.Record
	for _, name := range slices.Sorted(maps.Keys(did)) {
		what := strings.Join(did[name], "; ")
		fmt.Fprintf(r.stdout, "%s: %s\n", name, what)
		if r.reason != "" {
			what += ": " + r.reason
		}
		records = append(records, hooks.Record{
			Kind: hooks.Override, Instance: name, Epoch: memories[name].Epoch, Reason: "release: " + what, UID: uint32(os.Getuid()),
		})
	}
	if book == nil || len(records) == 0 {
		return
	}
	written := make(chan error, 1)
	go func() { written <- errors.Join(book.Append(records...), book.Sync(), book.Close()) }()
	select {
	case err := <-written:
		if err != nil {
			r.unjournaled(err)
		}
	case <-time.After(recordTime):
		r.unjournaled(errors.New("its disk does not answer"))
	}
}
