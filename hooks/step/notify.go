package step

// The notify step hands a notice over and is done.

import (
	"context"
	"errors"
	"net/url"

	"github.com/tanist-ha/tanist/hooks"
)

type notice struct {
	action hooks.Notify
	post   func(hooks.Notify)
	posted bool
}

// NewNotify returns the step that gives a notice to post, which must not block and
// sees to it that somebody learns what became of the notice. That is nothing that
// the step or its plan waits for. Check is Cannot when the program does not exist or
// the URL cannot be used.
func NewNotify(a hooks.Notify, post func(hooks.Notify)) Step { return &notice{action: a, post: post} }

func (n *notice) Check(ctx context.Context) (State, error) {
	switch {
	case n.posted:
		return Ok, nil
	case len(n.action.Exec) > 0:
		return NewExec(hooks.Exec{Command: n.action.Exec}, "").Check(ctx)
	}
	u, err := url.Parse(n.action.Webhook)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return cannot(errors.New("the webhook is no http or https URL"))
	}
	return WouldChange, nil
}

func (n *notice) Apply(context.Context) error {
	n.post(n.action)
	n.posted = true
	return nil
}

// Report says that this is not the end of it.
func (n *notice) Report() string { return "queued" }
