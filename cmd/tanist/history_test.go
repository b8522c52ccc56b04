package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/hooks/journal"
	"github.com/tanist-ha/tanist/internal/failover"
	"github.com/tanist-ha/tanist/internal/screen/picture"
)

const (
	bootOne = "6f0d7b52-0000-4000-8000-000000000001"
	bootTwo = "6f0d7b52-0000-4000-8000-000000000002"
)

// told is a journal that is told entry by entry.
type told struct {
	now  time.Time
	boot string
	list []hooks.Entry
}

func newTold() *told {
	return &told{now: time.Date(2026, 11, 21, 2, 14, 7, 250_000_000, time.UTC), boot: bootOne}
}

func (h *told) add(after time.Duration, r hooks.Record) *told {
	h.now = h.now.Add(after)
	if r.Instance == "" {
		r.Instance = "compass"
	}
	h.list = append(h.list, hooks.Entry{At: h.now, Boot: h.boot, Record: r})
	return h
}

func (h *told) began(epoch uint64, role hooks.Role, planned bool, why failover.Reason) *told {
	return h.add(time.Minute, hooks.Record{Kind: hooks.Began, Epoch: epoch, Role: role, Planned: planned, Reason: why.String()})
}

func (h *told) step(epoch uint64, role hooks.Role, took time.Duration, title string, out hooks.Outcome, detail string) *told {
	return h.add(took, hooks.Record{Kind: hooks.Stepped, Epoch: epoch, Role: role, Step: hooks.Result{
		Name: title, Title: title, Outcome: out, Duration: took, Detail: detail,
	}})
}

func (h *told) ended(epoch uint64, role hooks.Role, e hooks.Ending, took time.Duration) *told {
	return h.add(0, hooks.Record{Kind: hooks.Ended, Epoch: epoch, Role: role, Ending: e, Duration: took})
}

const ms = time.Millisecond

// switchover is the side of the node that gives the role away in epoch.
func (h *told) gave(epoch uint64) *told {
	h.add(time.Hour, hooks.Record{Kind: hooks.Learned, Epoch: epoch + 1, Planned: true})
	h.list = append(h.list, hooks.Entry{At: h.now, Boot: h.boot, Record: hooks.Record{
		Kind: hooks.Began, Instance: "compass", Epoch: epoch, Role: hooks.Standby, Planned: true, Reason: failover.Requested.String(),
	}})
	return h.step(epoch, hooks.Standby, 12*ms, "writes close", hooks.Changed, "ended 3 connections")
}

func (h *told) gaveAll(epoch uint64) *told {
	h.gave(epoch).step(epoch+1, hooks.Standby, 0, "vip release", hooks.Changed, "")
	h.step(epoch+1, hooks.Standby, 310*ms, "unit stop lsyncd.service", hooks.Changed, "")
	return h.ended(epoch+1, hooks.Standby, hooks.Completed, 360*ms)
}

func (h *told) took(epoch uint64) *told {
	h.began(epoch, hooks.Active, true, failover.Requested)
	h.step(epoch, hooks.Active, 21*ms, "replication stop", hooks.Changed, "").step(epoch, hooks.Active, 4*ms, "writes open", hooks.Changed, "")
	h.step(epoch, hooks.Active, ms, "vip acquire", hooks.Changed, "").add(0, hooks.Record{Kind: hooks.Acquired, Epoch: epoch, Role: hooks.Active, Planned: true})
	return h.step(epoch, hooks.Active, 210*ms, "unit start lsyncd.service", hooks.Changed, "").ended(epoch, hooks.Active, hooks.Completed, 236*ms)
}

