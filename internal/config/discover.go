package config

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/tanist-ha/tanist/replication/discover"
)

const (
	// maxRules bounds the discovery rules of one instance.
	maxRules = 32
	// maxValues bounds what a field is compared with.
	maxValues = 64
)

func (v value) discover() []Discovery {
	list, _ := v.list("write discover: followed by entries that begin with - files:")
	if len(list) > maxRules {
		list[maxRules].problem(fmt.Sprintf("an instance has at most %d rules", maxRules), "one rule finds any number of files")
		list = list[:maxRules]
	}
	var rules []Discovery
	for _, el := range list {
		rules = append(rules, el.discovery())
	}
	return rules
}

func (v value) discovery() Discovery {
	d := Discovery{User: DefaultDatabaseUser}
	r := &d.Rule
	var name value
	ok := v.object("a rule",
		need("files", func(v value) { r.Files = v.pattern() }),
		allow("format", func(v value) { oneOf(v, formats(), &r.Format) }),
		allow("name", func(v value) { name, r.Name = v, v.fileText() }),
		allow("host", func(v value) { r.Host = v.fileText() }),
		allow("port", func(v value) { r.Port = v.fileText() }),
		allow("socket", func(v value) { r.Socket = v.fileText() }),
		allow("container", func(v value) { r.Container = v.fileText() }),
		allow("unit", func(v value) { r.Unit = v.serviceText() }),
		allow("where", func(v value) { r.Where = v.where() }),
		allow("user", func(v value) { d.User = v.databaseUser() }),
		allow("password_file", func(v value) { d.PasswordFile = v.file() }),
		allow("tls", func(v value) { d.TLS = v.tls() }),
		allow("replicate_from", func(v value) {
			d.ReplicateFrom = v.replicateFrom()
			if _, given := v.d.positions[v.child("port")]; !given {
				d.ReplicateFrom.Port = 0
			}
		}),
		allow("heartbeat_table", func(v value) { d.HeartbeatTable = v.table() }),
		allow("docker_socket", func(v value) { d.Engine = v.file() }),
	)
	if ok {
		v.checkRule(r, name)
	}
	return d
}

// formats are the words for discover.Format; without one the extension tells.
func formats() []string { return []string{"auto", "json", "yaml"} }

// checkRule looks at what the keys of a rule mean together.
func (v value) checkRule(r *discover.Rule, name value) {
	has := func(key string) bool { _, given := v.d.positions[v.child(key)]; return given }
	here := func(key string) position { return v.d.at(v.child(key)) }
	if !has("host") && !has("socket") && !has("container") {
		v.problem("a rule lacks host, socket or container", "add one: the field that holds it, such as host: .mysql.host")
	}
	if has("host") && (has("socket") || has("container")) {
		v.d.problem(here("host"), "host means nothing beside socket or container", "remove it; port stays that of the database on the other node")
	}
	if has("docker_socket") && !has("container") {
		v.d.problem(here("docker_socket"), "docker_socket means something for a container only", "remove it, or add container")
	}
	if r.Files == "" {
		return
	}
	if r.Format == discover.ByExtension && discover.FormatOf(r.Files) == discover.ByExtension {
		v.d.problem(here("files"), "the name of the files does not tell their format", "add format: json or format: yaml")
	}
	if _, constant := r.Unit.Constant(); constant && strings.ContainsAny(r.Files, `*?[`) {
		v.d.problem(here("unit"), "every database of the rule would have the same service", "put what tells them apart into it: mariadb@{{.id}}.service")
	}
	switch one := discover.OneWildcard(r.Files); {
	case !has("name") && !one:
		v.problem("a rule lacks the key \"name\"", "add the field that holds it, such as name: .id; only a file name with exactly one * tells one by itself")
	case r.Name.UsesMatch() && !one:
		name.problem(".Match means nothing here", "it is what the * stands for in a file name with exactly one")
	}
}

// pattern returns an absolute path with wildcards.
func (v value) pattern() string {
	s, ok := v.text()
	if !ok {
		return ""
	}
	_, err := path.Match(s, "")
	switch {
	case !path.IsAbs(s):
		v.problem(v.name()+" must be a full path", "begin it with /")
	case strings.ContainsFunc(s, func(r rune) bool { return r < ' ' }):
		v.problem(v.name()+" has a control character", "write the path on one line")
	case len(s) > 4095:
		v.problem(v.name()+" is longer than a path can be", "")
	case err != nil:
		v.problem(v.name()+" is not a valid pattern", "the wildcards are *, ? and [a-z]; a \\ takes the meaning from the next")
	case strings.Contains(s, "**"):
		v.problem("** has no meaning here", "write a * for each directory: /srv/*/*_company.json")
	case strings.HasSuffix(s, "/"):
		v.problem(v.name()+" names a directory", "add the files in it: "+s+"*.json")
	default:
		return path.Clean(s)
	}
	return ""
}

// fileText reads a field of the files, or words with fields in between.
func (v value) fileText() discover.Text {
	s, ok := v.plain()
	if !ok || s == "" {
		v.wrong("a field or text", "write a field such as .mysql.port")
		return discover.Text{}
	}
	t, err := discover.ParseText(s)
	if err != nil {
		v.problem(fmt.Sprintf("%s: %s", v.name(), err), "write a field such as .mysql.port, or text with fields: \"team-{{.id}}\"")
	}
	return t
}

// serviceText reads the name of the service that runs each server.
func (v value) serviceText() discover.Text {
	t := v.fileText()
	if name, constant := t.Constant(); constant && !strings.HasSuffix(name, ".service") {
		v.problem(fmt.Sprintf("%s is not a service", quote(name)), "name the services that run the servers: mariadb@{{.id}}.service")
	}
	return t
}

func (v value) where() *discover.Condition {
	c := &discover.Condition{}
	v.object("where",
		need("field", func(v value) {
			s, ok := v.text()
			if !ok {
				return
			}
			var err error
			if c.Field, err = discover.ParsePath(s); err != nil {
				v.problem(fmt.Sprintf("%s: %s", v.name(), err), "write a field such as .status")
			}
		}),
		need("in", func(v value) {
			list, ok := v.list("write in: [1, 2]")
			if ok && len(list) == 0 {
				v.problem("no value would do, so no file would count", "write in: [1, 2]")
			}
			if len(list) > maxValues {
				list[maxValues].problem(fmt.Sprintf("where has at most %d values", maxValues), "")
			}
			for _, el := range list {
				s, ok := el.plain()
				switch {
				case el.node == nil:
				case !ok || el.node.Kind != yaml.ScalarNode:
					el.wrong("text or a number", "")
				case slices.Contains(c.In, s):
					el.problem(fmt.Sprintf("%s stands twice", quote(s)), "")
				default:
					c.In = append(c.In, s)
				}
			}
		}),
	)
	return c
}
