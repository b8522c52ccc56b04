// Package discover finds databases in files that another program writes, one
// database a file: a rule says which files, which of them count, and which of
// their fields hold the name and the address.
//
// What was found stays found while its file cannot be read or understood: a file
// that is half written must not leave a database without protection.
package discover

import (
	"errors"
	"fmt"
	"net/netip"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// The bounds of a look.
const (
	MaxFiles     = 4096    // that match one rule
	MaxFileSize  = 1 << 20 // bytes
	MaxDatabases = 1024    // those named elsewhere included
)

// DefaultPort is the port of a database whose rule names none.
const DefaultPort = 3306

// Rule says where databases are found. One of Host, Socket and Container is
// needed; a Socket beside a Container is a path inside it.
type Rule struct {
	Files     string // an absolute pattern, each part of it as path.Match reads it
	Format    Format
	Name      Text // if empty what Files has its only wildcard for
	Host      Text
	Port      Text // of the database here, and of its counterpart on the peer
	Socket    Text
	Container Text
	Unit      Text       // the service that runs the server, none if empty
	Where     *Condition // nil: every file counts
}

// Format is how the files are written.
type Format uint8

// The formats. ByExtension takes .json for JSON, .yaml and .yml for YAML.
const (
	ByExtension Format = iota
	JSON
	YAML
)

// FormatOf returns the format that the name of a file tells, or ByExtension.
func FormatOf(name string) Format {
	switch strings.ToLower(path.Ext(name)) {
	case ".json":
		return JSON
	case ".yaml", ".yml":
		return YAML
	default:
		return ByExtension
	}
}

// Condition holds for a file whose field is one of the values.
type Condition struct {
	Field Path
	In    []string // as the file writes them, without quotes
}

// Vars are what texts name beside fields.
type Vars struct {
	Node, Peer string // labels
	Instance   string
}

// Address is where a database answers: Container, else Socket, else Host.
type Address struct {
	Host      string // a name or an address, without brackets
	Port      uint16 // with Host
	Socket    string // with Container a path in it, or empty for the usual ones
	Container string
}

// String returns the address as the configuration writes one.
func (a Address) String() string {
	switch {
	case a.Container != "" && a.Socket != "":
		return "container:" + a.Container + ":" + a.Socket
	case a.Container != "":
		return "container:" + a.Container
	case a.Socket != "":
		return "unix:" + a.Socket
	case strings.Contains(a.Host, ":"):
		return fmt.Sprintf("tcp:[%s]:%d", a.Host, a.Port)
	default:
		return fmt.Sprintf("tcp:%s:%d", a.Host, a.Port)
	}
}

// Found is one database.
type Found struct {
	Name    string
	Address Address
	Port    uint16 // that the file names, 0 if the rule asks for none
	Unit    string // a service, or empty
	Rule    int    // its index, -1 for a database that no rule found
	File    string
}

// Problem is one thing that is wrong with a rule's files.
type Problem struct {
	Rule    int
	File    string // a file or a directory
	Field   string // empty when it is about the file
	Message string // holds nothing of what the file says
	Kept    bool   // the database that the file told of before is kept
}

func (p Problem) Error() string {
	s := p.File + ": "
	if p.Field != "" {
		s += p.Field + " "
	}
	if s += p.Message; p.Kept {
		s += "; what it said before stands"
	}
	return s
}

// Lengths are not in the patterns: counted repetitions take the time and the room of as
// many copies, in every command.
var (
	namePattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]*$`)
	unitPattern = regexp.MustCompile(`^[A-Za-z0-9:_.\\-]+(@[A-Za-z0-9:_.\\-]+)?\.service$`)
	hostPattern = regexp.MustCompile(`^[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?)*\.?$`)
)

// fieldError is about one field, or about a text made of several.
type fieldError struct{ field, message string }

func (e *fieldError) Error() string { return e.field + " " + e.message }

// read makes a database of a file's content; ok is false for a file that does
// not count. The error is a *fieldError, or what keeps the file from being read.
func (r *Rule) read(file string, content []byte, vars Vars) (f Found, ok bool, err error) {
	doc, err := parse(r.format(file), content)
	if err != nil {
		return f, false, err
	}
	if counts, err := r.Where.holds(doc); !counts || err != nil {
		return f, false, err
	}
	e := expander{doc: doc, vars: vars, match: matched(r.Files, file)}
	f.File = file
	if f.Name, err = e.name(r.Name); err != nil {
		return f, false, err
	}
	if f.Port, err = e.port(r.Port); err != nil {
		return f, false, err
	}
	if f.Unit, err = e.unit(r.Unit); err != nil {
		return f, false, err
	}
	if f.Address, err = e.address(r); err != nil {
		return f, false, err
	}
	if f.Address.Host != "" {
		if f.Address.Port = f.Port; f.Port == 0 {
			f.Address.Port = DefaultPort
		}
	}
	return f, true, nil
}

func (r *Rule) format(file string) Format {
	if r.Format != ByExtension {
		return r.Format
	}
	return FormatOf(file)
}

func (c *Condition) holds(doc document) (bool, error) {
	if c == nil {
		return true, nil
	}
	v := doc.at(c.Field)
	if !v.scalar() {
		return false, &fieldError{c.Field.String(), v.wrong("a value to compare")}
	}
	for _, in := range c.In {
		if v.text == in {
			return true, nil
		}
	}
	return false, nil
}

// expander turns the texts of a rule into what they mean for one file.
type expander struct {
	doc   document
	vars  Vars
	match string
}

func (e expander) name(t Text) (string, error) {
	field, name := "name", e.match
	if !t.IsZero() {
		var err error
		if name, err = t.expand(e); err != nil {
			return "", err
		}
		field = t.String()
	}
	if !validName(name) {
		return "", &fieldError{field, "gives no name: letters, digits, _ . and -, beginning with a letter or digit, at most 63"}
	}
	return name, nil
}

func (e expander) port(t Text) (uint16, error) {
	if t.IsZero() {
		return 0, nil
	}
	s, err := t.expand(e)
	if err != nil {
		return 0, err
	}
	port, err := strconv.ParseUint(s, 10, 16)
	if err != nil || port == 0 {
		return 0, &fieldError{t.String(), "is no port from 1 to 65535"}
	}
	return uint16(port), nil
}

func (e expander) unit(t Text) (string, error) {
	if t.IsZero() {
		return "", nil
	}
	s, err := t.expand(e)
	if err == nil && (len(s) > 255 || !unitPattern.MatchString(s)) {
		err = &fieldError{t.String(), "is no name of a service: it ends in .service"}
	}
	return s, err
}

// maxSocketPath is what sockaddr_un holds, less its final zero byte.
const maxSocketPath = 107

func (e expander) address(r *Rule) (a Address, err error) {
	get := func(t Text, into *string, what string, good func(string) bool) {
		if err != nil || t.IsZero() {
			return
		}
		if *into, err = t.expand(e); err == nil && !good(*into) {
			err = &fieldError{t.String(), what}
		}
	}
	get(r.Container, &a.Container, "is no name of a container", validContainer)
	get(r.Socket, &a.Socket, "is no path of a socket: absolute, at most 107 bytes", func(s string) bool {
		return validSocket(s, a.Container != "")
	})
	if a.Container == "" && a.Socket == "" {
		get(r.Host, &a.Host, "is no host name or address", validHost)
		if err == nil && a.Host == "" {
			err = errors.New("the rule names no host, socket or container")
		}
	}
	return a, err
}

func validSocket(s string, inside bool) bool {
	return path.IsAbs(s) && path.Clean(s) == s && (inside || len(s) <= maxSocketPath) && len(s) < 4096 &&
		!strings.ContainsFunc(s, func(c rune) bool { return c < ' ' })
}

func validName(s string) bool { return len(s) <= 63 && namePattern.MatchString(s) }

func validContainer(s string) bool { return len(s) <= 255 && namePattern.MatchString(s) }

// validHost takes names with _ too, as those of services are.
func validHost(s string) bool {
	if a, err := netip.ParseAddr(s); err == nil {
		return a.Zone() == "" && !a.IsUnspecified() && !a.IsMulticast()
	}
	return len(s) <= 253 && hostPattern.MatchString(s) &&
		!slices.ContainsFunc(strings.Split(s, "."), func(label string) bool { return len(label) > 63 })
}

// matched is what the only wildcard in the last part of a pattern stands for,
// empty if there is not one *.
func matched(pattern, file string) string {
	before, after, ok := strings.Cut(path.Base(pattern), "*")
	if !ok || strings.ContainsAny(before+after, `*?[\`) {
		return ""
	}
	s, ok := strings.CutPrefix(path.Base(file), before)
	if !ok {
		return ""
	}
	s, _ = strings.CutSuffix(s, after)
	return s
}

// OneWildcard reports whether the last part of a pattern has one * and no other
// wildcard, so that a file's name tells what it stands for.
func OneWildcard(pattern string) bool {
	base := path.Base(pattern)
	return strings.Count(base, "*") == 1 && !strings.ContainsAny(base, `?[\`)
}