var usualHistories = map[string]func(h *told) *told{
	"switchover-old": func(h *told) *told { return h.gaveAll(6) },
	"switchover-new": func(h *told) *told {
		return h.add(0, hooks.Record{Kind: hooks.Learned, Epoch: 6}).took(7)
	},
	"takeover-with-loss": func(h *told) *told {
		h.began(8, hooks.Active, false, failover.PeerSilent)
		h.add(0, hooks.Record{Kind: hooks.Missed, Epoch: 8, Role: hooks.Active, Loss: hooks.Loss{
			Database: "pivot", Proved: 2, ProvedKnown: true, AtMost: 7, AtMostKnown: true, HeardAge: 400 * ms, HeardAgeKnown: true, Transactions: "0-1-5..6",
		}})
		h.add(0, hooks.Record{Kind: hooks.Missed, Epoch: 8, Role: hooks.Active, Loss: hooks.Loss{Database: "log"}})
		h.step(8, hooks.Active, 21*ms, "replication stop", hooks.Changed, "").step(8, hooks.Active, 4*ms, "writes open", hooks.Changed, "")
		h.step(8, hooks.Active, ms, "vip acquire", hooks.Changed, "")
		h.step(8, hooks.Active, 30*time.Second, "unit start lsyncd.service", hooks.TimedOut, "the job\nis still queued")
		return h.ended(8, hooks.Active, hooks.Aborted, 31*time.Second)
	},
	"conflict": func(h *told) *told {
		h.add(0, hooks.Record{Kind: hooks.Diverged, Epoch: 8, Role: hooks.Standby, Loss: hooks.Loss{
			Database: "pivot", Proved: 3, ProvedKnown: true, Transactions: "0-1-101..103",
		}})
		return h.add(40*time.Minute, hooks.Record{Kind: hooks.Reconciled, Epoch: 8, Role: hooks.Standby, Loss: hooks.Loss{Database: "pivot", ProvedKnown: true}})
	},
	"forced": func(h *told) *told {
		h.add(time.Minute, hooks.Record{Kind: hooks.Override, Epoch: 9, Role: hooks.Active, UID: 1000, Reason: "the reserve burned down, Anna agreed"})
		h.list = append(h.list, hooks.Entry{At: h.now, Boot: h.boot, Record: hooks.Record{
			Kind: hooks.Began, Instance: "compass", Epoch: 9, Role: hooks.Active, Reason: failover.Forced.String(),
		}})
		h.step(9, hooks.Active, 4*ms, "writes open", hooks.Changed, "").step(9, hooks.Active, ms, "vip acquire", hooks.Changed, "")
		h.ended(9, hooks.Active, hooks.Completed, 5*ms)
		return h.add(time.Hour, hooks.Record{Kind: hooks.Override, Epoch: 9, Role: hooks.Standby, UID: 0, Reason: "discard 3 transactions of pivot: test rows"})
	},
	"maintenance": func(h *told) *told {
		on := hooks.Hold{On: true, For: time.Hour, Version: 3, By: "reserve", Lease: 2 * time.Minute}
		h.add(time.Minute, hooks.Record{Kind: hooks.Maintaining, Epoch: 9, UID: 1000, Reason: "kernel upgrade", Hold: on.Dated(h.now.Add(time.Minute))})
		h.add(time.Second, hooks.Record{Kind: hooks.Leasing, Epoch: 9, Hold: hooks.Hold{Version: 3, By: "reserve", Promised: true}})
		h.add(time.Minute, hooks.Record{Kind: hooks.Parted, Epoch: 9, Role: hooks.Active, Reason: "under maintenance; the address is left for 2m0s"})
		h.add(2*time.Second, hooks.Record{Kind: hooks.Adopted, Epoch: 9, Role: hooks.Active, Reason: "under maintenance; of the lease 1m57s were left"})
		h.add(time.Minute, hooks.Record{Kind: hooks.Blocking, Epoch: 9, UID: 1000, Reason: "its disk is slow", Hold: hooks.Hold{On: true}})
		h.add(time.Hour, hooks.Record{Kind: hooks.Maintaining, Epoch: 9, UID: 1000, Reason: "kernel upgrade", Hold: hooks.Hold{Expired: true, Version: 4, By: "primary"}})
		h.add(time.Second, hooks.Record{Kind: hooks.Leasing, Epoch: 9, Hold: hooks.Hold{Version: 4, By: "primary", Settled: true}})
		h.add(time.Minute, hooks.Record{Kind: hooks.Maintaining, Epoch: 9, Reason: "no peer", Hold: hooks.Hold{On: true, Version: 5, By: "primary", Forced: true}})
		h.add(time.Minute, hooks.Record{Kind: hooks.Maintaining, Epoch: 9, UID: 1000, Hold: hooks.Hold{Version: 6, By: "primary"}})
		return h.add(time.Minute, hooks.Record{Kind: hooks.Blocking, Epoch: 9, UID: 1000})
	},
	"rolled-back": func(h *told) *told {
		h.gave(6).began(8, hooks.Active, false, failover.Renumbered).ended(8, hooks.Active, hooks.Completed, 0)
		h.began(8, hooks.Active, true, failover.CatchUpFailed)
		return h.step(8, hooks.Active, 3*ms, "undo writes close", hooks.Changed, "").ended(8, hooks.Active, hooks.Completed, 3*ms)
	},
	"promotion-failed": func(h *told) *told {
		h.began(6, hooks.Active, false, failover.PeerSilent).step(6, hooks.Active, ms, "writes open", hooks.Failed, "pivot: Access denied")
		h.step(6, hooks.Active, 0, "vip acquire", hooks.Skipped, "").ended(6, hooks.Active, hooks.Aborted, ms)
		h.began(6, hooks.Standby, false, failover.StepFailed).step(6, hooks.Standby, ms, "undo writes open", hooks.Changed, "")
		h.ended(6, hooks.Standby, hooks.Completed, ms)
		return h.add(0, hooks.Record{Kind: hooks.Reverted, Epoch: 6, Role: hooks.Standby})
	},
	"cut-off": func(h *told) *told {
		h.began(6, hooks.Active, false, failover.PeerSilent).step(6, hooks.Active, 4*ms, "writes open", hooks.Changed, "")
		h.began(6, hooks.Standby, false, failover.Starting).step(6, hooks.Standby, 4*ms, "writes close", hooks.Changed, "")
		h.boot = bootTwo
		h.began(6, hooks.Standby, false, failover.Starting).ended(6, hooks.Standby, hooks.Completed, 4*ms)
		h.add(time.Second, hooks.Record{Kind: hooks.Learned, Epoch: 7})
		return h.began(7, hooks.Standby, false, failover.Settling)
	},
	"notices": func(h *told) *told {
		h.add(0, hooks.Record{Kind: hooks.Notified, Epoch: 7, Role: hooks.Active, Attempts: 2, Step: hooks.Result{
			Name: "tell", Title: "notify http://chat.example", Outcome: hooks.Changed, Detail: "200 OK", Duration: 1020 * ms,
		}})
		return h.add(time.Minute, hooks.Record{Kind: hooks.Notified, Epoch: 7, Role: hooks.Active, Attempts: 5, Step: hooks.Result{
			Name: "page", Title: "notify /usr/local/bin/page", Outcome: hooks.Failed, Detail: "exit status 3: no", Output: "dialling\x1b[31m\nno\n", Duration: 15 * time.Second,
		}})
	},
	"commanded": func(h *told) *told {
		h.add(0, hooks.Record{
			Kind: hooks.Commanded, UID: 1000, Command: "switchover", Arguments: "to=reserve timeout=1m0s", Reason: "new memory\nfor the primary",
		})
		h.gaveAll(6)
		h.add(time.Hour, hooks.Record{Kind: hooks.Commanded, Command: "replication stop", Arguments: "databases=all"})
		h.add(time.Minute, hooks.Record{Kind: hooks.Commanded, Instance: "sextant", UID: 1000, Command: "block", Arguments: `for=2h0m0s`, Reason: "its disk is slow"})
		h.list = append(h.list, hooks.Entry{At: h.now, Boot: h.boot, Record: hooks.Record{Kind: hooks.Commanded, Command: "maintenance", Arguments: "state=on"}})
		return h
	},
	"of-a-newer-release": func(h *told) *told {
		h.add(0, hooks.Record{Kind: 255, Epoch: 7, Reason: "so high", Step: hooks.Result{Name: "levitate", Outcome: hooks.Changed}})
		h.list[0].Unknown = "levitated"
		h.add(0, hooks.Record{Kind: hooks.Stepped, Epoch: 7, Role: hooks.Active, Step: hooks.Result{Name: "writes open", Outcome: hooks.Changed}})
		return h.began(8, hooks.Active, false, 200).ended(8, hooks.Active, hooks.Interrupted, time.Hour)
	},
}

