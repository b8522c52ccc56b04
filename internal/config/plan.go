package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/tanist-ha/tanist/hooks"
)

// purpose is which of an instance's plans a step stands in.
type purpose uint8

const (
	promotion purpose = iota
	demotion
	fencing
)

func (p purpose) String() string { return word([]string{"promote", "demote", "fence"}, p) }

// stepKind is one kind of step: its word and how its value is read. An action
// is nil when the value is wrong or this release does not do the step.
type stepKind struct {
	name string
	read func(value, purpose) hooks.Action
}

func stepKinds() []stepKind {
	return []stepKind{
		{"vip", value.vipStep},
		{"writes", value.writesStep},
		{"replication", value.replicationStep},
		{"unit", value.unitStep},
		{"yaml", value.yamlStep},
		{"json", value.jsonStep},
		{"link", value.linkStep},
		{"exec", value.execStep},
		{"notify", value.notifyStep},
		{"wait", value.waitStep},
		{"line", value.lineStep},
	}
}

// maxSteps bounds a plan.
const maxSteps = 100

// plan reads a list of steps. Mistaken steps keep their place, without action.
func (v value) plan(p purpose) hooks.Plan {
	list, ok := v.list("write " + p.String() + ": followed by steps that begin with -")
	if !ok {
		return nil
	}
	if len(list) > maxSteps {
		list[maxSteps].problem(fmt.Sprintf("a plan has at most %d steps", maxSteps), "")
		list = list[:maxSteps]
	}
	plan := make(hooks.Plan, len(list))
	pivots := 0
	for i, el := range list {
		step, kind := el.step(p)
		plan[i] = step
		if kind != "vip" {
			continue
		}
		if pivots++; p == fencing {
			el.problem("fence cannot move the virtual address", "vip steps stand in promote and demote")
		} else if pivots == 2 {
			el.problem(fmt.Sprintf("%s has a second vip step", p), "the address moves once: keep one")
		}
	}
	if pivots == 0 && p != fencing {
		word := "acquire"
		if p == demotion {
			word = "release"
		}
		v.problem(fmt.Sprintf("%s has no vip step", p), fmt.Sprintf("add - vip: %s where the address should move", word))
	}
	v.nameSteps(plan)
	return plan
}

// step reads one step and says of which kind it is, even when it is wrong.
func (v value) step(p purpose) (hooks.Step, string) {
	step := hooks.Step{Timeout: hooks.DefaultTimeout, OnError: hooks.Abort}
	if s, ok := v.plain(); ok {
		hint := "write a kind and its value: - vip: acquire"
		if strings.HasPrefix(s, "writes") {
			hint = "write - writes: open or - writes: close"
		}
		v.problem("a step must be a mapping, not text", hint)
		return step, strings.TrimSpace(s)
	}
	list, ok := v.entries("a step, which is a mapping", "write a kind and its value: - vip: acquire")
	if !ok {
		return step, ""
	}
	v.d.shapes[v.path] = append(kindNames(), "timeout", "on_error", "drift", "name")
	kind := ""
	for _, e := range list {
		if v.option(&step, e) {
			continue
		}
		k, known := kindOf(e.key)
		if !known {
			kind = cmp.Or(kind, v.unknownStep(e))
			continue
		}
		if kind != "" && kind != unknownKind && kind != e.key {
			v.d.problem(e.pos, fmt.Sprintf("a step does one thing, not %s and %s", kind, e.key), "begin a step of its own with - "+e.key)
		}
		if e.val.missing() {
			v.d.problem(e.pos, fmt.Sprintf("the key %s has no value", quote(e.key)), "give it one")
		} else if action := v.d.action(k, e, p); step.Action == nil {
			step.Action = action
		}
		if kind == "" || kind == unknownKind || e.key == "vip" {
			kind = e.key
		}
	}
	if _, said := v.d.positions[v.child("on_error")]; !said && kind == (hooks.Notify{}).Kind() {
		step.OnError = hooks.Continue // no plan fails for what nobody waits for
	}
	if kind == "" {
		v.problem("a step without a kind does nothing", "add one of "+or(kindNames()))
	}
	v.checkDrift(step, p)
	return step, kind
}

