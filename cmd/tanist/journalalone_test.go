package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/hooks/journal"
	"github.com/tanist-ha/tanist/internal/control"
)

// Without a daemon a command is in the journal before it acts, and the journal is free
// for the daemon again; one that is somebody's, or cannot be written, refuses.
func TestJournalAlone(t *testing.T) {
	c := &common{stateDir: t.TempDir(), socket: "/none"}
	path := filepath.Join(c.stateDir, "journal")
	of := control.ReplicationRequest{
		Instance: "compass", Verb: control.ReplicationStop, Databases: []string{"pivot", "a b"}, Reason: "the disk dies", UID: 7,
	}.Command()
	var said strings.Builder
	if err := journalAlone(c, of, &said); err != nil || !strings.Contains(said.String(), "not journaled") {
		t.Errorf("without a journal: %v, %q", err, said.String())
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it made one: %v", err)
	}
	book, _, err := journal.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := journalAlone(c, of, &said); !errors.Is(err, journal.ErrOwned) || !strings.Contains(err.Error(), "a daemon runs, though none answers on /none") {
		t.Errorf("beside a daemon: %v", err)
	}
	if err := errors.Join(book.Append(hooks.Record{Kind: hooks.Began, Instance: "compass", Epoch: 7, Role: hooks.Active}), book.Close()); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := journalAlone(c, of, &said); err != nil {
			t.Fatal(err)
		}
	}
	held, err := journal.Read(path)
	if err != nil {
		t.Fatal(err)
	}
	var got []hooks.Record
	for _, e := range held.Entries {
		got = append(got, e.Record)
	}
	record := hooks.Record{
		Kind: hooks.Commanded, Instance: "compass", Command: "replication stop", Arguments: `databases="pivot,a b"`, Reason: "the disk dies", UID: 7,
	}
	if diff := cmp.Diff([]hooks.Record{{Kind: hooks.Began, Instance: "compass", Epoch: 7, Role: hooks.Active}, record, record}, got); diff != "" {
		t.Error(diff)
	}
	if m := journal.Memories(held.Entries)["compass"]; m.Epoch != 7 || m.Role != hooks.Active {
		t.Errorf("a daemon that starts would read %+v", m)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := journalAlone(c, of, &said); err == nil {
		t.Error("what cannot be written was no reason to refuse")
	}
}
