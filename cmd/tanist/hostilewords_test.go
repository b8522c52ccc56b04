package main

import (
	"errors"
	"strings"
	"testing"

	"github.com/tanist-ha/tanist/internal/control"
)

// What the other node, a server or a program says reaches the terminal as text.
func TestHostileWords(t *testing.T) {
	const nasty = "a\x1b[2J\a\r\u009b31m\u202e\u2028b"
	for name, print := range map[string]func(w *strings.Builder){
		"step":      func(w *strings.Builder) { showLine(w, control.Line{Step: &control.Step{Name: nasty, Detail: nasty}}) },
		"gate":      func(w *strings.Builder) { showLine(w, control.Line{Reasons: []control.GateReason{{Detail: nasty}}}) },
		"refused":   func(w *strings.Builder) { _ = switchoverEnded(w, control.Outcome{Result: "refused", Detail: nasty}) },
		"strange":   func(w *strings.Builder) { _ = switchoverEnded(w, control.Outcome{Result: nasty, Reason: nasty}) },
		"announced": func(w *strings.Builder) { showAnnounced(w, w, []control.Announced{{Instance: "i", Refused: nasty}}) },
		"database":  func(w *strings.Builder) { showReplication(w, w, control.ReplicationLine{Database: "d", Detail: nasty}) },
		"plan": func(w *strings.Builder) {
			showPlan(w, control.Plan{Steps: []control.PlanStep{{Name: nasty, Action: nasty, Detail: nasty}}})
		},
		"error": func(w *strings.Builder) { w.WriteString(legible(errors.New(nasty).Error()) + "\n") },
	} {
		t.Run(name, func(t *testing.T) {
			var out strings.Builder
			print(&out)
			if got := out.String(); strings.ContainsAny(got, "\x1b\a\r\u009b\u202e\u2028") || !strings.Contains(got, "a") {
				t.Errorf("%q", got)
			}
		})
	}
}
