package hooks

// What a plan did is taken back by the reverse of what its steps really did, that is,
// with the variables that they ran with. What says which role a host has is said anew
// for the role that goes on.

import "strings"

// Undo returns the steps that take back what the results say was done or begun, in
// reverse order. ran are the variables that plan ran with. Where goesOn, the plan of
// the role that goes on, under its variables has a link, json or yaml step for the same
// place, that one is the reverse: what the place said before is not known. The vip step is not among
// them: whoever holds the address decides about it. An exec step has no reverse. A
// yaml or json step, and a link at one place that leads where the role says, is its
// own: run with the variables of the role that goes on, it writes that role's value.
// The others come filled in.
func Undo(plan Plan, results []Result, ran Vars, goesOn Plan, vars Vars) Plan {
	var undo Plan
	for i := len(plan) - 1; i >= 0; i-- {
		if o := results[i].Outcome; o == Pending || o == Skipped || o == Unchanged {
			continue
		}
		s := plan[i]
		back, ok := goesOn.counterpart(s.Action, ran, vars)
		if !ok {
			back, ok = reverse(s.Action, ran)
		}
		if !ok {
			continue
		}
		s.Name, s.Action, s.OnError = "undo "+s.Name, back, Continue
		undo = append(undo, s)
	}
	return undo
}

// counterpart returns the last step for the place that a wrote to.
func (p Plan) counterpart(a Action, ran, vars Vars) (Action, bool) {
	what, ok := place(a, ran)
	if !ok {
		return nil, false
	}
	for i := len(p) - 1; i >= 0; i-- {
		if l, is := p[i].Action.(Link); is && l.Absent {
			continue // it takes away what says so, and may leave what a made
		}
		if other, ok := place(p[i].Action, vars); ok && other == what {
			return p[i].Action, true
		}
	}
	return nil, false
}

// place names what an action gives a value that one of the other role's plan may give
// another.
func place(a Action, v Vars) (string, bool) {
	switch a := a.(type) {
	case YAML, JSON:
		return object(a, v)
	case Link:
		x := expander{vars: v}
		path, target := x.text(a.Path), x.text(a.Target)
		if x.err != nil || strings.ContainsAny(target, "*?[") {
			return "", false
		}
		if strings.HasSuffix(path, "/") {
			path += base(target)
		}
		return "link " + path, true
	case VIP, Writes, Replication, Unit, Exec, Line, Notify, Wait:
	}
	return "", false
}

func reverse(a Action, ran Vars) (Action, bool) {
	switch a := a.(type) {
	case Writes:
		return Writes{Open: !a.Open}, true
	case Replication:
		if a.Verb == StopReplication {
			return Replication{Verb: StartReplication}, true
		}
	case YAML, JSON:
		return a, true
	case Unit:
		return reverseUnit(a, ran)
	case Line:
		x := expander{vars: ran}
		a = x.line(a)
		a.File, a.Line, a.Within, a.After = literal(a.File), literal(a.Line), literal(a.Within), literal(a.After)
		a.Absent = !a.Absent
		return a, x.err == nil
	case Link:
		if a.saysRole() {
			return a, true
		}
		x := expander{vars: ran}
		a.Path, a.Target = literal(x.text(a.Path)), literal(x.text(a.Target))
		a.Absent = !a.Absent
		return a, x.err == nil
	case VIP, Exec, Notify, Wait:
	}
	return nil, false
}

func reverseUnit(a Unit, ran Vars) (Action, bool) {
	switch a.Verb {
	case StartUnit:
		a.Verb = StopUnit
	case StopUnit:
		a.Verb = StartUnit
	case EnableUnit:
		a.Verb = DisableUnit
	case DisableUnit:
		a.Verb = EnableUnit
	case RestartUnit, ReloadUnit:
		return nil, false
	}
	x := expander{vars: ran}
	a.Name = literal(x.text(a.Name))
	return a, x.err == nil // what has no name was never acted on
}

// saysRole reports a link at one place that leads where the role says.
func (l Link) saysRole() bool {
	return !l.Absent && NamesRole(l.Target) && !NamesRole(l.Path) && !strings.HasSuffix(l.Path, "/") &&
		!strings.ContainsAny(l.Target, "*?[")
}

// literal returns the template that stands for a text.
func literal(text string) string { return strings.ReplaceAll(text, "{{", `{{"{{"}}`) }
