package config

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// checkKind is one kind of health check: its word, how its value is read, and
// the feature it is.
type checkKind struct {
	name    string
	feature Feature
	read    func(value) Check
}

func checkKinds() []checkKind {
	return []checkKind{
		{"unit", FeatureUnitCheck, func(v value) Check { return UnitCheck{v.unit()} }},
		{"process", FeatureProcessCheck, func(v value) Check { s, _ := v.text(); return ProcessCheck{s} }},
		{"tcp", FeatureTCPCheck, value.tcpCheck},
		{"http", FeatureHTTPCheck, func(v value) Check { return HTTPCheck{v.webURL()} }},
		{"exec", FeatureExecCheck, value.execCheck},
		{"mysql", FeatureMySQLCheck, func(v value) Check { return MySQLCheck{v.identifier()} }},
		{"disk", FeatureDiskCheck, value.diskCheck},
		{"link", FeatureLinkCheck, func(v value) Check { return LinkCheck{v.link()} }},
		{"gateway", FeatureGatewayCheck, func(v value) Check { a, _ := v.address(); return GatewayCheck{a} }},
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
			v.d.unsupported(v.pos, k.feature, "leave the check out")
		}))
	}
	if v.object("a health check", fields...) && kind == "" && !v.hasAny(checkKinds()) {
		var words []string
		for _, k := range checkKinds() {
			words = append(words, k.name)
		}
		v.problem("a health check without a kind asks nothing", "add one of "+or(words))
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
		return ExecCheck{Command: v.command()}
	}
	var x ExecCheck
	v.object("exec",
		need("command", func(v value) { x.Command = v.command() }),
		allow("user", func(v value) { x.User = v.account() }),
	)
	return x
}

func (v value) diskCheck() Check {
	var c DiskCheck
	v.object("disk",
		need("path", func(v value) {
			s, ok := v.text()
			if ok && !strings.HasPrefix(s, "/") {
				v.problem("path must be a full path", "begin it with /")
				return
			}
			c.Path = s
		}),
		need("min_free", func(v value) { c.MinFree = v.percent() }),
	)
	return c
}
