package main

import (
	"context"
	"encoding/json"
	"sync"
	"testing"

	"github.com/tanist-ha/tanist/internal/doctor"
	"github.com/tanist-ha/tanist/internal/doctor/probe"
)

// A peer that asks for the result of a diagnosis again, or twice at once, gets an
// answer or an error, and this daemon goes on.
func TestDoctorResultAskedAgain(t *testing.T) {
	exchange, err := probe.Open(probe.Config{Token: 7})
	if err != nil {
		t.Fatal(err)
	}
	defer exchange.Close()
	d := &daemon{visits: newVisits()}
	v := newVisit(7, examiner{}, exchange)
	close(v.done)
	d.visits.set(v)
	body, err := json.Marshal(visitRequest{Token: 7})
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			var saw examined
			answer, err := d.serveDoctorResult(t.Context(), body)
			if err == nil {
				err = json.Unmarshal(answer, &saw)
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	select {
	case <-v.fetched:
	default:
		t.Error("nobody was told that the result was fetched")
	}
	d.visits.set(nil)
	if _, err := d.serveDoctorResult(context.Background(), body); err == nil {
		t.Error("a diagnosis that is over was answered")
	}
}

// The peer's findings stand in its own part, whatever it says.
func TestDoctorFindingsOfThePeer(t *testing.T) {
	for _, f := range theirs("reserve", []doctor.Finding{{Node: "primary"}, {Node: "reserve"}, {}}) {
		if f.Node != "reserve" {
			t.Errorf("a finding of the peer's stands in the part of %q", f.Node)
		}
	}
}