func names(uid uint32) string { return map[uint32]string{0: "root", 1000: "bob"}[uid] }

// picturedHistories are those that docs/journal.md shows, and what it calls them.
var picturedHistories = map[string]string{
	"switchover-new":     "a switchover, on the node that took over",
	"takeover-with-loss": "a takeover after a host died with rows on it",
	"promotion-failed":   "a promotion whose step failed",
	"cut-off":            "a daemon and a host that went down in the middle",
	"commanded":          "who wanted what, and why",
}

// pictureOf holds a picture of docs against what the command prints.
func pictureOf(t *testing.T, name, says, text string) {
	t.Helper()
	const docs, columns = "../../docs", 110
	drawn, err := picture.SVG("tanist history: "+says, text, columns)
	if err != nil {
		t.Fatal(err)
	}
	golden(t, filepath.Join("..", docs, "history", name+".svg"), drawn)
	page, err := os.ReadFile(filepath.Join(docs, "journal.md"))
	if err != nil {
		t.Fatal(err)
	}
	if shown := "![" + says + "](history/" + name + ".svg)"; !strings.Contains(string(page), shown) {
		t.Errorf("docs/journal.md does not have %s", shown)
	}
}

func TestHistoryIsReadable(t *testing.T) {
	for name, tell := range usualHistories {
		t.Run(name, func(t *testing.T) {
			v := historyView{
				now: journal.Contents{Entries: tell(newTold()).list, Boot: bootTwo, Open: true}, zone: time.FixedZone("CET", 3600), account: names,
			}
			var text strings.Builder
			if err := v.print(&text, v.passages()); err != nil {
				t.Fatal(err)
			}
			golden(t, "history/"+name+".txt", text.String())
			doc, err := json.MarshalIndent(v.document("/var/lib/tanist/journal", v.passages()), "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			golden(t, "history/"+name+".json", string(doc)+"\n")
			if strings.ContainsRune(text.String(), 0x1b) {
				t.Error("a control character came through")
			}
			v.colour = true
			var coloured strings.Builder
			if err := v.print(&coloured, v.passages()); err != nil {
				t.Fatal(err)
			}
			plain := coloured.String()
			for _, p := range []paint{bold, red, yellow, green, "0"} {
				plain = strings.ReplaceAll(plain, "\x1b["+string(p)+"m", "")
			}
			if diff := cmp.Diff(text.String(), plain); diff != "" || plain == coloured.String() {
				t.Errorf("without its colours it is another text: %s", diff)
			}
			if says := picturedHistories[name]; says != "" {
				pictureOf(t, name, says, coloured.String())
			}
		})
	}
}

// Every reason has words, so that no transition goes unexplained.
func TestEveryReasonHasWords(t *testing.T) {
	for r := failover.Reason(0); !strings.Contains(r.String(), "("); r++ {
		if reasonWords(r.String()) == "" {
			t.Errorf("%s has no words", r)
		}
	}
	if words := reasonWords("levitating"); words != "" || reasonWords("") != "" {
		t.Errorf("an unknown reason means %q", words)
	}
}

// journaled makes a state directory with a journal of records.
func journaled(t *testing.T, records ...hooks.Record) string {
	t.Helper()
	dir := t.TempDir()
	j, _, err := journal.Open(filepath.Join(dir, "journal"))
	if err == nil {
		err = errors.Join(j.Append(records...), j.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func records(h *told) (rs []hooks.Record) {
	for _, e := range h.list {
		rs = append(rs, e.Record)
	}
	return rs
}

func TestHistoryChooses(t *testing.T) {
	h := newTold().took(5).gaveAll(5).took(7)
	h.add(0, hooks.Record{Kind: hooks.Learned, Instance: "sextant", Epoch: 9})
	dir := journaled(t, records(h)...)
	for name, tt := range map[string]struct {
		args []string
		want string // kind and epoch of each
	}{
		"all":         {nil, "promote 5, demote 5, promote 7, learned 9"},
		"the last":    {[]string{"-n", "2"}, "promote 7, learned 9"},
		"without end": {[]string{"-n", "0"}, "promote 5, demote 5, promote 7, learned 9"},
		"an epoch":    {[]string{"--epoch", "5"}, "promote 5, demote 5"},
		"of a switch": {[]string{"--epoch", "6"}, "demote 5"},
		"epoch zero":  {[]string{"--epoch", "0"}, ""},
		"an instance": {[]string{"--instance", "sextant"}, "learned 9"},
	} {
		got := tanist(t, append([]string{"history", "--json", "--state-dir", dir, "--config", "/nonexistent"}, tt.args...)...)
		var doc historyDocument
		if err := json.Unmarshal([]byte(got.stdout), &doc); err != nil || got.code != exitOK || got.stderr != "" {
			t.Fatalf("%s: %+v, %v", name, got, err)
		}
		var have []string
		for _, e := range doc.Entries {
			have = append(have, fmt.Sprintf("%s %d", e.Kind, e.Epoch))
		}
		if s := strings.Join(have, ", "); s != tt.want {
			t.Errorf("%s: %q, want %q", name, s, tt.want)
		}
	}
	if got := tanist(t, "history", "--state-dir", dir, "--instance", "nobody"); got.code != exitProblem || !strings.Contains(got.stderr, "compass, sextant") {
		t.Errorf("an instance that is none: %+v", got)
	}
	if got := tanist(t, "history", "--state-dir", dir, "-n", "-3"); got.code != exitProblem {
		t.Errorf("-n -3: %+v", got)
	}
	if got := tanist(t, "history", "--state-dir", dir, "--epoch", "77"); got.code != exitOK || got.stdout != "nothing in the journal\n" {
		t.Errorf("an epoch that was not: %+v", got)
	}
}

// What a rotation moved to another file is still there, and nothing is told twice.
func TestHistoryAcrossARotation(t *testing.T) {
	h := newTold().took(3)
	for epoch := range uint64(90) {
		h.began(10+epoch, hooks.Active, false, failover.PeerSilent)
		h.step(10+epoch, hooks.Active, ms, "exec noisy", hooks.Changed, strings.Repeat("x", 60_000)).ended(10+epoch, hooks.Active, hooks.Completed, ms)
	}
	dir := journaled(t, records(h)...)
	path := filepath.Join(dir, "journal")
	j, _, err := journal.Open(path)
	if err != nil || j.Recovery().Rotated == "" {
		t.Fatalf("%v, %v", err, j.Recovery())
	}
	defer j.Close()
	if err := j.Append(records(newTold().gaveAll(99))...); err != nil {
		t.Fatal(err)
	}
	got := tanist(t, "history", "-n", "0", "--state-dir", dir)
	if n := strings.Count(got.stdout, "\n20"); got.code != exitOK || n != 91 || strings.Count(got.stdout, "unit start lsyncd.service") != 1 {
		t.Errorf("%d transitions follow the first, exit status %d, %s", n, got.code, got.stderr)
	}
	if got = tanist(t, "history", "-n", "1", "--state-dir", dir); !strings.Contains(got.stdout, "handing over to epoch 100") {
		t.Errorf("%+v", got)
	}
}

func TestHistoryTellsWhatItCannotRead(t *testing.T) {
	dir := journaled(t, records(newTold().took(5).took(6))...)
	path := filepath.Join(dir, "journal")
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	content[200] ^= 1
	if err := os.WriteFile(path, content[:len(content)-9], 0o600); err != nil {
		t.Fatal(err)
	}
	got := tanist(t, "history", "--state-dir", dir)
	if got.code != exitOK || !strings.Contains(got.stderr, "a record's checksum is wrong") || !strings.Contains(got.stdout, "epoch 6") {
		t.Errorf("%+v", got)
	}
	if got = tanist(t, "history", "--state-dir", t.TempDir()); got.code != exitProblem || !strings.Contains(got.stderr, "no daemon has run here") {
		t.Errorf("without a journal: %+v", got)
	}
}

func TestHistoryForAnotherAccount(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to be somebody else")
	}
	dir := journaled(t, records(newTold().took(5))...)
	for _, d := range []string{filepath.Dir(dir), dir} { // t.TempDir makes both
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	binary, err := os.ReadFile(os.Args[0])
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "tanist"), binary, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	p := tanistCommand(t, "history", "--state-dir", dir)
	p.Path, p.Dir = filepath.Join(dir, "tanist"), dir
	p.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	if code := p.end(t); code != exitProblem || !strings.Contains(p.stderr.String(), "sudo tanist history") {
		t.Errorf("exit status %d: %s", code, p.stderr)
	}
}
