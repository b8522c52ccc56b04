package discover

import (
	"strings"
	"testing"
)

func FuzzPath(f *testing.F) {
	for _, s := range []string{".mysql.port", ".a", ".", "", "a", ".a..b", ".a b", ".0.x-y_z", strings.Repeat(".a", 17)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := ParsePath(s)
		if err != nil {
			return
		}
		if p.String() != s || len(p) > maxPathParts {
			t.Errorf("%q became %q", s, p.String())
		}
	})
}

func FuzzText(f *testing.F) {
	for _, s := range []string{".mysql.port", "team-{{.id}}", "{{ .a }}{{.b}}", "{{.a}}", "plain", "{{", "}}", "a}}b{{.c}}", "{{{.a}}}", "a{b}c"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := ParseText(s)
		if err != nil {
			return
		}
		b, err := ParseText(a.String())
		if err != nil || b.String() != a.String() || len(a.pieces) != len(b.pieces) {
			t.Errorf("%q became %q, then %q, %v", s, a.String(), b.String(), err)
		}
		words, ok := a.Constant()
		if got, err := a.expand(expander{doc: jsonDocument{}}); ok && (err != nil || got != words || words != s) {
			t.Errorf("%q expands to %q, %v", s, got, err)
		}
	})
}

// Whatever a file holds, what is found can be used, and an error tells nothing of
// what is in the file.
func FuzzRead(f *testing.F) {
	for _, s := range []string{
		`{"status": 1, "mysql": {"host": "a", "port": 3306}}`, `{"status": "2", "mysql": {"host": "::1", "port": "1"}}`,
		"status: 1\nmysql: {host: a, port: 3306}\n", "&a [*a]", "a: &x\n  status: *x\n", "{", "status: !!binary x", "? [a]\n: b", "<<: {status: 1}",
		"status: 2001-01-01", `{"status":{"status":1}}`,
	} {
		f.Add([]byte(s), true)
		f.Add([]byte(s), false)
	}
	path := Path{"status"}
	one := func(s string) Text {
		t, err := ParseText(s)
		if err != nil {
			f.Fatal(err)
		}
		return t
	}
	rule := Rule{
		Files: "/d/*.x", Name: one("n-{{.Match}}-{{.mysql.port}}"), Host: one(".mysql.host"), Port: one(".mysql.port"),
		Where: &Condition{path, []string{"1", "2"}},
	}
	f.Fuzz(func(t *testing.T, content []byte, isJSON bool) {
		rule := rule
		if rule.Format = YAML; isJSON {
			rule.Format = JSON
		}
		found, ok, err := rule.read("/d/1.x", content, Vars{})
		switch {
		case err != nil:
			if ok || len(err.Error()) > 200 {
				t.Errorf("%v beside %v", ok, err)
			}
		case ok:
			if !validName(found.Name) || found.Address.Port == 0 || !validHost(found.Address.Host) {
				t.Errorf("found %+v", found)
			}
		}
	})
}
