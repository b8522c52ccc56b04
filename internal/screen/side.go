package screen

import (
	"slices"
	"time"

	"github.com/tanist-ha/tanist/internal/control"
)

// side is one node's half of an instance.
type side struct {
	label string
	here  bool
	doc   *control.Document // of that node, nil when it sent none
	in    *control.Instance // nil when nothing is known of it
	age   time.Duration     // of what in says; 0 for of now
	heard bool              // it is this node, or it was heard a moment ago
	full  bool              // in is the whole of an instance, not the few facts of a heartbeat
}

// old says that a side is told from before.
const old = 5 * time.Second

// current reports whether what is known of a side counts as of now.
func (s side) current() bool { return s.in != nil && s.heard && s.age < old }

func (s side) state() string {
	if s.in == nil {
		return ""
	}
	return s.in.State
}

func (s side) active() bool { return s.state() == "active" }

// moving reports whether a transition is under way.
func (s side) moving() bool { return s.state() == "promoting" || s.state() == "demoting" }

// sides are the two halves of an instance, this node's first.
func (d *drawing) sides(in *control.Instance) [2]side {
	me := side{label: d.doc.Node, here: true, doc: d.doc, in: in, heard: true, full: true}
	if in.Stale {
		me.age = d.ms(in.AgeMS)
	}
	return [2]side{me, d.far(in)}
}

// far is the peer's half: what it reported of itself, and where the states that come
// several times a second are younger, what those say.
func (d *drawing) far(mine *control.Instance) side {
	p := d.doc.Peer
	far := side{label: p.Label, heard: p.Reachable}
	if r := p.Report; r != nil {
		at, reported := d.reported[mine.Name]
		if far.doc = r; reported {
			in := r.Instances[at]
			far.in, far.age, far.full = &in, d.ms(p.ReportAgeMS), true
			if in.Stale && in.AgeMS != nil {
				far.age += time.Duration(*in.AgeMS) * time.Millisecond
			}
		}
	}
	at, known := d.said[mine.Name]
	if !known {
		return far
	}
	said := p.Instances[at]
	age := d.ms(&said.AgeMS)
	switch {
	case far.in == nil:
		far.in = &control.Instance{Name: mine.Name, Labels: said.Labels, Drift: said.Drift}
		for _, v := range mine.VIPs {
			far.in.VIPs = append(far.in.VIPs, control.VIP{Address: v.Address, Interface: v.Interface, Held: said.Holds})
		}
	case age > far.age && far.in.AgeMS == nil:
		return far
	}
	in := far.in
	if in.State != said.State {
		in.Since = time.Time{} // that of the state before
	}
	in.State, in.Reason, in.Detail, in.Epoch, in.Gate = said.State, said.Reason, said.Detail, said.Epoch, said.Gate
	in.Drift = youngerDrift(in.Drift, said.Drift)
	if !far.moving() { // what labels should be is of the role that was
		in.Labels = youngerLabels(in.Labels, said.Labels)
	}
	far.age = age
	return far
}

// mostSaid is how many things the states name at most.
const mostSaid = 16

// youngerDrift is what younger states say of the steps, and the older report of all else.
// Of many steps the states name only the first, the report has all.
func youngerDrift(reported, said []control.Drift) []control.Drift {
	if len(said) >= mostSaid && len(reported) > len(said) {
		return reported
	}
	all := slices.Clone(said)
	for _, x := range reported {
		if x.SinceSeconds == nil { // not about a step: the states do not have it
			all = append(all, x)
		}
	}
	return all
}

// youngerLabels puts in what younger states say that the labels are and should be.
func youngerLabels(reported, said []control.Label) []control.Label {
	all := slices.Clone(reported)
	for i, l := range all {
		same := func(x control.Label) bool { return x.File == l.File && x.Key == l.Key }
		if at := slices.IndexFunc(said, same); at >= 0 {
			all[i] = said[at]
		}
	}
	return all
}
