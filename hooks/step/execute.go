package step

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/tanist-ha/tanist/hooks"
)

// Execute takes a step through check, apply and check again, and says how it
// ended. ctx carries the step's deadline; its cancellation is a newer plan's.
func Execute(ctx context.Context, s Step) (hooks.Outcome, string) {
	state, err := s.Check(ctx)
	switch {
	case ctx.Err() != nil:
		return interrupted(ctx), "before anything was changed"
	case state == Cannot:
		return hooks.Failed, text(err)
	case state == Ok:
		return hooks.Unchanged, ""
	}
	outcome, detail := applied(ctx, s, s.Apply(ctx))
	if r, ok := s.(Reporter); ok {
		if report := r.Report(); detail == "" {
			detail = report
		} else if report != "" {
			detail += "; " + report
		}
	}
	return outcome, detail
}

// applied says how a step ended that was applied.
func applied(ctx context.Context, s Step, err error) (hooks.Outcome, string) {
	if err != nil {
		if ctx.Err() != nil {
			return interrupted(ctx), text(err)
		}
		return hooks.Failed, text(err)
	}
	state, err := s.Check(ctx)
	switch {
	case state == Ok:
		return hooks.Changed, ""
	case ctx.Err() != nil:
		return interrupted(ctx), "applied, and not verified any more"
	case err != nil:
		return hooks.Failed, fmt.Sprintf("applied, and the check afterwards says: %s", text(err))
	}
	return hooks.Failed, "applied, and yet the check afterwards does not find it so"
}

// DryRun says what Execute would do, without doing it.
func DryRun(ctx context.Context, s Step) (hooks.Outcome, string) {
	switch state, err := s.Check(ctx); state {
	case Ok:
		return hooks.Unchanged, ""
	case WouldChange:
		return hooks.Changed, ""
	case Cannot:
		return hooks.Failed, text(err)
	}
	return hooks.Failed, "the check does not know"
}

func interrupted(ctx context.Context) hooks.Outcome {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return hooks.TimedOut
	}
	return hooks.Cancelled
}

// text makes one line of an error.
func text(err error) string {
	if err == nil {
		return ""
	}
	return strings.Join(strings.Fields(strings.ReplaceAll(err.Error(), "\n", "; ")), " ")
}
