package config

import (
	"errors"
	"fmt"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/tanist-ha/tanist/hooks"
)

var (
	unitLike        = regexp.MustCompile(`^[A-Za-z0-9:_.@\\-]+$`)
	unitPattern     = regexp.MustCompile(`^[A-Za-z0-9:_.\\-]+(@[A-Za-z0-9:_.\\-]+)?\.[a-z]+$`)
	variablePattern = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	unknownField    = regexp.MustCompile(`can't evaluate field (\w+) in type hooks.Vars`)
	templatePrefix  = regexp.MustCompile(`^template: :\d+(:\d+)?: (executing "" at <[^>]*>: )?`)
)

func (v value) vipStep(p purpose) hooks.Action {
	var verb uint8
	if !oneOf(v, []string{"acquire", "release"}, &verb) {
		return nil
	}
	acquire := verb == 0
	if p == promotion && !acquire {
		v.problem("promote cannot release the virtual address", "write vip: acquire; release belongs to demote")
		return nil
	}
	if p == demotion && acquire {
		v.problem("demote cannot acquire the virtual address", "write vip: release; acquire belongs to promote")
		return nil
	}
	return hooks.VIP{Acquire: acquire}
}

func (v value) writesStep(p purpose) hooks.Action {
	var verb uint8
	if !oneOf(v, []string{"open", "close"}, &verb) {
		return nil
	}
	open := verb == 0
	if p == promotion && !open {
		v.problem("promote cannot close writes", "write writes: open; close belongs to demote")
		return nil
	}
	if p != promotion && open {
		v.problem(fmt.Sprintf("%s cannot open writes", p), "open belongs to promote: two nodes would take writes")
		return nil
	}
	return hooks.Writes{Open: open}
}

func (v value) replicationStep(p purpose) hooks.Action {
	var verb uint8
	if !oneOf(v, []string{"stop", "none", "follow"}, &verb) {
		return nil
	}
	switch verb {
	case 0:
		return hooks.Replication{Verb: hooks.StopReplication}
	case 1:
		return hooks.Replication{Verb: hooks.NoReplication}
	}
	if p != demotion {
		v.problem(p.String()+" cannot follow the peer", "follow belongs to demote: a promotion makes this node the source")
		return nil
	}
	return hooks.Replication{Verb: hooks.FollowPeer}
}

// unitVerbs are the words of a unit step in the order of hooks.UnitVerb.
func unitVerbs() []hooks.UnitVerb {
	return []hooks.UnitVerb{hooks.StartUnit, hooks.StopUnit, hooks.RestartUnit, hooks.ReloadUnit, hooks.EnableUnit, hooks.DisableUnit}
}

func (v value) unitStep(purpose) hooks.Action {
	var u hooks.Unit
	given := 0
	var fields []field
	for _, verb := range unitVerbs() {
		fields = append(fields, allow(verb.String(), func(v value) {
			if given++; given == 2 {
				v.problem("a unit step does one thing", "begin a step of its own with - unit: {"+verb.String()+": …}")
			}
			u = hooks.Unit{Verb: verb, Name: v.unit()}
		}))
	}
	if !v.object("a unit step", fields...) {
		return nil
	}
	if given == 0 && v.empty() {
		v.problem("a unit step without a verb does nothing", "write unit: {start: NAME.service}")
	}
	if given != 1 || u.Name == "" {
		return nil
	}
	return u
}

// empty reports a mapping or list without entries.
func (v value) empty() bool { return v.node != nil && len(v.node.Content) == 0 }

// unit returns the name of a systemd unit, with its suffix. It may be a
// template.
func (v value) unit() string {
	s, filled, ok := v.template()
	if !ok {
		return ""
	}
	suffix := path.Ext(filled)
	known := []string{".service", ".socket", ".timer", ".path", ".mount", ".automount", ".swap", ".target", ".scope", ".slice", ".device"}
	switch {
	case suffix == "" || !slices.Contains(known, suffix) && unitLike.MatchString(filled):
		v.problem(fmt.Sprintf("the unit %s lacks its suffix", quote(s)), "write "+s+".service")
	case len(filled) > 255 || !unitPattern.MatchString(filled):
		v.problem(fmt.Sprintf("%s is not a valid unit name", quote(s)), "see systemctl list-units")
	default:
		return s
	}
	return ""
}

func (v value) yamlStep(purpose) hooks.Action {
	var y hooks.YAML
	good := v.object("a yaml step",
		need("file", func(v value) { y.File = v.templateFile() }),
		need("key", func(v value) { y.Key = v.key() }),
		need("value", func(v value) { y.Value, _ = v.anyTemplate() }),
	)
	if !good || y.File == "" || y.Key == "" {
		return nil
	}
	return y
}

// key returns a path of mapping keys joined by dots. It may be a template.
func (v value) key() string {
	s, ok := v.text()
	if !ok {
		return ""
	}
	filled, ok := v.expandKey(s)
	if !ok || !v.goodKey(v.pos, s, filled) {
		return ""
	}
	return s
}

// templateFile returns a full path that may be a template.
func (v value) templateFile() string {
	s, filled, ok := v.template()
	if ok && !path.IsAbs(filled) {
		v.problem(v.name()+" must be a full path", "begin it with /")
		return ""
	}
	return s
}

