package main

// `tanist history` reads the journal, whether a daemon runs or not.

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/hooks/journal"
	"github.com/tanist-ha/tanist/internal/control"
)

func newHistory(c *common) *cobra.Command {
	var most int
	var epoch uint64
	var asJSON, live bool
	var from uint64
	cmd := &cobra.Command{
		Use:   "history",
		Short: "Show the journal: transitions, steps, durations, reasons, overrides, losses",
		Long: "Shows what the journal of this node holds, the latest last: each transition with its\n" +
			"steps, who overrode what and why, and what a promotion may have lost. Works beside a\n" +
			"running daemon and without one, and changes nothing. Each node has a journal of its own.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if most < 0 {
				return fmt.Errorf("-n %d: 0 for all, or how many", most)
			}
			if cmd.Flags().Changed("from") && !live {
				return errors.New("--from is with --follow")
			}
			path := filepath.Join(c.stateDir, "journal")
			contents, err := journal.Read(path)
			if err != nil && !live {
				return unreadable(path, err)
			}
			if live && (err != nil || asJSON || from > 0) {
				return followEvents(cmd, c, follower{from: from, asJSON: asJSON})
			}
			v := historyView{now: contents, zone: time.Local, account: account}
			wanted := choice{instance: c.instance, oneEpoch: cmd.Flags().Changed("epoch"), epoch: epoch, most: most}
			passages, err := wanted.of(v.passages())
			if err != nil {
				return err
			}
			for _, d := range contents.Damage {
				fmt.Fprintln(cmd.ErrOrStderr(), "warning: not readable: "+d)
			}
			if contents.Unread > 0 {
				fmt.Fprintf(cmd.ErrOrStderr(), "warning: %d records of a newer release are not shown\n", contents.Unread)
			}
			if asJSON {
				enc := json.NewEncoder(cmd.OutOrStdout())
				enc.SetIndent("", "  ")
				return enc.Encode(v.document(path, passages))
			}
			v.colour = colours(cmd.OutOrStdout())
			if err := v.print(cmd.OutOrStdout(), passages); err != nil || !live {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout())
			return followEvents(cmd, c, follower{from: after(contents.Entries)})
		},
	}
	cmd.Flags().BoolVarP(&live, "follow", "f", false, "go on with what happens, one line each; from the daemon, so that root is not needed")
	cmd.Flags().Uint64Var(&from, "from", 0, "with --follow, begin with the event of this `number`; 1: all that is held")
	cmd.Flags().IntVarP(&most, "number", "n", 50, "show the last `N`; 0: all")
	cmd.Flags().Uint64Var(&epoch, "epoch", 0, "show only what is about this `epoch`")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// unreadable says what to do about a journal that cannot be read.
func unreadable(path string, err error) error {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w: the journal is root's alone, because it holds what programs of steps printed: run `sudo tanist history`", err)
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("there is no journal %s: no daemon has run here yet, or --state-dir is another", path)
	}
	return err
}

// choice is what is asked for.
type choice struct {
	instance string // empty: all
	oneEpoch bool
	epoch    uint64
	most     int // 0: all
}

// of returns the last passages that are asked for.
func (c choice) of(all []passage) ([]passage, error) {
	var kept []passage
	var instances []string
	for _, p := range all {
		if p.Record.Instance != "" && !slices.Contains(instances, p.Record.Instance) {
			instances = append(instances, p.Record.Instance)
		}
		if (c.instance == "" || p.Record.Instance == "" || p.Record.Instance == c.instance) && (!c.oneEpoch || p.Of(c.epoch)) {
			kept = append(kept, p)
		}
	}
	if c.instance != "" && !slices.Contains(instances, c.instance) && len(all) > 0 {
		return nil, fmt.Errorf("the journal knows no instance %q: it knows %s", c.instance, strings.Join(instances, ", "))
	}
	if c.most > 0 && len(kept) > c.most {
		kept = kept[len(kept)-c.most:]
	}
	return kept, nil
}

