package step

// What the steps on other programs' files share: they differ only in how they edit
// the bytes.

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// fileEdit is a step that edits one file. edit returns what it was given when the
// file is already as it should be.
type fileEdit struct {
	file, what string
	edit       func([]byte) ([]byte, error)
}

// Check also wants a change where a run that was killed left its file behind.
func (e *fileEdit) Check(ctx context.Context) (State, error) {
	c, data, err := settled(ctx, e.file, e.edit, false)
	if err != nil {
		return cannot(e.explain(err))
	}
	defer c.close()
	if !bytes.Equal(c.data, data) {
		if err := c.obstacle(); err != nil {
			return cannot(e.explain(err))
		}
		return WouldChange, nil
	}
	if leftBehind(c.real) {
		return WouldChange, nil
	}
	return Ok, nil
}

// setBack is how often an edit is made again that another program took back at once.
const setBack = 3

// Apply makes the edit again when a program that had read the file before wrote it
// after.
func (e *fileEdit) Apply(ctx context.Context) error {
	for range setBack {
		if err := replace(ctx, e.file, e.edit); err != nil {
			return e.explain(err)
		}
		c, data, err := settled(ctx, e.file, e.edit, false)
		if err != nil {
			return e.explain(err)
		}
		c.close()
		if bytes.Equal(c.data, data) {
			return nil
		}
	}
	return e.explain(refuse(ReasonMoved, 0, "written %d times, and taken back each time", setBack))
}

// Report names what was put aside beside the file: versions of another program's.
func (e *fileEdit) Report() string {
	real, err := filepath.EvalSymlinks(e.file)
	if err != nil {
		return ""
	}
	kept := aside(real)
	if len(kept) == 0 {
		return ""
	}
	return "a run that was cut off had taken away what another program wrote, which is kept as " + strings.Join(kept, ", ")
}

// explain adds the file and what was wanted of it.
func (e *fileEdit) explain(err error) error {
	if err == nil {
		return nil
	}
	if r := (*Refusal)(nil); errors.As(err, &r) {
		full := *r
		full.File, full.What = e.file, e.what
		return &full
	}
	return fmt.Errorf("%s in %s: %w", e.what, e.file, err)
}

// read returns the file as it is.
func (e *fileEdit) read() ([]byte, error) {
	c, err := open(e.file)
	if err != nil {
		return nil, e.explain(err)
	}
	c.close()
	return c.data, nil
}

const (
	settleTries = 60
	settlePause = 25 * time.Millisecond
	settleAge   = time.Second // so long after its last change nobody is in the middle of writing a file
)

// settled reads a file and edits what it read. A file that cannot be edited is read
// again until it has not changed for a while: many programs empty a file before they
// write it, and what is caught in between says nothing.
func settled(ctx context.Context, path string, edit func([]byte) ([]byte, error), locked bool) (*current, []byte, error) {
	var last *current
	gone := false
	for try := 1; ; try++ {
		c, err := open(path)
		if err == nil && locked {
			err = c.lockOrClose(ctx)
		}
		switch {
		case errors.Is(err, os.ErrNotExist) && !gone: // perhaps to be made anew
			gone = true
		case err != nil:
			return nil, nil, err
		default:
			data, err := edit(c.data)
			if err == nil {
				return c, data, nil
			}
			c.close()
			quiet := last != nil && last.sameAs(c)
			switch {
			case quiet && (try >= settleTries || c.age() > settleAge):
				return nil, nil, err
			case try >= settleTries:
				return nil, nil, refuse(ReasonMoved, 0, "at last it could not be edited: %s", reasonOf(err))
			}
			last, gone = c, false
		}
		if err := pause(ctx, settlePause); err != nil {
			return nil, nil, err
		}
	}
}

func (c *current) age() time.Duration { return time.Since(time.Unix(c.st.Mtim.Unix())) }

// reasonOf is what an error says without the file.
func reasonOf(err error) string {
	if r := (*Refusal)(nil); errors.As(err, &r) {
		return r.Reason.String()
	}
	return err.Error()
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}

// leftoverOf is where a replacement of a file is made, and what a run that was killed
// leaves behind.
func leftoverOf(real string) string {
	return filepath.Join(filepath.Dir(real), "."+filepath.Base(real)+".tanist")
}
