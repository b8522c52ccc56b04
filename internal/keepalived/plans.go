package keepalived

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// maxChecks bounds the health checks of an instance, maxArguments a command.
const (
	maxChecks    = 64
	maxArguments = 256
)

func (u *unit) health(w *writer) {
	in := u.first()
	names, asked := map[string]bool{}, map[string]bool{}
	var lines []string
	weighted := false
	for _, c := range in.checks {
		kind, value := c.question()
		switch {
		case kind == "" || len(c.command) > maxArguments:
			w.comment(4, c.at.String()+": "+c.name+" names no program that could be run, and is left out")
			w.notes++
			continue
		case asked[kind+value]: // of an instance that was merged into this one
			continue
		case c.link != "" && c.link == u.iface:
			continue // it is watched anyway
		case len(lines) == maxChecks:
			w.comment(4, c.at.String()+": "+c.name+": an instance has at most 64 checks")
			w.notes++
			continue
		}
		asked[kind+value] = true
		effect := "fault"
		if c.weight != 0 {
			effect, weighted = "yield", true
		}
		timeout := max(c.timeout, time.Millisecond)
		lines = append(lines, fmt.Sprintf("- {name: %s, %s: %s, interval: %s, timeout: %s, rise: %d, fall: %d, effect: %s}",
			scalar(uniqueName(c.name, names)), kind, value, c.interval, timeout, c.rise, c.fall, effect))
	}
	if len(lines) == 0 {
		return
	}
	w.line(4, "health:")
	if weighted {
		w.comment(6, "No weights: what had one has effect: yield, which moves the service if the other host is well.")
	}
	for _, l := range lines {
		w.line(6, "%s", l)
	}
}

// step is an exec step to be.
type step struct {
	at      place
	name    string
	command []string
	style   bool // keepalived's arguments are appended
	user    string
}

// plans writes what the notify programs become: steps behind the move of the address,
// whose exit status does not count, as with keepalived.
func (u *unit) plans(w *writer) {
	n := u.first().notify
	var promote, demote []step
	add := func(n notifies, arguments func(string) []string, suffix string) {
		if n.master != nil {
			promote = append(promote, step{n.master.at, "notify_master" + suffix, runnable(n.master.args), false, n.master.user})
		}
		demote = append(demote, n.losing(suffix)...)
		if c := n.any; c != nil {
			args := runnable(c.args)
			on, off := args, args
			if arguments != nil {
				on = append(args[:len(args):len(args)], arguments("MASTER")...)
				off = append(args[:len(args):len(args)], arguments(lost)...)
			}
			promote = append(promote, step{c.at, "notify" + suffix, on, arguments == nil, c.user})
			demote = append(demote, step{c.at, "notify" + suffix, off, arguments == nil, c.user})
		}
	}
	if g := u.first().group; g != nil {
		add(g.notify, func(state string) []string {
			return []string{"GROUP", strings.ReplaceAll(g.name, "{{", ""), state, "0"}
		}, "-group")
	}
	add(n, nil, "")
	for _, s := range append(promote, demote...) {
		if len(s.command) > maxArguments {
			w.comment(4, s.at.String()+": a command has at most 256 words: the notify programs are left out")
			w.notes++
			return
		}
	}
	if len(promote)+len(demote) == 0 {
		return
	}
	w.line(4, "promote:")
	w.line(6, "- vip: acquire")
	u.steps(w, promote)
	w.line(4, "demote:")
	w.line(6, "- vip: release")
	u.steps(w, demote)
}

// lost is keepalived's word for where a demotion leads, by its event.
const lost = `{{if eq .Event.String "fault"}}FAULT{{else if eq .Event.String "stop"}}STOP{{else}}BACKUP{{end}}`

// losing makes steps of what keepalived runs when the role goes. One step runs at
// every demotion, so that where the programs differ a shell picks one.
func (n notifies) losing(suffix string) []step {
	cases := []losingCase{{"demote", n.backup}, {"fault", n.fault}, {"stop", n.stop}}
	any := cmp.Or(n.backup, n.fault, n.stop)
	same := !slices.ContainsFunc(cases, func(c losingCase) bool { return !c.alike(cases[0]) })
	switch {
	case any == nil:
		return nil
	case same:
		return []step{{any.at, "notify_backup" + suffix, runnable(any.args), false, any.user}}
	}
	users := map[string][]string{} // cases by account
	var order []string
	at := map[string]place{}
	for i, c := range cases {
		if c.command == nil || slices.ContainsFunc(cases[:i], c.alike) {
			continue
		}
		events := c.event
		for _, other := range cases[i+1:] {
			if c.alike(other) {
				events += "|" + other.event
			}
		}
		if _, known := users[c.user]; !known {
			order = append(order, c.user)
			at[c.user] = c.at
		}
		users[c.user] = append(users[c.user], events+") exec "+shellWords(runnable(c.args))+" ;;")
	}
	var steps []step
	for i, user := range order {
		name := "notify_backup-fault-stop" + suffix
		if i > 0 {
			name = fmt.Sprintf("%s-%d", name, i+1)
		}
		script := "case $1 in " + strings.Join(users[user], " ") + " esac"
		steps = append(steps, step{at[user], name, []string{"/bin/sh", "-c", script, "notify", "{{.Event}}"}, false, user})
	}
	return steps
}

// losingCase is what keepalived runs at one of the events of a demotion.
type losingCase struct {
	event string
	*command
}

// alike reports whether the same is run for both.
func (c losingCase) alike(b losingCase) bool {
	return c.command != nil && b.command != nil && slices.Equal(c.args, b.args) && c.user == b.user
}

func (u *unit) steps(w *writer, steps []step) {
	for _, s := range steps {
		text := "command: " + list(s.command)
		if s.style {
			text += ", style: keepalived"
		}
		if user := account(s.user); user != "" {
			text += ", user: " + user
		}
		w.line(6, "- exec: {%s}", text)
		w.line(8, "name: %s", s.name)
		w.line(8, "on_error: continue")
	}
}

// hasDatabase guesses from names whether a database moves with the address.
func (u *unit) hasDatabase() bool {
	in := u.first()
	words := []string{in.name}
	for _, c := range in.checks {
		words = append(words, c.name, c.process)
		words = append(words, c.command...)
	}
	words = append(words, in.notify.words())
	all := strings.ToLower(strings.Join(words, " "))
	for _, w := range []string{"mysql", "mariadb", "3306", "galera"} {
		if strings.Contains(all, w) {
			return true
		}
	}
	return false
}