func (v value) execStep(purpose) hooks.Action {
	var x hooks.Exec
	if _, isText := v.plain(); isText || v.kind() == "a list" {
		v.problem("exec must be a mapping, not "+v.kind(), "write exec: {command: [/path/to/program, argument]}")
		return nil
	}
	good := v.object("an exec step",
		need("command", func(v value) { x.Command = v.command() }),
		allow("verify", func(v value) { x.Verify = v.command() }),
		allow("user", func(v value) { x.User = v.account() }),
		allow("env", func(v value) { x.Env = v.environment() }),
		allow("style", func(v value) {
			var style uint8
			x.Keepalived = oneOf(v, []string{"keepalived"}, &style)
		}),
	)
	if !good || len(x.Command) == 0 {
		return nil
	}
	return x
}

// maxArguments bounds a command line.
const maxArguments = 256

// command returns a program by its full path and its arguments.
func (v value) command() []string {
	list, ok := v.list("write a list, the program first: [/bin/sh, -c, \"…\"]")
	if !ok {
		return nil
	}
	if len(list) == 0 {
		v.problem(v.name()+" names no program", "write a list, the program first: [/bin/sh, -c, \"…\"]")
		return nil
	}
	if len(list) > maxArguments {
		list[maxArguments].problem(fmt.Sprintf("a command has at most %d words", maxArguments), "put it into a script")
	}
	words := make([]string, 0, len(list))
	for i, el := range list {
		s, filled := el.anyTemplate()
		if i == 0 && el.node != nil && filled != "" && !path.IsAbs(filled) {
			el.problem(fmt.Sprintf("the program %s must be a full path", quote(s)), "steps run without a PATH: see command -v")
		}
		words = append(words, s)
	}
	return words
}

func (v value) environment() map[string]string {
	list, _ := v.entries("a mapping of variables", "write env: {NAME: value}")
	env := make(map[string]string, len(list))
	for _, e := range list {
		if !variablePattern.MatchString(e.key) {
			v.d.problem(e.pos, fmt.Sprintf("%s is not the name of a variable", quote(e.key)), "use letters, digits and _")
		}
		if !e.val.missing() {
			env[e.key], _ = e.val.anyTemplate()
		} else {
			env[e.key] = ""
		}
	}
	return env
}

// webURL returns an http or https URL. It may be a template.
func (v value) webURL() string {
	s, filled, ok := v.template()
	if !ok {
		return ""
	}
	u, err := url.Parse(filled)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		v.problem(v.name()+" must be an http or https URL", "write http://127.0.0.1:8080/path")
		return ""
	}
	return s
}

// template returns text that may hold templates, as it stands and filled in
// with sample values.
func (v value) template() (s, filled string, ok bool) {
	if s, ok = v.text(); !ok {
		return "", "", false
	}
	filled, ok = v.expand(s)
	return s, filled, ok
}

// anyTemplate is template for places where numbers and truth values are text
// as they are written, and where text may be empty.
func (v value) anyTemplate() (s, filled string) {
	s, ok := v.plain()
	if !ok {
		v.wrong("text", "")
		return "", ""
	}
	filled, _ = v.expand(s)
	return s, filled
}

// expand fills in the templates of s with sample values, as a transition will
// with its own.
func (v value) expand(s string) (string, bool) {
	if strings.ContainsRune(s, 0) {
		v.problem(v.name()+" has a zero byte", "remove it")
		return "", false
	}
	a, ok := v.sample(hooks.YAML{Value: s})
	return a.Value, ok
}

// expandKey is expand for a path of keys, in which a value's dots are no path.
func (v value) expandKey(s string) (string, bool) {
	a, ok := v.sample(hooks.YAML{Key: s})
	return a.Key, ok
}

func (v value) sample(a hooks.YAML) (hooks.YAML, bool) {
	vars := hooks.Vars{
		Node: "primary", Peer: "reserve", Active: "primary", Standby: "reserve",
		Instance: "instance", Epoch: 1, Reason: "reason", VIP: "192.0.2.10",
	}
	filled, err := hooks.Expand(a, vars)
	if err != nil {
		v.templateProblem(err)
		return hooks.YAML{}, false
	}
	return filled.(hooks.YAML), true
}

// templateProblem notes what is wrong with a template, without its text: that
// may hold what messages should not.
func (v value) templateProblem(err error) {
	names := []string{".Node", ".Peer", ".Active", ".Standby", ".Instance", ".Event", ".Epoch", ".Reason", ".VIP"}
	if inner := errors.Unwrap(err); inner != nil {
		err = inner
	}
	if m := unknownField.FindStringSubmatch(err.Error()); m != nil {
		hint := "known are " + strings.Join(names, " ")
		for _, n := range names {
			if strings.EqualFold(n[1:], m[1]) || nearest(m[1], []string{strings.ToLower(n[1:])}) != "" {
				hint = fmt.Sprintf("did you mean {{%s}}?", n)
			}
		}
		v.problem(fmt.Sprintf("the template names .%s, which does not exist", m[1]), hint)
		return
	}
	why := templatePrefix.ReplaceAllString(err.Error(), "")
	v.problem("the template is not valid: "+why, "write names in double braces: {{.Active}}")
}
