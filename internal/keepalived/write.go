package keepalived

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
)

// Options are what the files do not say.
type Options struct {
	ID, PeerID string // keepalived's --config-id of the two hosts, for lines that begin with @
}

// Result is a configuration of Tanist's.
type Result struct {
	YAML []byte
	// Missing are the placeholders in it, in the order in which they turned up: what
	// no file says. Without any, Tanist takes the configuration.
	Missing []string
	Notes   int // comments about what was not carried over as it was
}

// Import reads one host's keepalived.conf, and the other's if it is known: the same
// file with another id, or one of its own.
func Import(file, peer string, o Options) (Result, error) {
	one, err := readHost(file, o.ID)
	if err != nil {
		return Result{}, err
	}
	sources := []string{file}
	var two *host
	if peer == "" && o.PeerID != "" {
		peer = file
	}
	if peer != "" {
		if peer != file {
			sources = append(sources, peer)
		}
		if two, err = readHost(peer, o.PeerID); err != nil {
			return Result{}, err
		}
	}
	if len(one.instances) == 0 {
		return Result{}, fmt.Errorf("%s has no vrrp_instance: there is nothing to import", file)
	}
	p := build(one, two)
	p.sources = sources
	return p.result(), nil
}

func readHost(path, id string) (*host, error) {
	r := &reader{id: id, defined: map[string]string{}}
	err := r.file(path, 0)
	if errors.Is(err, errBounds) {
		err = fmt.Errorf("%s: %w", path, err)
	}
	if err != nil {
		return nil, err
	}
	all, err := r.tree()
	if err != nil {
		return nil, err
	}
	h := makeHost(all)
	h.notes = append(r.notes, h.notes...)
	return &h, nil
}

// writer writes YAML by hand: with comments, and in the order a person would.
type writer struct {
	strings.Builder
	notes int
}

func (w *writer) line(indent int, format string, args ...any) {
	w.WriteString(strings.Repeat(" ", indent) + strings.TrimRight(fmt.Sprintf(format, args...), " ") + "\n")
}

// width is where comments are broken.
const width = 118

// comment writes text behind #, broken between words, the lines after the first set in.
func (w *writer) comment(indent int, text string) {
	text = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, text)
	prefix, used := strings.Repeat(" ", indent)+"# ", 0
	w.WriteString(prefix)
	for i, word := range strings.Fields(text) {
		switch {
		case i == 0:
		case indent+2+used+1+len(word) > width:
			w.WriteString("\n" + prefix + "  ")
			used = 2
		default:
			w.WriteByte(' ')
			used++
		}
		w.WriteString(word)
		used += len(word)
	}
	w.WriteByte('\n')
}

// tell writes notes in the order of their places, each once.
func (w *writer) tell(indent int, notes []note) {
	sorted := slices.Clone(notes)
	slices.SortStableFunc(sorted, func(a, b note) int {
		if c := strings.Compare(a.at.file, b.at.file); c != 0 {
			return c
		}
		return a.at.line - b.at.line
	})
	for _, n := range slices.Compact(sorted) {
		w.comment(indent, n.at.String()+": "+n.text)
		w.notes++
	}
}

func (p *pair) result() Result {
	w := &writer{}
	w.comment(0, "Made by `tanist import keepalived` from "+strings.Join(p.sources, " and ")+".")
	w.comment(0, "What was not carried over as it was stands in comments, with its place. docs/import-keepalived.md is the way from")
	w.comment(0, "one to the other, one host at a time.")
	if len(p.missing) > 0 {
		w.line(0, "#")
		w.comment(0, "To be filled in, since no file says it, and refused by `tanist check` until then: "+strings.Join(p.missing, ", ")+".")
	}
	w.line(0, "")
	w.tell(0, p.notes)
	if len(p.notes) > 0 {
		w.line(0, "")
	}
	w.comment(0, "A host finds itself by its label, or by hostname: NAME in its entry, or by --node LABEL.")
	w.line(0, "nodes:")
	for i, l := range p.labels {
		w.line(2, "%s: {addresses: %s}", scalar(l), list(p.addresses[i]))
	}
	w.line(0, "")
	w.comment(0, "When both hosts run Tanist: `tanist keygen`, the key on both hosts, this line, and auth: hmac below.")
	w.comment(0, "key_file: /etc/tanist/cluster.key")
	w.line(0, "")
	w.line(0, "instances:")
	for i, u := range p.units {
		if i > 0 {
			w.line(0, "")
		}
		p.unit(w, u)
	}
	return Result{YAML: []byte(w.String()), Missing: p.missing, Notes: w.notes}
}

