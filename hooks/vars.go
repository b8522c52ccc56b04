package hooks

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/template"
)

// Occasion is why a plan runs: `.Event` in a template.
type Occasion uint8

// Why a plan runs.
const (
	OnPromote Occasion = iota
	OnDemote
	OnFault
	OnStop
)

func (o Occasion) String() string {
	switch o {
	case OnPromote:
		return "promote"
	case OnDemote:
		return "demote"
	case OnFault:
		return "fault"
	case OnStop:
		return "stop"
	}
	return fmt.Sprintf("Occasion(%d)", uint8(o))
}

// Vars is what a template of a step can name.
type Vars struct {
	Node, Peer      string // labels of this host and the other
	Active, Standby string // labels by role, once the transition is done
	Instance        string
	Event           Occasion
	Epoch           uint64
	Reason          string
	VIP             string // first virtual address, without its prefix length
	Priority        uint8  // of this host in the election
}

// named returns the text of one variable.
func (v Vars) named(name string) (string, bool) {
	switch name {
	case "Node":
		return v.Node, true
	case "Peer":
		return v.Peer, true
	case "Active":
		return v.Active, true
	case "Standby":
		return v.Standby, true
	case "Instance":
		return v.Instance, true
	case "Event":
		return v.Event.String(), true
	case "Reason":
		return v.Reason, true
	case "VIP":
		return v.VIP, true
	}
	return "", false
}

// Expand returns the action with its templates filled in. An unknown name or a
// malformed template is an error that quotes the template.
func Expand(a Action, v Vars) (Action, error) {
	x := expander{vars: v}
	switch a := a.(type) {
	case YAML:
		a.File, a.Key, a.Value = x.text(a.File), x.key(a.Key), x.text(a.Value)
		return a, x.err
	case Unit:
		a.Name = x.text(a.Name)
		return a, x.err
	case Exec:
		a.Command, a.Verify = x.list(a.Command), x.list(a.Verify)
		env := make(map[string]string, len(a.Env))
		for _, k := range slices.Sorted(maps.Keys(a.Env)) { // of two mistakes the same one is reported
			env[k] = x.text(a.Env[k])
		}
		a.Env = env
		if a.Keepalived {
			// A second expansion would append them again.
			a.Command, a.Keepalived = append(a.Command, keepalivedArguments(v)...), false
		}
		return a, x.err
	case Link:
		a.Path, a.Target = x.text(a.Path), x.text(a.Target)
		return a, x.err
	case Notify:
		if a.Exec != nil {
			a.Exec = x.list(a.Exec)
		}
		a.Webhook, a.Vars = x.text(a.Webhook), v
		return a, x.err
	case Wait:
		a.Lsyncd, a.TCP, a.File = x.text(a.Lsyncd), x.text(a.TCP), x.text(a.File)
		return a, x.err
	case JSON:
		return x.json(a), x.err
	case Line:
		return x.line(a), x.err
	case VIP, Writes, Replication:
		return a, nil
	}
	return a, fmt.Errorf("expand a step of kind %s: unknown kind", a.Kind())
}

type expander struct {
	vars Vars
	err  error
}

func (x *expander) text(s string) string {
	if x.err != nil || !strings.Contains(s, "{{") {
		return s
	}
	if f, ok := strings.CutPrefix(s, "{{."); ok {
		// By far the most templates are one name.
		if name, ok := strings.CutSuffix(f, "}}"); ok {
			if v, ok := x.vars.named(name); ok {
				return v
			}
		}
	}
	t, err := template.New("").Option("missingkey=error").Parse(s)
	if err == nil {
		var b strings.Builder
		if err = t.Execute(&b, x.vars); err == nil {
			return b.String()
		}
	}
	x.err = fmt.Errorf("template %q: %w", s, err)
	return s
}

func (x *expander) list(in []string) []string {
	out := make([]string, len(in))
	for i, s := range in {
		out[i] = x.text(s)
	}
	return out
}
