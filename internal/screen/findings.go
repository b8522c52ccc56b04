package screen

import (
	"slices"
	"strings"

	"github.com/tanist-ha/tanist/internal/control"
	"github.com/tanist-ha/tanist/replication"
)

// of are the findings about one instance, the worst first.
func (d *drawing) of(pair [2]side) findings {
	var f findings
	d.roleFindings(&f, pair)
	for _, s := range pair {
		if s.in == nil || !s.current() && !s.here {
			continue
		}
		d.gateFindings(&f, s, pair)
		d.databaseFindings(&f, s, pair)
		d.healthFindings(&f, s)
		d.standingFindings(&f, s)
		d.aloneFindings(&f, s)
		d.lastFindings(&f, s, pair)
	}
	return worst(f)
}

func (d *drawing) roleFindings(f *findings, pair [2]side) {
	me, far := pair[0], pair[1]
	both := me.in != nil && far.current()
	moving := me.moving() || far.moving()
	switch {
	case both && me.active() && far.active():
		f.add(Wrong, "tanist doctor; docs/split-brain.md", "both nodes are active")
	case both && !me.active() && !far.active() && !moving:
		f.add(Wrong, "", "nobody is active: nobody serves the address")
	}
	for _, s := range pair {
		if s.in == nil || !s.current() && !s.here {
			continue
		}
		why := d.because(s.in.Reason, s.in.Detail)
		switch s.in.State {
		case "conflict":
			f.add(Wrong, d.on(s, "tanist doctor; docs/split-brain.md says what each side may have"), "%s is in conflict: %s", s.label, why)
		case "refused":
			f.add(Wrong, "", "%s should take over and does not: %s", s.label, why)
		case "fault":
			f.add(Wrong, d.on(s, "mend that: it comes back by itself"), "%s is out of service: %s", s.label, why)
		}
		if s.full && !s.moving() {
			d.addressFindings(f, s)
		}
	}
	if c := me.in.ClaimedBy; c != "" {
		f.add(Wrong, "take the address off there: ip address show, on "+c, "%s answers for the address too", c)
	}
}

func (d *drawing) addressFindings(f *findings, s side) {
	for _, v := range s.in.VIPs {
		switch {
		case v.Error != "":
			mood := Attention // a standby need not have it, and is asked again
			if s.active() {
				mood = Wrong
			}
			f.add(mood, "", "%s: %s", v.Address, v.Error)
		case s.active() && !v.Held:
			f.add(Wrong, d.on(s, "ip address show dev "+v.Interface+"; journalctl -u tanist"), "%s is active without %s", s.label, v.Address)
		case !s.active() && v.Held:
			f.add(Wrong, d.on(s, "ip address del "+v.Address+" dev "+v.Interface), "%s has %s and is not active: somebody else put it there", s.label, v.Address)
		}
	}
	if r := s.in.Restored; r != nil {
		f.add(Attention, d.on(s, "tanist doctor says whether NetworkManager or networkd does it"), "somebody takes %s off %s: put back %d times, the last %s ago", r.Address, s.label, r.Count, Age(d.since(r.At)))
	}
}

// gateFindings say why a node that would have to take over cannot.
func (d *drawing) gateFindings(f *findings, s side, pair [2]side) {
	if s.active() || s.moving() || s.in.State == "initialize" && len(s.in.Gate.Reasons) == 0 {
		return
	}
	other := pair[0]
	if s.here {
		other = pair[1]
	}
	for _, r := range s.in.Gate.Reasons {
		if r.Code == replication.Maintenance && pair[0].in.Maintenance != nil {
			continue // it is said of both
		}
		mood := gateMood(r.Code)
		if !other.active() {
			mood = Wrong // it would be needed now
		}
		todo := d.on(s, d.gateAdvice(s.in.Name, r))
		if !other.current() && needsSource(r.Code) {
			todo = "bring " + other.label + " back, which loses nothing; or go on with what is here: tanist switchover" + d.flag(s.in.Name) + " --force --reason TEXT"
		}
		if b := s.in.Block; r.Code == replication.Blocked && b != nil {
			f.add(mood, todo, "%s is blocked, not to be promoted: %s", s.label, holdText(d, *b))
			continue
		}
		f.add(mood, todo, "%s cannot be promoted: %s", s.label, GateText(r))
	}
}

