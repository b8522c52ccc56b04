// Package probe asks whether something on or near this host works, again and
// again. What the answers add up to is the health package's to say.
//
// Like every package below the module root it may be imported, but promises no
// stable API before version 1.
package probe

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
)

// Probe is one question. One goroutine at a time asks it.
type Probe interface {
	// Probe returns nil when all is well, else what is wrong. It ends with ctx, as
	// far as the kernel lets it.
	Probe(ctx context.Context) error
}

// UnusableError says that the question cannot be asked on this host as it stands:
// what it names is not there, and no later sample will differ until somebody
// changes the host or the configuration.
type UnusableError struct{ Err error }

func (e *UnusableError) Error() string { return e.Err.Error() }
func (e *UnusableError) Unwrap() error { return e.Err }

// Unusable makes an *UnusableError.
func Unusable(format string, args ...any) error {
	return &UnusableError{fmt.Errorf(format, args...)}
}

// Once asks once and waits no longer than timeout for the answer, also where the
// probe does not end with its context.
func Once(ctx context.Context, p Probe, timeout time.Duration) error {
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	answer := make(chan error, 1)
	go func() { answer <- p.Probe(ctx) }()
	select {
	case err := <-answer:
		if err == nil || time.Since(began) < timeout { // a socket can see the end of the time first
			return err
		}
	case <-ctx.Done():
		if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return ctx.Err()
		}
	}
	return errors.New(unanswered(timeout))
}

func unanswered(timeout time.Duration) string { return "no answer within " + timeout.String() }

// detailLimit is how many characters of an error a sample carries.
const detailLimit = 200

// Line makes one printable line of an error, cut short when it is long.
func Line(err error) string {
	text := strings.ReplaceAll(err.Error(), "\n", "; ")
	text = strings.Map(func(r rune) rune {
		switch {
		case r == '\t':
			return ' '
		case !unicode.IsPrint(r):
			return -1
		}
		return r
	}, text)
	if runes := []rune(text); len(runes) > detailLimit {
		return string(runes[:detailLimit]) + "..."
	}
	return text
}