// action reads the value of a kind. Without an action there is a problem: a step
// is never dropped in silence.
func (d *decoder) action(k stepKind, e entry, p purpose) hooks.Action {
	before := len(d.problems) + d.dropped
	action := k.read(e.val, p)
	if action == nil && len(d.problems)+d.dropped == before && e.val.node != nil {
		d.problem(e.pos, fmt.Sprintf("this release has no step %s of this form", k.name), "leave the step out")
	}
	return action
}

// option reads a key that every step can have.
func (v value) option(step *hooks.Step, e entry) bool {
	switch e.key {
	case "timeout", "on_error", "drift", "name":
	default:
		return false
	}
	switch {
	case e.val.missing():
		v.d.problem(e.pos, fmt.Sprintf("the key %s has no value", quote(e.key)), "give it one, or remove the line for its default")
	case e.key == "timeout":
		step.Timeout = e.val.duration(time.Millisecond)
	case e.key == "on_error":
		oneOf(e.val, []string{hooks.Abort.String(), hooks.Continue.String()}, &step.OnError)
	case e.key == "drift":
		step.Drift = e.val.drift()
	default:
		step.Name = e.val.stepName()
	}
	return true
}

func kindOf(name string) (stepKind, bool) {
	for _, k := range stepKinds() {
		if k.name == name {
			return k, true
		}
	}
	return stepKind{}, false
}

func kindNames() []string {
	var names []string
	for _, k := range stepKinds() {
		names = append(names, k.name)
	}
	return names
}

// unknownKind stands for a kind that was meant but cannot be guessed.
const unknownKind = "?"

// unknownStep notes a kind that does not exist, and returns the one that was
// probably meant.
func (v value) unknownStep(e entry) (meant string) {
	meant = unknownKind
	hint := "the kinds are " + strings.Join(kindNames(), ", ")
	options := []string{"timeout", "on_error", "drift", "name"}
	if near := nearest(e.key, append(kindNames(), options...)); near != "" {
		hint = fmt.Sprintf("did you mean %q?", near)
		if !slices.Contains(options, near) {
			meant = near
		}
	} else if slices.Contains([]string{"run", "command", "script", "shell", "cmd"}, e.key) {
		hint = "programs are run by exec: {command: [/path/to/program, argument]}"
	} else if slices.Contains([]string{"service", "systemd", "start", "stop", "restart"}, e.key) {
		hint = "units are managed by unit: {start: NAME.service}"
	}
	v.d.problem(e.pos, fmt.Sprintf("the step kind %s does not exist", quote(e.key)), hint)
	return meant
}

// maxStepName bounds a step's name, in characters.
const maxStepName = 80

// stepName returns a name that fits on a line and into a metrics label.
func (v value) stepName() string {
	s, ok := v.text()
	if !ok {
		return ""
	}
	odd := func(r rune) bool { return !unicode.IsPrint(r) || r == '"' || r == '\\' || r == '`' || r == '$' }
	if utf8.RuneCountInString(s) > maxStepName || strings.ContainsFunc(s, odd) || strings.TrimSpace(s) != s {
		v.problem(fmt.Sprintf("a step cannot be named %s", quote(s)), fmt.Sprintf("at most %d printable characters, without quotes, $ and \\", maxStepName))
		return ""
	}
	return s
}

// nameSteps names the steps that have no name after what they do, and refuses
// a name given twice.
func (v value) nameSteps(plan hooks.Plan) {
	taken := map[string]int{}
	for i, s := range plan {
		if s.Name == "" {
			continue
		}
		if first, again := taken[s.Name]; again {
			v.d.problem(v.d.at(fmt.Sprintf("%s[%d].name", v.path, i)), fmt.Sprintf("two steps are named %s", quote(s.Name)), fmt.Sprintf("the first is on line %d: name each differently", first))
			continue
		}
		taken[s.Name] = v.d.at(fmt.Sprintf("%s[%d].name", v.path, i)).line
	}
	for i, s := range plan {
		if s.Name != "" || s.Action == nil {
			continue
		}
		title := hooks.Title(s.Action)
		name := title
		for n := 2; ; n++ {
			if _, again := taken[name]; !again {
				break
			}
			name = fmt.Sprintf("%s (%d)", title, n)
		}
		plan[i].Name = name
		taken[name] = 0
	}
}