// account names a user, by its number where nobody has it any more.
func account(uid uint32) string {
	id := strconv.FormatUint(uint64(uid), 10)
	if u, err := user.LookupId(id); err == nil {
		return u.Username
	}
	return "uid " + id
}

// historyView is how passages are shown.
type historyView struct {
	now     journal.Contents
	zone    *time.Location
	account func(uint32) string
	colour  bool
}

// passage is one of the journal, with how it ended, if it is a transition.
type passage struct {
	hooks.Passage
	end historyEnd
}

// passages returns all there are.
func (v historyView) passages() []passage {
	all := hooks.History(v.now.Entries)
	out := make([]passage, len(all))
	for i, p := range all {
		out[i] = passage{p, v.end(all, i)}
	}
	return out
}

// historyDocument is what `tanist history --json` prints.
type historyDocument struct {
	Journal string         `json:"journal"`
	Entries []historyEntry `json:"entries"` // the oldest first
	Damage  []string       `json:"damage"`  // what of the files could not be read
	Unread  int            `json:"unread"`  // records of a newer release that are left out
}

// historyEntry is one transition, or one fact between two.
type historyEntry struct {
	At       time.Time `json:"at"` // when it began
	Instance string    `json:"instance"`
	Epoch    uint64    `json:"epoch"`
	// Kind is promote, demote, override, learned, reverted, acquired, missed, stepped,
	// ended, strayed, mended, notified, block, maintenance, lease, left, adopted, commanded,
	// diverged, reconciled, or what a newer release calls it.
	Kind    string `json:"kind"`
	Planned bool   `json:"planned"`
	Reason  string `json:"reason,omitempty"`
	// Result, of a transition: completed, aborted, interrupted, taken_back, running,
	// or cut_off when the daemon or the host ended in it.
	Result     string         `json:"result,omitempty"`
	EndedAt    time.Time      `json:"ended_at,omitzero"`
	DurationMS float64        `json:"duration_ms,omitempty"`
	HandsOver  uint64         `json:"hands_over_epoch,omitempty"` // of a planned demotion: the other node's epoch
	Undoes     bool           `json:"undoes,omitempty"`           // it takes back what the promotion of its epoch did
	AcquiredAt time.Time      `json:"acquired_at,omitzero"`       // when the address came with a planned promotion
	RevertedAt time.Time      `json:"reverted_at,omitzero"`       // the promotion did not come about
	Steps      []historyStep  `json:"steps,omitempty"`
	Losses     []control.Loss `json:"losses,omitempty"`
	// Divergence is what a standby in conflict has and the active node lacks.
	Divergence *control.Divergence `json:"divergence,omitempty"`
	Overrides  []historyOverride   `json:"overrides,omitempty"`
	Boot       string              `json:"boot,omitempty"`     // of the kernel
	Attempts   uint32              `json:"attempts,omitempty"` // of a notice
	// Command, of kind commanded: what a person told this node to do, and who it was.
	Command *historyCommand `json:"command,omitempty"`
	Hold    *historyHold    `json:"hold,omitempty"` // of block and maintenance
}

type historyStep struct {
	At         time.Time `json:"at"` // when it ended
	Name       string    `json:"name"`
	Title      string    `json:"title,omitempty"`
	Result     string    `json:"result"`
	DurationMS float64   `json:"duration_ms"`
	Detail     string    `json:"detail,omitempty"`
	Output     string    `json:"output,omitempty"` // what its program printed, as far as the journal keeps it
}

type historyCommand struct {
	Command   string `json:"command"`
	Arguments string `json:"arguments,omitempty"`
	UID       uint32 `json:"uid"`
	User      string `json:"user"`
}

type historyOverride struct {
	At     time.Time `json:"at"`
	UID    uint32    `json:"uid"`
	User   string    `json:"user"`
	Reason string    `json:"reason"`
}

