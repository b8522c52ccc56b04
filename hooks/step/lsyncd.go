package step

// What proves that lsyncd has nothing pending. It writes its status file when
// something happened and statusInterval has passed since, and never while it is
// idle: an old file with no delays may be the truth or an lsyncd that hangs. So it
// is given something to happen: the mode of each watched tree's root is set to what
// it is. lsyncd reads that notification after all earlier ones, since there is one
// queue, makes nothing of it, and writes its status when its interval is over.
//
// One report after that is not enough: its time may have come before the queue was
// read. A second one is: after a report without delays only the queue wakes lsyncd,
// so that it has read on before it writes again. Two reports without delays, each
// from after a notification of ours, are the proof.

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	// statusLimit bounds a status file: one line for each delay.
	statusLimit = 64 << 20
	// statusTrees bounds the trees that are touched.
	statusTrees = 1000
)

// LsyncdStatus is what a status file of lsyncd says.
type LsyncdStatus struct {
	Written time.Time // the file's, finer than the date in it
	Delays  int       // waiting and active, of all syncs
	Active  int       // those of them that are being carried
	Sources []string  // the trees
}

// ReadLsyncdStatus reads a status file of lsyncd 2.1 or later.
func ReadLsyncdStatus(path string) (LsyncdStatus, error) {
	f, err := os.Open(path)
	if err != nil {
		return LsyncdStatus{}, err
	}
	defer f.Close()
	st, err := f.Stat()
	switch {
	case err != nil:
		return LsyncdStatus{}, err
	case !st.Mode().IsRegular():
		return LsyncdStatus{}, fmt.Errorf("%s: not a regular file", path)
	case st.Size() > statusLimit:
		return LsyncdStatus{}, fmt.Errorf("%s: more than %d bytes", path, statusLimit)
	}
	data := make([]byte, st.Size())
	n, _ := f.ReadAt(data, 0) // a file that became shorter is parsed as it is
	s, err := parseLsyncdStatus(data[:n])
	if err != nil {
		return LsyncdStatus{}, fmt.Errorf("%s: %w", path, err)
	}
	s.Written = st.ModTime()
	return s, nil
}

// errHalfWritten is a status file that lsyncd is writing just now: it writes in
// place.
var errHalfWritten = errors.New("no complete status report of lsyncd")

// parseLsyncdStatus reads a report:
//
//	Lsyncd status report at Sat Nov 21 13:03:57 2026
//
//	Sync1 source=/srv/www/
//	There are 2 delays
//	active Create /a
//	wait   Modify /b
//	Filtering:
//	  nothing.
//
//	Inotify watching 1 directories
//	  1: /srv/www/
//
// A name in it can hold anything but NUL, line ends too: only as many lines as
// there are delays are taken for delays.
func parseLsyncdStatus(data []byte) (LsyncdStatus, error) {
	var s LsyncdStatus
	lines := bufio.NewScanner(bytes.NewReader(data))
	lines.Buffer(nil, statusLimit)
	if !lines.Scan() || !strings.HasPrefix(lines.Text(), "Lsyncd status report at ") {
		return s, errHalfWritten
	}
	open, complete := false, false // a sync that has not said how many delays it has; the last section
	for lines.Scan() {
		line := lines.Text()
		if _, source, ok := strings.Cut(line, " source="); ok && !strings.HasPrefix(line, " ") && !open {
			s.Sources, open = append(s.Sources, source), true
			continue
		}
		if n, ok := delays(line); ok && open {
			s.Delays, open = s.Delays+n, false
			for range n {
				if !lines.Scan() {
					return s, errHalfWritten
				}
				if strings.HasPrefix(lines.Text(), "active ") {
					s.Active++
				}
			}
			continue
		}
		complete = complete || strings.HasPrefix(line, "Inotify watching ")
	}
	if err := lines.Err(); err != nil {
		return s, err
	}
	if open || !complete || len(s.Sources) == 0 {
		return s, errHalfWritten
	}
	return s, nil
}

func delays(line string) (int, bool) {
	rest, ok := strings.CutPrefix(line, "There are ")
	if !ok {
		return 0, false
	}
	digits, ok := strings.CutSuffix(rest, " delays")
	n, err := strconv.Atoi(digits)
	return n, ok && err == nil && n >= 0
}

// drained is an lsyncd that has nothing pending.
type drained struct {
	status string // path
	proc   string // where processes are seen

	asked   time.Time // since when a report is wanted
	touched time.Time // when the trees were last touched
	proofs  int       // reports without delays, in a row
	last    time.Time // when the last report that counted was written
	left    int       // delays in it
}

// proofsWanted is how many reports in a row prove that nothing is pending.
const proofsWanted = 2