func (d *drawing) databaseFindings(f *findings, s side, pair [2]side) {
	for _, db := range s.in.Databases {
		switch {
		case s.active() && db.Error != "":
			f.add(Wrong, d.on(s, "see the log of the database server"), "database %s of the active node: %s", db.Name, db.Error)
		case s.active() && db.ReadOnly != nil && *db.ReadOnly:
			f.add(Wrong, d.on(s, "see last change below for the step that failed; SET GLOBAL read_only = 0 opens it"), "database %s is read-only on the active node: nobody can write", db.Name)
		case s.state() == "backup" && db.ReadOnly != nil && !*db.ReadOnly:
			f.add(Wrong, d.on(s, "find who opened it: Tanist closes it again"), "database %s is writable on %s, which is not active", db.Name, s.label)
		}
	}
	if len(s.in.Unprotected) > 0 {
		active := pair[0].label
		if s.here {
			active = pair[1].label
		}
		f.add(Attention, d.on(s, "create it, and tanist replication rejoin"), "only %s has %s: a failover loses it", active, strings.Join(s.in.Unprotected, ", "))
	}
}

func (d *drawing) healthFindings(f *findings, s side) {
	for _, h := range s.in.Health {
		if h.OK == nil || *h.OK && h.Until.IsZero() {
			continue
		}
		mood, means := Attention, "the role should move"
		if h.Effect == "fault" {
			mood, means = Wrong, "the node may not be active"
		}
		f.add(mood, "", "check %s fails on %s, so %s: %s", h.Name, s.label, means, h.Detail)
	}
	if x := s.in.Stays; x != nil {
		f.add(Attention, "", "%s keeps the role though check %s wants it to move: %s", s.label, x.Check, d.because(x.Reason, x.Detail))
	}
	if hb := s.in.Heartbeat; hb != nil {
		if hb.Proved != nil && !*hb.Proved {
			f.add(Wrong, d.on(s, "compare the two key files: tanist doctor"), "%s hears advertisements that are not proved to be the other node's: %s", s.label, hb.Doubt)
		}
		if c := d.doc.Peer.Configuration; len(hb.Mismatch) > 0 && (c == nil || !c.Any()) {
			f.add(Attention, "give both nodes the same file: tanist doctor says where they differ", "the nodes have different configurations: %s", strings.Join(hb.Mismatch, ", "))
		}
	}
}

func (d *drawing) standingFindings(f *findings, s side) {
	in := s.in
	if b := in.Block; b != nil && len(in.Gate.Reasons) == 0 {
		f.add(Attention, d.on(s, "tanist unblock"+d.flag(in.Name)), "%s is blocked: %s", s.label, holdText(d, *b))
	}
	if m := in.Maintenance; m != nil && s.here {
		f.add(Attention, "tanist maintenance off"+d.flag(in.Name)+" when the work is done", "maintenance, no failover by itself: %s", holdText(d, *m))
		if m.By != "" && !m.Shared {
			f.add(Attention, "", "only %s knows of the maintenance: the other node would still take over", m.By)
		}
	}
	const most = 3
	for i, x := range in.Drift {
		if i == most {
			f.add(Attention, "", "%d more such things on %s, below", len(in.Drift)-most, s.label)
			break
		}
		f.add(Attention, "", "%s: %s: %s", s.label, driftName(x), driftText(x))
	}
	if n := in.UnitsAgeMS; n != nil && d.ms(n) > old {
		f.add(Attention, d.on(s, "systemctl status"), "systemd of %s does not answer: its units are as of %s ago", s.label, Age(d.ms(n)))
	}
	if n := in.LabelsAgeMS; n != nil && d.ms(n) > old {
		f.add(Attention, d.on(s, "look at the file systems"), "the files with the labels cannot be read on %s: they are as of %s ago", s.label, Age(d.ms(n)))
	}
}

// lastFindings are about the last transition: what it lost, and what it left undone.
func (d *drawing) lastFindings(f *findings, s side, pair [2]side) {
	x := s.in.LastTransition
	if x == nil || x.Epoch < max(pair[0].in.Epoch, epoch(pair[1])) {
		return
	}
	for _, l := range x.Losses {
		mood := Attention
		if l.Proved != nil && *l.Proved > 0 {
			mood = Wrong
		}
		if l.Proved == nil || *l.Proved > 0 || l.AtMost == nil || *l.AtMost > 0 {
			f.add(mood, "tanist history"+d.flag(s.in.Name)+" has it; docs/databases.md", "transactions of %s may be lost: %s", l.Database, d.words.Loss(l))
		}
	}
	for _, st := range x.Steps {
		if failed(st) {
			f.add(Attention, d.on(s, "tanist history"+d.flag(s.in.Name)+" has its output"), "step %s of the last change did not end well on %s: %s %s", st.Name, s.label, st.Result, st.Detail)
		}
	}
}

func failed(st control.Step) bool {
	return slices.Contains([]string{"failed", "timed_out", "lost"}, st.Result)
}

func epoch(s side) uint64 {
	if s.in == nil {
		return 0
	}
	return s.in.Epoch
}
