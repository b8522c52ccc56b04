package hooks

// Steps on files that belong to other programs.

import "strings"

// JSON sets keys of somebody else's file, all in one write, and leaves every other
// key and the form of everything else.
type JSON struct {
	File string
	Set  []JSONKey // in the order of the configuration
}

// JSONKey is one key and the value it is to have.
type JSONKey struct {
	Key   string // as of YAML.Key
	Value string
	Text  bool // Value is text; otherwise it is JSON as it stands: true, null, 1e5
}

// Line puts one line into somebody else's file, or takes it out. Lines are
// compared without the blanks around them.
type Line struct {
	File   string
	Line   string
	Absent bool
	Within string // optional: the line that opens the block, `upstream x {` or `[section]`
	After  string // optional: the line behind which Line belongs, else the end of the block
}

func (JSON) action() {}
func (Line) action() {}

// Kind returns "json".
func (JSON) Kind() string { return "json" }

// Kind returns "line".
func (Line) Kind() string { return "line" }

func (a JSON) title() string { return "json " + base(a.File) }

func (a Line) title() string { return "line " + a.ensure() + " " + base(a.File) }

func base(file string) string { return file[strings.LastIndexByte(file, '/')+1:] }

func (a Line) ensure() string {
	if a.Absent {
		return "absent"
	}
	return "present"
}

// NamesRole reports whether a template depends on who is Active.
func NamesRole(s string) bool {
	return strings.Contains(s, ".Active") || strings.Contains(s, ".Standby")
}

func (x *expander) json(a JSON) JSON {
	a.File = x.text(a.File)
	set := make([]JSONKey, len(a.Set))
	for i, s := range a.Set {
		s.Key = x.key(s.Key)
		if s.Text {
			s.Value = x.text(s.Value)
		}
		set[i] = s
	}
	a.Set = set
	return a
}

func (x *expander) line(a Line) Line {
	a.File, a.Line, a.Within, a.After = x.text(a.File), x.text(a.Line), x.text(a.Within), x.text(a.After)
	return a
}

// key fills in a path of keys. What a variable holds is a part of one key, whatever
// dots are in it.
func (x *expander) key(s string) string {
	v := x.vars
	for _, text := range []*string{&v.Node, &v.Peer, &v.Active, &v.Standby, &v.Instance, &v.Reason, &v.VIP} {
		*text = escapeKey(*text)
	}
	y := expander{vars: v, err: x.err}
	s = y.text(s)
	x.err = y.err
	return s
}

func escapeKey(s string) string {
	return strings.NewReplacer(`\`, `\\`, `.`, `\.`).Replace(s)
}

// SplitKey returns the keys of a path. They are joined by dots; `\.` is a dot of a
// key and `\\` a backslash.
func SplitKey(s string) []string {
	var keys []string
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '.':
			keys = append(keys, b.String())
			b.Reset()
			continue
		case s[i] == '\\' && i+1 < len(s) && (s[i+1] == '.' || s[i+1] == '\\'):
			i++
		}
		b.WriteByte(s[i])
	}
	return append(keys, b.String())
}

// JoinKey is the path of keys, the reverse of SplitKey.
func JoinKey(keys ...string) string {
	escaped := make([]string, len(keys))
	for i, k := range keys {
		escaped[i] = escapeKey(k)
	}
	return strings.Join(escaped, ".")
}
