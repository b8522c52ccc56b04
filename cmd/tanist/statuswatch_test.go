package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

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

// shows waits until something is on the screen.
func (p *pseudoTerminal) shows(t *testing.T, what string) {
	t.Helper()
	var is string
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if is = onScreen(p.out.String()); strings.Contains(is, what) {
			return
		}
	}
	t.Fatalf("it never shows %q:\n%s", what, is)
}

// sequence is one control sequence: its numbers, and the letter that says what it does.
var sequence = regexp.MustCompile(`^\x1b(?:\[([0-9;?<=>$]*)([@-~])|\][^\x07\x1b]*(?:\x07|\x1b\\)|[()].|[^\[\]()])`)

// onScreen is what a terminal shows after all that was written to it, as far as a live
// screen moves and erases.
func onScreen(out string) string {
	const rows, columns = 80, 200
	var cells [rows][columns]rune
	var y, x int
	erase := func(y, from, to int) {
		for i := max(0, from); i < min(to, columns); i++ {
			cells[y][i] = ' '
		}
	}
	for y := range cells {
		erase(y, 0, columns)
	}
	last := ' '
	put := func(r rune) {
		cells[min(y, rows-1)][min(x, columns-1)] = r
		x, last = x+1, r
	}
	for out != "" {
		m := sequence.FindStringSubmatch(out)
		if m == nil {
			r, size := utf8.DecodeRuneInString(out)
			out = out[size:]
			switch r {
			case '\r':
				x = 0
			case '\n':
				y = min(y+1, rows-1)
			case '\b':
				x = max(0, x-1)
			case '\t':
				x = x/8*8 + 8
			default:
				put(r)
			}
			continue
		}
		out = out[len(m[0]):]
		var n [2]int
		for i, s := range strings.SplitN(m[1], ";", 2) {
			n[i], _ = strconv.Atoi(s)
		}
		by := max(1, n[0])
		switch m[2] {
		case "H":
			y, x = max(1, n[0])-1, max(1, n[1])-1
		case "A":
			y = max(0, y-by)
		case "B":
			y = min(y+by, rows-1)
		case "C":
			x += by
		case "D":
			x = max(0, x-by)
		case "G", "`":
			x = by - 1
		case "d":
			y = min(by, rows) - 1
		case "X":
			erase(y, x, x+by)
		case "P":
			copy(cells[y][x:], cells[y][min(x+by, columns):])
			erase(y, columns-by, columns)
		case "@":
			copy(cells[y][min(x+by, columns):], cells[y][x:])
			erase(y, x, x+by)
		case "b":
			for range by {
				put(last)
			}
		case "K":
			erase(y, []int{x, 0, 0}[n[0]], []int{columns, x + 1, columns}[n[0]])
		case "J":
			for i := range cells {
				if i > y && n[0] == 0 || i < y && n[0] == 1 || n[0] == 2 {
					erase(i, 0, columns)
				}
			}
			if n[0] < 2 {
				erase(y, []int{x, 0}[n[0]], []int{columns, x + 1}[n[0]])
			}
		}
	}
	var b strings.Builder
	for _, line := range cells {
		b.WriteString(strings.TrimRight(string(line[:]), " ") + "\n")
	}
	return b.String()
}

// changing is a daemon whose epoch grows with every question.
type changing struct {
	*fake
	asked atomic.Uint64
}

func (c *changing) Status(context.Context, control.Question) (control.StatusAnswer, error) {
	doc := document("backup", false)
	doc.Peer.Instances[0].Epoch = c.asked.Add(1)
	return control.StatusAnswer{Document: doc}, nil
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
	t.Parallel()
	socket := filepath.Join(t.TempDir(), "s")
	d := &changing{fake: &fake{}}
	stop := answering(t, socket, d)
	term := newTerminal(t, 100, 60)
	before := term.state(t)
	p := watching(t, term, socket)
	term.shows(t, "primary is active, epoch ")
	first := d.asked.Load()
	term.shows(t, fmt.Sprintf("epoch %d", first+2)) // it asks by itself
	if raw := term.state(t); raw == before {
		t.Error("keys are not read as they come")
	}

	term.resize(t, 70, 12)
	term.shows(t, "lines 1 to 10 of ")
	term.types(t, "G")
	term.shows(t, "cannot be heard") // a path, near the end
	term.types(t, "g")
	term.shows(t, "lines 1 to 10 of ")

	at := len(term.out.String())
	stop()
	term.shows(t, "no daemon answers")
	asked := d.asked.Load()
	term.shows(t, "q ends")
	if gone := term.out.String()[at:]; !strings.Contains(gone, "\x1b[90m") {
		t.Errorf("what nobody stands for any more is not grey: %q", gone)
	}
	stop = answering(t, socket, d)
	defer func() { stop() }()
	term.shows(t, fmt.Sprintf("epoch %d", asked+1))
	at = len(term.out.String())

	term.types(t, "q")
	if code := p.end(t); code != exitOK || p.stderr.String() != "" {
		t.Errorf("exit status %d, %s", code, p.stderr)
	}
	if diff := cmp.Diff(before, term.state(t)); diff != "" {
		t.Errorf("it leaves another terminal: %s", diff)
	}
	left := ""
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if left = term.out.String()[at:]; strings.Contains(left, "\x1b[?1049l") && strings.Contains(left, "\x1b[?25h") {
			return
		}
	}
	t.Errorf("it leaves its screen, or hides the cursor: %q", left)
}

// Ctrl-C and SIGTERM end it as q does, also while the daemon was never there.
func TestWatchEnds(t *testing.T) {
	t.Parallel()
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
			term.shows(t, "no daemon answers")
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

// TestSilentTerminal runs a command on a terminal that answers no question, as a serial
// console and what an orchestration tool makes do: it asks none, and so waits for none.
func TestSilentTerminal(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"version"}, {"check-master", "--quiet", "--socket", "/nonexistent"}} {
		term := newTerminal(t, 80, 24)
		p := tanistCommand(t, args...)
		p.Env = append(p.Env, "TERM=xterm-256color")
		p.Stdin, p.Stdout = term.slave, term.slave
		p.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 0, Pdeathsig: syscall.SIGKILL}
		if err := p.Start(); err != nil {
			t.Fatal(err)
		}
		_ = p.end(t)
		if out := term.out.String(); strings.Contains(out, "\x1b") {
			t.Errorf("tanist %s asks the terminal: %q", strings.Join(args, " "), out)
		}
	}
}