func (v historyView) document(path string, passages []passage) historyDocument {
	doc := historyDocument{Journal: path, Entries: []historyEntry{}, Damage: append([]string{}, v.now.Damage...), Unread: v.now.Unread}
	for _, p := range passages {
		r := p.Record
		e := historyEntry{
			At: p.At, Instance: r.Instance, Epoch: r.Epoch, Kind: p.kind(), Planned: r.Planned, Reason: r.Reason,
			EndedAt: p.Ended, DurationMS: millis(p.Duration), HandsOver: p.Next, Undoes: p.Undoes,
			AcquiredAt: p.Acquired, RevertedAt: p.Reverted, Losses: control.NewLosses(p.Losses), Boot: p.Boot, Attempts: r.Attempts, Hold: v.hold(r),
		}
		if p.Transition {
			e.Result = p.end.String()
		}
		for _, s := range p.performed() {
			e.Steps = append(e.Steps, historyStep{
				At: s.At, Name: s.Step.Name, Title: s.Step.Title, Result: strings.ReplaceAll(s.Step.Outcome.String(), " ", "_"),
				DurationMS: millis(s.Step.Duration), Detail: s.Step.Detail, Output: s.Step.Output,
			})
		}
		if r.Kind == hooks.Commanded {
			e.Command = &historyCommand{Command: r.Command, Arguments: r.Arguments, UID: r.UID, User: v.account(r.UID)}
		}
		if r.Kind == hooks.Diverged || r.Kind == hooks.Reconciled {
			e.Divergence = &control.Divergence{Database: r.Loss.Database, Transactions: r.Loss.Transactions, Count: r.Loss.Proved}
		}
		if r.Kind == hooks.Missed {
			e.Losses = control.NewLosses([]hooks.Loss{r.Loss})
		}
		for _, o := range p.overrides() {
			e.Overrides = append(e.Overrides, historyOverride{At: o.At, UID: o.Record.UID, User: v.account(o.Record.UID), Reason: o.Record.Reason})
		}
		doc.Entries = append(doc.Entries, e)
	}
	return doc
}

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// performed returns the steps of a transition, or the one that an entry by itself is
// about.
func (p passage) performed() []hooks.Performed {
	if !p.Transition && p.Record.Step != (hooks.Result{}) {
		return []hooks.Performed{{At: p.At, Step: p.Record.Step}}
	}
	return p.Steps
}

// overrides returns those of a transition, or the one that a passage is.
func (p passage) overrides() []hooks.Entry {
	if p.Record.Kind == hooks.Override {
		return []hooks.Entry{p.Entry}
	}
	return p.Overrides
}

func (p passage) kind() string {
	switch {
	case p.Unknown != "":
		return p.Unknown
	case !p.Transition:
		return p.Record.Kind.String()
	case p.Record.Role == hooks.Active:
		return "promote"
	}
	return "demote"
}

// historyEnd is how a transition ended.
type historyEnd uint8

const (
	endCompleted historyEnd = iota
	endAborted
	endInterrupted
	endTakenBack
	endRunning
	endDaemon // the daemon ended in it
	endHost   // and the host with it
)

func (e historyEnd) String() string {
	names := [...]string{"completed", "aborted", "interrupted", "taken_back", "running", "cut_off", "cut_off"}
	if int(e) < len(names) {
		return names[e]
	}
	return fmt.Sprintf("historyEnd(%d)", uint8(e))
}

// end says how passage i ended. What has no end and is not the latest of its
// instance was cut off: a daemon ends what it began before it begins anything else.
func (v historyView) end(passages []hooks.Passage, i int) historyEnd {
	p := passages[i]
	switch {
	case p.TakenBack:
		return endTakenBack
	case !p.Ended.IsZero():
		switch p.Ending {
		case hooks.Aborted:
			return endAborted
		case hooks.Interrupted:
			return endInterrupted
		case hooks.Completed, hooks.Unfinished:
		}
		return endCompleted
	case p.Open && v.now.Open && p.Boot == v.now.Boot:
		return endRunning
	}
	after := v.now.Boot
	for _, q := range passages[i+1:] {
		if q.Record.Instance == p.Record.Instance {
			after = q.Boot
			break
		}
	}
	if p.Boot != "" && after != "" && p.Boot != after {
		return endHost
	}
	return endDaemon
}
