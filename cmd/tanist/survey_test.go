package main

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/internal/config"
)

func surveyOf(promote hooks.Plan) *survey {
	file := &config.File{Nodes: [2]config.Node{{Label: "primary"}, {Label: "reserve"}}}
	return newSurvey(config.Instance{Name: "compass", Promote: promote}, file, 0, nil)
}

// An instance without units and labels needs nobody who looks.
func TestASurveyOfNothing(t *testing.T) {
	s := surveyOf(hooks.Plan{{Action: hooks.VIP{Acquire: true}}})
	if !s.idle() {
		t.Fatal("there is something to look at")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	is := s.latest(ctx)
	units, labels := is.units, is.labels
	if units == nil || labels == nil || len(units)+len(labels) != 0 {
		t.Errorf("units %v, labels %v: empty lists in the status are wanted", units, labels)
	}
}

func TestASurveyLooksWhenAsked(t *testing.T) {
	file := filepath.Join(t.TempDir(), "values.yaml")
	if err := os.WriteFile(file, []byte("active: primary\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	flags := filepath.Join(t.TempDir(), "flags.json")
	if err := os.WriteFile(flags, []byte(`{"primary": {"master": true}, "reserve": {"master": false}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	s := surveyOf(hooks.Plan{
		{Action: hooks.VIP{Acquire: true}},
		{Action: hooks.YAML{File: file, Key: "active", Value: "{{.Active}}"}},
		{Action: hooks.JSON{File: flags, Set: []hooks.JSONKey{{Key: "{{.Active}}.master", Value: "true"}}}},
	})
	if s.idle() {
		t.Fatal("nothing to look at")
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.run(ctx) }()
	for end := time.Now().Add(patience); ; {
		labels := s.latest(t.Context()).labels
		var read []string
		for _, l := range labels {
			read = append(read, l.Key+"="+l.Value+l.Error)
		}
		if slices.Equal(read, []string{"active=primary", "primary.master=true", "reserve.master=false"}) {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("labels %+v", labels)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
