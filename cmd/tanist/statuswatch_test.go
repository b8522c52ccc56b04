package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/tanist-ha/tanist/internal/control"
)

// pseudoTerminal is a terminal without a screen: what is written to it comes out of
// master, and what is typed goes in there.
type pseudoTerminal struct {
	master, slave *os.File
	out           lockedBuffer
	over          chan struct{}
}

func newTerminal(t *testing.T, columns, rows uint16) *pseudoTerminal {
	t.Helper()
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Skipf("needs a pseudo-terminal: %v", err)
	}
	master := os.NewFile(uintptr(fd), "/dev/ptmx")
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	var slave *os.File
	if err == nil {
		slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	p := &pseudoTerminal{master: master, slave: slave, over: make(chan struct{})}
	p.resize(t, columns, rows)
	go func() { defer close(p.over); _, _ = io.Copy(&p.out, master) }()
	t.Cleanup(func() {
		_ = slave.Close()
		<-p.over // the last slave is closed
		_ = master.Close()
	})
	return p
}

func (p *pseudoTerminal) resize(t *testing.T, columns, rows uint16) {
	t.Helper()
	if err := unix.IoctlSetWinsize(int(p.master.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Col: columns, Row: rows}); err != nil {
		t.Fatal(err)
	}
}

func (p *pseudoTerminal) state(t *testing.T) unix.Termios {
	t.Helper()
	s, err := unix.IoctlGetTermios(int(p.slave.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return *s
}

func (p *pseudoTerminal) types(t *testing.T, keys string) {
	t.Helper()
	if _, err := p.master.WriteString(keys); err != nil {
		t.Fatal(err)
	}
}

var sequences = regexp.MustCompile(`\x1b\[[0-9;?]*[A-Za-z]`)

// shows waits until something is shown that was not before from, and returns how much
// was shown by then.
func (p *pseudoTerminal) shows(t *testing.T, from int, what string) int {
	t.Helper()
	var is string
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		is = p.out.String()
		if strings.Contains(sequences.ReplaceAllString(is[from:], ""), what) {
			return len(is)
		}
	}
	t.Fatalf("it never shows %q: %q", what, is[from:])
	return 0
}

// changing is a daemon whose epoch grows with every question.
type changing struct {
	*fake
	asked atomic.Uint64
}

func (c *changing) Status(context.Context) (control.Document, error) {
	doc := document("backup", false)
	doc.Peer.Instances[0].Epoch = c.asked.Add(1)
	return doc, nil
}

func answering(t *testing.T, socket string, d control.Daemon) (stop func()) {
	t.Helper()
	s, err := control.Listen(socket, d)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	over := make(chan error, 1)
	go func() { over <- s.Run(ctx) }()
	return func() {
		cancel()
		if err := <-over; err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}
}

func watching(t *testing.T, term *pseudoTerminal, socket string) tanistProcess {
	t.Helper()
	p := tanistCommand(t, "status", "--watch", "--socket", socket)
	p.Env = append(p.Env, "TERM=xterm-256color", "LC_ALL=C.UTF-8", "NO_COLOR=")
	p.Stdin, p.Stdout = term.slave, term.slave
	p.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 0, Pdeathsig: syscall.SIGKILL}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	return p
}

// TestWatch looks over an operator's shoulder: pictures that change, another size of the
// terminal, a daemon that goes away and comes back, and the end.
func TestWatch(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	d := &changing{fake: &fake{}}
	stop := answering(t, socket, d)
	term := newTerminal(t, 100, 60)
	before := term.state(t)
	p := watching(t, term, socket)
	at := term.shows(t, 0, "primary is active, epoch ")
	first := d.asked.Load()
	at = term.shows(t, at, fmt.Sprintf("epoch %d", first+2)) // it asks by itself
	if raw := term.state(t); raw == before {
		t.Error("keys are not read as they come")
	}

	term.resize(t, 70, 12)
	at = term.shows(t, at, "lines 1 to 10 of ")
	term.types(t, "G")
	at = term.shows(t, at, "cannot be heard") // a path, near the end
	term.types(t, "g")
	at = term.shows(t, at, "lines 1 to 10 of ")

	stop()
	at = term.shows(t, at, "no daemon answers")
	asked := d.asked.Load()
	gone := term.out.String()[:at]
	term.shows(t, at-1, "q ends")
	if last := term.out.String()[strings.LastIndex(gone, "no answer for"):]; !strings.Contains(last, "\x1b[90m") {
		t.Errorf("what nobody stands for any more is not grey: %q", last)
	}
	stop = answering(t, socket, d)
	defer func() { stop() }()
	at = term.shows(t, at, fmt.Sprintf("epoch %d", asked+1))

	term.types(t, "q")
	if code := p.end(t); code != exitOK || p.stderr.String() != "" {
		t.Errorf("exit status %d, %s", code, p.stderr)
	}
	if diff := cmp.Diff(before, term.state(t)); diff != "" {
		t.Errorf("it leaves another terminal: %s", diff)
	}
	term.shows(t, 0, "q ends")
	if left := term.out.String()[at:]; !strings.Contains(left, "\x1b[?1049l") || !strings.Contains(left, "\x1b[?25h") {
		t.Errorf("it leaves its screen, or hides the cursor: %q", left)
	}
}

// Ctrl-C and SIGTERM end it as q does, also while the daemon was never there.
func TestWatchEnds(t *testing.T) {
	for name, end := range map[string]func(*pseudoTerminal, tanistProcess) error{
		"ctrl-c": func(term *pseudoTerminal, _ tanistProcess) error {
			_, err := term.master.WriteString("\x03")
			return err
		},
		"sigterm": func(_ *pseudoTerminal, p tanistProcess) error { return p.Process.Signal(syscall.SIGTERM) },
	} {
		t.Run(name, func(t *testing.T) {
			term := newTerminal(t, 80, 24)
			before := term.state(t)
			p := watching(t, term, filepath.Join(t.TempDir(), "none"))
			term.shows(t, 0, "no daemon answers")
			if err := end(term, p); err != nil {
				t.Fatal(err)
			}
			if code := p.end(t); code != exitOK || p.stderr.String() != "" {
				t.Errorf("exit status %d, %s", code, p.stderr)
			}
			if diff := cmp.Diff(before, term.state(t)); diff != "" {
				t.Errorf("it leaves another terminal: %s", diff)
			}
		})
	}
}

func TestWatchWithoutATerminal(t *testing.T) {
	for _, args := range [][]string{{"--watch"}, {"--watch", "--json"}} {
		got := tanist(t, append([]string{"status", "--socket", "/nonexistent"}, args...)...)
		if got.code != exitProblem || got.stdout != "" || strings.Count(got.stderr, "\n") != 1 || !strings.Contains(got.stderr, "--watch") {
			t.Errorf("%v: %+v", args, got)
		}
	}
}
