package control

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func (d *daemon) Plan(_ context.Context, r PlanRequest) (Plan, error) {
	return Plan{Instance: r.Instance, Plan: r.Plan, Steps: []PlanStep{{Name: "vip", State: PlanWouldChange}}}, d.err
}

func TestPlan(t *testing.T) {
	d := &daemon{}
	socket, _ := serve(t, d)
	got, err := Dial(socket).Plan(t.Context(), PlanRequest{Instance: "compass", Plan: PlanDemote})
	if err != nil {
		t.Fatal(err)
	}
	want := Plan{Instance: "compass", Plan: "demote", Steps: []PlanStep{{Name: "vip", State: PlanWouldChange}}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for body, want := range map[string]string{
		`{"plan":"explode"}`: "promote or demote", `{}`: "promote or demote", `plan`: "not understood", `{"plan":"demote","run":true}`: "not understood",
	} {
		if status, text := post(t, socket, "/v1/plan", body); status != 400 || !strings.Contains(text, want) {
			t.Errorf("%s: %d %s", body, status, text)
		}
	}
	d.err = errors.New("a plan runs")
	if _, err := Dial(socket).Plan(t.Context(), PlanRequest{Plan: PlanPromote}); err == nil || !strings.Contains(err.Error(), "a plan runs") {
		t.Errorf("busy: %v", err)
	}
	d.err = context.DeadlineExceeded
	if status, text := post(t, socket, "/v1/plan", `{"plan":"promote"}`); status != 503 || !strings.Contains(text, "no answer within") {
		t.Errorf("late: %d %s", status, text)
	}
}