func (p *pair) unit(w *writer, u *unit) {
	in := u.first()
	w.tell(2, u.notes)
	w.line(2, "- name: %s", scalar(u.name))
	w.line(4, "interface: %s", scalar(u.iface))
	w.line(4, "vrid: %s", u.vrid)
	w.line(4, "vips: %s", list(u.vips))
	w.line(4, "priority: {%s: %s, %s: %s}", scalar(p.labels[0]), u.priority[0], scalar(p.labels[1]), u.priority[1])
	if in.nopreempt && in.state != "MASTER" {
		w.line(4, "preempt: false")
	} else {
		w.line(4, "preempt: true # as keepalived without nopreempt; for a database every move costs: false is better")
		switch {
		case in.preemptDelay > 0 && in.state == "MASTER":
			w.comment(4, in.at.String()+": preempt_delay does nothing in keepalived with state MASTER, and is left out")
			w.notes++
		case in.preemptDelay > 0:
			w.line(4, "preempt_delay: %s", in.preemptDelay)
		}
	}
	interval, bounded := carried(u.version, u.advert)
	if bounded != "" {
		w.comment(4, in.at.String()+": advert_int "+u.advert.String()+": "+bounded)
		w.notes++
	}
	const usualLease = 2 * time.Second
	if lease := (2*interval + time.Second - 1).Truncate(time.Second); lease > usualLease {
		w.line(4, "lease: %s", lease)
	}
	mode := "unicast"
	if u.multicast {
		mode = "multicast"
	}
	if h := p.startup; h > 0 {
		w.line(4, "startup_delay: %s", h)
	}
	more := ""
	if u.version == 3 && !strings.Contains(u.vips[0], ":") {
		// keepalived drops RFC 9568's, and hears nothing until it was heard.
		more = ", checksum: keepalived"
		if in.checksumAsV2 {
			more = ", checksum: rfc"
		}
	}
	w.line(4, "heartbeat: {version: %d, mode: %s, advert_interval: %s, auth: none%s}", u.version, mode, interval, more)
	u.garp(w)
	u.health(w)
	u.plans(w)
	if u.hasDatabase() {
		w.comment(4, "This looks like a pair of databases. With databases: here (docs/databases.md) and replication: and writes: in the")
		w.comment(4, "plans (docs/steps.md) a host that lags is not promoted, and no script has to open and close writes.")
	}
}

// carried is the interval as the version can carry it, and what was done to it.
func carried(version int, d time.Duration) (time.Duration, string) {
	step, most := 10*time.Millisecond, 4095*10*time.Millisecond
	if version == 2 {
		step, most = time.Second, 255*time.Second
	}
	rounded := min(max((d+step-1).Truncate(step), step), most)
	if rounded != d {
		return rounded, fmt.Sprintf("VRRPv%d carries %s to %s in steps of %s", version, step, most, step)
	}
	return rounded, ""
}

func (u *unit) garp(w *writer) {
	g := u.first().garp
	var parts []string
	if g.repeat > 0 {
		parts = append(parts, fmt.Sprintf("repeat: %d", min(g.repeat, 100)))
	}
	for _, d := range []struct {
		key  string
		time time.Duration
	}{{"interval", g.interval}, {"delay", g.delay}, {"refresh", g.refresh}} {
		if d.time >= 0 {
			parts = append(parts, d.key+": "+d.time.String())
		}
	}
	if len(parts) > 0 {
		w.line(4, "garp: {%s}", strings.Join(parts, ", "))
	}
}

var (
	plain    = regexp.MustCompile(`^-{0,2}[A-Za-z_/][A-Za-z0-9_./@%+-]*$`)
	reserved = []string{"true", "false", "yes", "no", "on", "off", "null", "y", "n"}
)

// scalar writes text so that YAML reads it as that text, in a list or mapping on one
// line as well.
func scalar(s string) string {
	if plain.MatchString(s) && !slices.Contains(reserved, strings.ToLower(s)) {
		return s
	}
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case unicode.IsPrint(r):
			b.WriteRune(r)
		case r <= 0xff:
			fmt.Fprintf(&b, `\x%02x`, r)
		case r <= 0xffff:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			fmt.Fprintf(&b, `\U%08x`, r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

var bare = regexp.MustCompile(`^[0-9.]+/[0-9]+$|^[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+$`)

func list(words []string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		if quoted[i] = w; !bare.MatchString(w) {
			quoted[i] = scalar(w)
		}
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}

func printable(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}