func (d *drained) begin() error {
	d.proofs, d.last = 0, time.Time{}
	s, err := d.read()
	if err != nil {
		return err
	}
	d.left = s.Delays
	return d.ask(s)
}

func (d *drained) standing(context.Context) (State, error) {
	s, err := d.read()
	if err != nil {
		return Cannot, err
	}
	if err := d.running(s); err != nil {
		return Cannot, err
	}
	return WouldChange, nil
}

func (d *drained) met(context.Context) (bool, string, error) {
	s, err := d.read()
	if err != nil {
		return false, "", err
	}
	if err := d.running(s); err != nil {
		return false, "", err
	}
	if !s.Written.After(d.asked) || s.Written.Equal(d.last) {
		if time.Since(d.touched) > touchEvery {
			err = d.touch(s)
		}
		return false, d.progress(s), err
	}
	d.last, d.left = s.Written, s.Delays
	if d.proofs++; s.Delays > 0 {
		d.proofs = 0
	}
	if d.proofs == proofsWanted {
		return true, "", nil
	}
	return false, d.progress(s), d.ask(s)
}

func (d *drained) progress(s LsyncdStatus) string {
	quiet := time.Since(d.asked).Round(time.Second)
	switch {
	case d.left > 0:
		return fmt.Sprintf("lsyncd: %d delays left, %d of them active", d.left, s.Active)
	case quiet > statusPatience:
		return fmt.Sprintf("lsyncd has not written %s for %s: it hangs, or its statusInterval is longer", d.status, quiet)
	}
	return "lsyncd: no delays, making sure"
}

// touchEvery is how often the trees are touched while no report comes: one that
// came within the same tick of the kernel's clock as the question did not count.
const touchEvery = 5 * time.Second

// statusPatience is how long an lsyncd that writes its status often may leave it.
const statusPatience = 15 * time.Second

// read reads the status, and again when lsyncd is writing it just now.
func (d *drained) read() (LsyncdStatus, error) {
	for try := 0; ; try++ {
		s, err := ReadLsyncdStatus(d.status)
		if !errors.Is(err, errHalfWritten) || try == 20 {
			return s, err
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// ask makes lsyncd write a status that is newer than what happened up to now.
func (d *drained) ask(s LsyncdStatus) error {
	d.asked = time.Now()
	return d.touch(s)
}

// touch leaves a notification in lsyncd's queue. A tree within another one is left
// alone: in that one it would be a change to carry.
func (d *drained) touch(s LsyncdStatus) error {
	d.touched = time.Now()
	if len(s.Sources) > statusTrees {
		return fmt.Errorf("%s: more than %d trees", d.status, statusTrees)
	}
	for _, tree := range s.Sources {
		within := func(other string) bool {
			return filepath.Clean(other) != filepath.Clean(tree) && strings.HasPrefix(filepath.Clean(tree)+"/", strings.TrimSuffix(other, "/")+"/")
		}
		if slices.ContainsFunc(s.Sources, within) {
			continue
		}
		st, err := os.Stat(tree)
		if err == nil {
			err = os.Chmod(tree, st.Mode())
		}
		if err != nil {
			return fmt.Errorf("make lsyncd look at its tree: %w", err)
		}
	}
	return nil
}

// ErrLsyncdDown says that no lsyncd runs on this host.
var ErrLsyncdDown = errors.New("lsyncd does not run")

// AskLsyncd waits until the lsyncd that has this status file has written a report
// that is newer than the call, or ctx ends.
func AskLsyncd(ctx context.Context, status string) error {
	d := &drained{status: status, proc: "/proc"}
	if !d.runs() {
		return ErrLsyncdDown
	}
	if err := d.begin(); err != nil {
		return err
	}
	for {
		if _, _, err := d.met(ctx); err != nil || !d.last.IsZero() {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(waitPoll):
		}
	}
}

// running returns an error when no lsyncd runs at all.
func (d *drained) running(s LsyncdStatus) error {
	if d.runs() {
		return nil
	}
	return fmt.Errorf("%w: %s, written %s, says %d delays", ErrLsyncdDown, d.status, s.Written.Format(time.DateTime), s.Delays)
}

func (d *drained) runs() bool {
	comms, err := filepath.Glob(d.proc + "/[0-9]*/comm")
	if err != nil || len(comms) == 0 {
		return true // who cannot see processes cannot say that there are none
	}
	for _, path := range comms {
		comm, err := os.ReadFile(path)
		if err == nil && string(comm) == "lsyncd\n" && !zombie(filepath.Dir(path)) {
			return true
		}
	}
	return false
}

func zombie(dir string) bool {
	stat, err := os.ReadFile(filepath.Join(dir, "stat"))
	i := bytes.LastIndexByte(stat, ')')
	return err != nil || i < 0 || i+2 >= len(stat) || stat[i+2] == 'Z'
}
