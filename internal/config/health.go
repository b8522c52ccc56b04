package config

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"
)

// checkKind is one kind of health check: its word, and how its value is read.
type checkKind struct {
	name string
	read func(value) Check
}

func checkKinds() []checkKind {
	return []checkKind{
		{"unit", func(v value) Check { return UnitCheck{v.roleless(v.unit())} }},
		{"process", value.processCheck},
		{"tcp", value.tcpCheck},
		{"http", func(v value) Check { return HTTPCheck{v.roleless(v.webURL())} }},
		{"exec", value.execCheck},
		{"mysql", func(v value) Check { return MySQLCheck{v.identifier()} }},
		{"disk", value.diskCheck},
		{"link", func(v value) Check { return LinkCheck{v.link()} }},
		{"gateway", value.gatewayCheck},
		{"file", value.fileCheck},
	}
}

// maxChecks bounds the health checks of an instance: each has a worker.
const maxChecks = 64

// health reads the checks. Mistaken ones keep their place.
func (v value) health() []HealthCheck {
	list, _ := v.list("write health: followed by entries that begin with - name:")
	if len(list) > maxChecks {
		list[maxChecks].problem(fmt.Sprintf("an instance has at most %d health checks", maxChecks), "")
	}
	checks := make([]HealthCheck, 0, len(list))
	names := map[string]int{}
	for _, el := range list {
		c := el.healthCheck()
		at := v.d.at(el.child("name"))
		if first, taken := names[c.Name]; taken {
			v.d.problem(at, fmt.Sprintf("two health checks are named %s", c.Name), fmt.Sprintf("the first is on line %d: name each differently", first))
		} else if c.Name != "" {
			names[c.Name] = at.line
		}
		checks = append(checks, c)
	}
	return checks
}

func (v value) healthCheck() HealthCheck {
	c := HealthCheck{Interval: time.Second, Timeout: time.Second, Rise: 2, Fall: 3}
	kind := ""
	fields := []field{
		need("name", func(v value) { c.Name = v.identifier() }),
		allow("interval", func(v value) { c.Interval = v.duration(10 * time.Millisecond) }),
		allow("timeout", func(v value) { c.Timeout = v.duration(time.Millisecond) }),
		allow("rise", func(v value) { u, _ := v.integer(1, 1000); c.Rise = int(u) }),
		allow("fall", func(v value) { u, _ := v.integer(1, 1000); c.Fall = int(u) }),
		allow("effect", func(v value) { oneOf(v, healthEffects(), &c.Effect) }),
	}
	for _, k := range checkKinds() {
		fields = append(fields, allow(k.name, func(v value) {
			if kind != "" {
				v.problem(fmt.Sprintf("a health check asks one thing, not %s and %s", kind, k.name), "make it two checks")
				return
			}
			kind = k.name
			c.Check = k.read(v)
		}))
	}
	if v.object("a health check", fields...) && kind == "" && !v.hasAny(checkKinds()) {
		var words []string
		for _, k := range checkKinds() {
			words = append(words, k.name)
		}
		v.problem("a health check without a kind asks nothing", "add one of "+or(words))
	}
	if c.Interval > 0 && c.Timeout > c.Interval {
		at := "timeout"
		if _, given := v.d.positions[v.child(at)]; !given {
			at = "interval"
		}
		v.d.notice(v.child(at), fmt.Sprintf("health check %s waits %s for an answer and asks every %s", c.Name, show(c.Timeout), show(c.Interval)),
			"while an answer is out nothing is asked again, so a slow one is one sample in place of several: a shorter timeout says sooner that it fails")
	}
	return c
}

// hasAny reports whether a kind stands here, if without a value.
func (v value) hasAny(kinds []checkKind) bool {
	return slices.ContainsFunc(kinds, func(k checkKind) bool {
		_, ok := v.d.positions[v.child(k.name)]
		return ok
	})
}

// ofARole is what a template can name only while a plan runs.
var ofARole = regexp.MustCompile(`\{\{[^}]*\.(Active|Standby|Event|Epoch|Reason)\b`)

// roleless refuses a template that needs a transition: a check is the same whichever
// node is Active.
func (v value) roleless(s string) string {
	if m := ofARole.FindStringSubmatch(s); m != nil {
		v.problem(fmt.Sprintf("a health check has no .%s: it asks the same whichever node is active", m[1]), "known are .Node .Peer .Instance .VIP")
		return ""
	}
	return s
}

func (v value) processCheck() Check {
	s, ok := v.text()
	switch {
	case !ok:
		return ProcessCheck{}
	case s == "" || strings.ContainsAny(s, "/\n\x00"):
		v.problem(fmt.Sprintf("%s is not the name of a process", quote(s)), "write its name without a path, as ps -e shows it")
		return ProcessCheck{}
	}
	return ProcessCheck{s}
}

func (v value) gatewayCheck() Check { return GatewayCheck{v.gateway()} }

// gateway reads an address, with its zone if it is link-local.
func (v value) gateway() netip.Addr {
	s, ok := v.text()
	if !ok {
		return netip.Addr{}
	}
	a, err := netip.ParseAddr(s)
	switch {
	case err != nil || !a.Is6() || !a.IsLinkLocalUnicast():
		a, _ = v.address() // which says what is wrong with it
	case a.Zone() == "":
		v.problem(fmt.Sprintf("%s is link-local: it does not say on which link", a), fmt.Sprintf("write %s%%eth0, with the interface of this network", a))
		a = netip.Addr{}
	}
	return a
}

// fileCheck reads a path, alone or with what the file has to be like.
func (v value) fileCheck() Check {
	if _, ok := v.plain(); ok {
		return FileCheck{Path: v.file()}
	}
	var f FileCheck
	v.object("file",
		need("path", func(v value) { f.Path = v.file() }),
		allow("max_age", func(v value) { f.MaxAge = v.duration(time.Second) }),
		allow("contains", func(v value) { f.Contains, _ = v.text() }),
	)
	return f
}

func (v value) tcpCheck() Check {
	s, ok := v.text()
	if !ok {
		return TCPCheck{}
	}
	host, port, ok := hostPort(s)
	if !ok {
		v.problem(fmt.Sprintf("%s lacks a host or a port from 1 to 65535", quote(s)), "write tcp: HOST:PORT, an IPv6 address in brackets")
	}
	return TCPCheck{Host: host, Port: port}
}

// execCheck reads a command, alone or with the account it runs as.
func (v value) execCheck() Check {
	if v.kind() == "a list" {
		return ExecCheck{Command: v.checkCommand()}
	}
	var x ExecCheck
	v.object("exec",
		need("command", func(v value) { x.Command = v.checkCommand() }),
		allow("user", func(v value) { x.User = v.account() }),
	)
	return x
}

func (v value) checkCommand() []string {
	command := v.command()
	for _, word := range command {
		if v.roleless(word) != word {
			return nil
		}
	}
	return command
}

func (v value) diskCheck() Check {
	var c DiskCheck
	v.object("disk",
		need("path", func(v value) {
			c.Path = v.file()
		}),
		need("min_free", func(v value) { c.MinFree = v.percent() }),
	)
	return c
}
