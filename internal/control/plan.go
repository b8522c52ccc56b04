package control

import (
	"context"
	"errors"
	"net/http"
	"time"
)

// Bounds of POST /v1/plan.
const (
	// PlanTime bounds the answer.
	PlanTime = 60 * time.Second
	// PlanCheckTime bounds the check of one step.
	PlanCheckTime = 5 * time.Second
)

// The plans.
const (
	PlanPromote = "promote"
	PlanDemote  = "demote"
)

// PlanRequest is the body of POST /v1/plan.
type PlanRequest struct {
	Instance string `json:"instance"` // empty: the only one
	Plan     string `json:"plan"`     // PlanPromote or PlanDemote
}

func (r PlanRequest) check() error {
	if r.Plan != PlanPromote && r.Plan != PlanDemote {
		return errors.New("plan: promote or demote")
	}
	return nil
}

// PlanState is what the check of a step says.
type PlanState string

// What a check says.
const (
	PlanOK          PlanState = "ok"           // it is so already
	PlanWouldChange PlanState = "would change" // the step would do something
	PlanCannot      PlanState = "cannot"       // and could not, as things are
)

// Plan is a plan as it would run now.
type Plan struct {
	Node     string `json:"node"`
	Instance string `json:"instance"`
	Plan     string `json:"plan"`
	// What the templates name.
	Active  string     `json:"active"`
	Standby string     `json:"standby"`
	Epoch   uint64     `json:"epoch"`
	Steps   []PlanStep `json:"steps"`
}

// PlanStep is one of its steps.
type PlanStep struct {
	Name    string    `json:"name"`
	Kind    string    `json:"kind"`
	Action  string    `json:"action"` // with its templates filled in
	State   PlanState `json:"state"`
	Detail  string    `json:"detail,omitempty"`
	OnError string    `json:"on_error"`
}

// Planner looks at plans.
type Planner interface {
	// Plan checks every step of a plan and changes nothing.
	Plan(ctx context.Context, r PlanRequest) (Plan, error)
}

func (s *Server) plan(w http.ResponseWriter, r *http.Request) {
	ask(s, w, r, PlanTime, PlanRequest.check, func(ctx context.Context, q PlanRequest, _ uint32) (Plan, error) {
		return s.daemon.Plan(ctx, q)
	})
}

// Plan asks for a plan.
func (c *Client) Plan(ctx context.Context, r PlanRequest) (Plan, error) {
	return asked[Plan](ctx, c, "/v1/plan", r)
}
