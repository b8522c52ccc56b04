package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap/zapcore"

	"github.com/tanist-ha/tanist/health"
	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/hooks/journal"
	"github.com/tanist-ha/tanist/internal/control"
	"github.com/tanist-ha/tanist/internal/failover"
	"github.com/tanist-ha/tanist/internal/node"
	"github.com/tanist-ha/tanist/replication"
)

// enum lists the values of an enum that have a name.
func enum[E interface {
	~uint8
	String() string
}](t *testing.T) []E {
	t.Helper()
	var all []E
	for v := range 255 {
		if word := E(v).String(); word != "" && !strings.HasSuffix(word, ")") {
			all = append(all, E(v))
		}
	}
	if len(all) < 2 {
		t.Fatalf("%T has %d values", *new(E), len(all))
	}
	return all
}

// TestOneWordForOneValue walks every reason, gate code, outcome and verdict and holds
// that status, log, journal and metrics have the same word for it. TestWordsOfTheCore of
// internal/peer does so for the link between the nodes.
func TestOneWordForOneValue(t *testing.T) {
	log, lines := observed(zapcore.InfoLevel)
	path := filepath.Join(t.TempDir(), "journal")
	j, _, err := journal.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	var want, logged, shown, stored []string
	var measured words
	document := func(s failover.Status) control.Instance { return control.NewInstance(time.Now(), s, control.Extra{}) }
	note := func(n failover.Note, field string) {
		log.Note("compass", n)
		log.write(<-log.queue)
		entry := lines.TakeAll()[0].ContextMap()
		if field == "gate" {
			for name := range entry {
				if code, is := strings.CutPrefix(name, "gate_"); is {
					logged = append(logged, code)
				}
			}
			return
		}
		logged = append(logged, strings.TrimPrefix(fmt.Sprint(entry[field]), "step: "))
	}
	for _, r := range enum[failover.Reason](t) {
		want = append(want, r.String())
		note(failover.Note{Why: failover.Why{Reason: r}}, "reason")
		shown = append(shown, document(failover.Status{Why: failover.Why{Reason: r}}).Reason)
		measured.add("state_reason", document(failover.Status{Why: failover.Why{Reason: r}}))
		if err := j.Append(hooks.Record{Kind: hooks.Began, Instance: "compass", Reason: r.String()}); err != nil {
			t.Fatal(err)
		}
	}
	for _, o := range enum[hooks.Outcome](t) {
		want = append(want, o.String())
		steps := []hooks.Result{{Name: "step", Outcome: o}}
		note(failover.Note{Steps: steps}, "steps")
		measured.outcome(o)
		shown = append(shown, document(failover.Status{Last: &failover.Transition{Steps: steps}}).LastTransition.Steps[0].Result)
		if err := j.Append(hooks.Record{Kind: hooks.Stepped, Instance: "compass", Step: steps[0]}); err != nil {
			t.Fatal(err)
		}
	}
	steps := len(want)
	for _, c := range enum[replication.Code](t) {
		want = append(want, c.String())
		why := failover.Why{Reason: failover.GateClosed, Gate: []replication.Reason{{Code: c}}}
		note(failover.Note{Why: why}, "gate")
		text, err := json.Marshal(document(failover.Status{Gate: replication.Verdict{Reasons: why.Gate}}).Gate.Reasons[0].Code)
		if err != nil {
			t.Fatal(err)
		}
		shown = append(shown, strings.Trim(string(text), `"`))
		measured.add("gate_reason", document(failover.Status{Gate: replication.Verdict{Reasons: why.Gate}}))
	}
	same(t, "log", want, logged)
	same(t, "metrics", want, measured.scraped(t))
	for _, v := range enum[health.Verdict](t) {
		want = append(want, v.String())
		shown = append(shown, document(failover.Status{Health: []health.Status{{Verdict: v}}}).Health[0].Verdict)
	}
	for _, o := range enum[failover.Outcome](t) {
		want = append(want, o.String())
		shown = append(shown, lastLine(node.Answer{Outcome: o}).Outcome.Result)
	}
	same(t, "status", want, shown)

	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	bytes, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`"(?:reason|outcome)":"([^"]*)"`).FindAllSubmatch(bytes, -1) {
		stored = append(stored, string(m[1]))
	}
	same(t, "journal", want[:steps], stored)
}

func same(t *testing.T, where string, want, got []string) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-words +%s):\n%s", where, where, diff)
	}
}
