package main

import (
	"fmt"
	"io"
	"time"

	"github.com/tanist-ha/tanist/internal/control"
)

// printStanding writes what labels and drift there are, this node's first.
func printStanding(t io.Writer, doc control.Document, in control.Instance) {
	for _, l := range in.Labels {
		fmt.Fprintf(t, "  label %s\t%s\t\t%s%s\n", l.Key, l.Value, l.File, labelWords(l))
	}
	for _, p := range doc.Peer.Instances {
		if p.Name != in.Name || !doc.Peer.Reachable {
			continue
		}
		for _, l := range p.Labels {
			fmt.Fprintf(t, "  label %s\t%s\t\t%s on %s%s\n", l.Key, l.Value, l.File, doc.Peer.Label, labelWords(l))
		}
	}
	for _, d := range in.Drift {
		fmt.Fprintf(t, "  drift\t%s\t%s\t%s\n", d.Step, sinceWords(d), driftWords(d))
	}
	for _, p := range doc.Peer.Instances {
		if p.Name != in.Name || !doc.Peer.Reachable {
			continue
		}
		for _, d := range p.Drift {
			fmt.Fprintf(t, "  drift on %s\t%s\t%s\t%s\n", doc.Peer.Label, d.Step, sinceWords(d), driftWords(d))
		}
	}
}

// labelWords says what a label should be, if that is not what it is.
func labelWords(l control.Label) string {
	words := errorWords(l.Error)
	if l.Wanted != nil && *l.Wanted != l.Value {
		words = fmt.Sprintf(", should be %s%s", *l.Wanted, words)
	}
	return words
}

func sinceWords(d control.Drift) string {
	if d.SinceSeconds == nil {
		return ""
	}
	return "for " + age(time.Duration(*d.SinceSeconds*float64(time.Second)))
}

// driftWords says what is the case and what is done about it.
func driftWords(d control.Drift) string {
	words := d.Detail
	if d.State == "cannot" {
		words = "cannot: " + words
	}
	switch d.Repair {
	case "report":
		words += " (reported)"
	case "repair":
		words += " (to be repaired)"
	case "waiting":
		words += " (repaired once the other node says that it stopped it)"
	case "contested":
		words += " (repaired ever later)"
	}
	return words
}
