package main

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"regexp"
	"testing"

	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/internal/control"
	"github.com/tanist-ha/tanist/internal/node"
	"github.com/tanist-ha/tanist/internal/web"
)

// words gathers what metrics are to call something: each value has an instance of its
// own, whose name says the metric and the order.
type words struct{ facts web.Facts }

func (w *words) add(kind string, in control.Instance) string {
	in.Name = fmt.Sprintf("%s-%03d", kind, len(w.facts.Document.Instances))
	w.facts.Document.Instances = append(w.facts.Document.Instances, in)
	return in.Name
}

func (w *words) outcome(o hooks.Outcome) {
	name := w.add("steps_total", control.Instance{})
	if w.facts.Counters == nil {
		w.facts.Counters = map[string]node.Counters{}
	}
	w.facts.Counters[name] = node.Counters{Steps: map[node.StepEnd]uint64{{Name: "step", Outcome: o}: 1}}
}

// scraped returns the words in the order in which the values were added.
func (w *words) scraped(t *testing.T) []string {
	t.Helper()
	s := web.New(web.Config{Facts: func(context.Context) (web.Facts, error) { return w.facts, nil }})
	l, err := web.Listen(netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	s.Serve(l)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	status, text := fetched(t, "http://"+l.Addr().String()+"/metrics")
	cancel()
	if err := <-ended; err != nil || status != http.StatusOK {
		t.Fatalf("%d, %v\n%s", status, err, text)
	}
	// Labels are in the order of the alphabet.
	sample := regexp.MustCompile(`(?m)^tanist_(\w+)\{(?:code="(\w*)",database="",)?instance="(\w+)-(\d+)"(?:,(?:reason|result)="(\w*)")?(?:,step="step")?\} 1$`)
	byPlace := map[string]string{}
	for _, m := range sample.FindAllStringSubmatch(text, -1) {
		if m[1] == m[3] {
			byPlace[m[4]] = m[2] + m[5]
		}
	}
	var all []string
	for i := range w.facts.Document.Instances {
		all = append(all, byPlace[fmt.Sprintf("%03d", i)])
	}
	return all
}
