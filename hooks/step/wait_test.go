package step

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tanist-ha/tanist/hooks"
)

func TestWaitForAFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ready")
	var w words
	s := NewWait(hooks.Wait{File: path}, func(s string) {
		w.say(s)
		if err := os.WriteFile(path, nil, 0o600); err != nil { // it comes while it is waited for
			t.Error(err)
		}
	})
	if out, _ := DryRun(t.Context(), s); out != hooks.Changed {
		t.Errorf("dry run: %s", out)
	}
	out, detail := Execute(t.Context(), s)
	if out != hooks.Changed || w.String() != path+" does not exist" {
		t.Errorf("%s %s, said %s", out, detail, &w)
	}
	if out, _ := Execute(t.Context(), NewWait(hooks.Wait{File: path}, nil)); out != hooks.Unchanged {
		t.Errorf("a second time: %s", out)
	}
}

func TestWaitForAPort(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	if out, detail := Execute(t.Context(), NewWait(hooks.Wait{TCP: address}, nil)); out != hooks.Unchanged {
		t.Errorf("%s %s", out, detail)
	}
	l.Close()
	var w words
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	out, detail := Execute(ctx, NewWait(hooks.Wait{TCP: address}, w.say))
	if out != hooks.TimedOut || !strings.Contains(detail, "connection refused") || !strings.Contains(w.String(), "connection refused") {
		t.Errorf("%s %s, said %s", out, detail, &w)
	}
}

func TestAWaitIsCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	out, detail := Execute(ctx, NewWait(hooks.Wait{File: filepath.Join(t.TempDir(), "never")}, func(string) { cancel() }))
	if out != hooks.Cancelled || !strings.Contains(detail, "does not exist") {
		t.Errorf("%s %s", out, detail)
	}
}

// A program that prints without end fills neither memory nor the journal.
func TestOutputOfAGigabyte(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes seconds")
	}
	s := NewExec(hooks.Exec{Command: []string{"/bin/sh", "-c", "echo first; head -c 1G /dev/zero; echo last; exit 3"}}, "")
	out, detail := Execute(t.Context(), s)
	got := Printed(s)
	if out != hooks.Failed || !strings.HasSuffix(detail, "exit status 3: last") {
		t.Errorf("%s %s", out, detail)
	}
	if len(got) > hooks.OutputLimit || !strings.HasPrefix(got, "first\n") || !strings.HasSuffix(got, "last\n") || !strings.Contains(got, "[part left out]") {
		t.Errorf("%d bytes: %.20q ... %q", len(got), got, got[len(got)-20:])
	}
	if Printed(NewWait(hooks.Wait{File: "/"}, nil)) != "" {
		t.Error("a step that runs no program printed something")
	}
}

func TestNotifyOnlyQueues(t *testing.T) {
	var posted []hooks.Notify
	post := func(n hooks.Notify) { posted = append(posted, n) }
	for _, a := range []hooks.Notify{{Exec: []string{"/bin/true"}}, {Webhook: "http://127.0.0.1:1/"}} {
		posted = nil
		if out, _ := DryRun(t.Context(), NewNotify(a, post)); out != hooks.Changed || posted != nil {
			t.Errorf("dry run: %s, posted %v", out, posted)
		}
		if out, detail := Execute(t.Context(), NewNotify(a, post)); out != hooks.Changed || detail != "queued" || len(posted) != 1 {
			t.Errorf("%s %s, posted %v", out, detail, posted)
		}
	}
	for _, a := range []hooks.Notify{{Exec: []string{"/bin/none"}}, {Webhook: "http://secret:secret"}, {Webhook: "file:///secret"}} {
		posted = nil
		out, detail := Execute(t.Context(), NewNotify(a, post))
		if out != hooks.Failed || posted != nil || strings.Contains(detail, "secret") {
			t.Errorf("%s %s, posted %v", out, detail, posted)
		}
	}
}
