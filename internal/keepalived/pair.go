package keepalived

// Two hosts' files become one: what both say alike once, what they say of themselves
// side by side.

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// placeholder stands for what no file says; Tanist refuses it wherever it stands.
const placeholder = "FILL-IN"

// fillIn is a placeholder that says what for.
func fillIn(what string) string { return placeholder + "-" + what }

// pair is the configuration to be.
type pair struct {
	labels    [2]string
	addresses [2][]string
	units     []*unit
	notes     []note
	sources   []string // files
	missing   []string // what placeholders stand for
	startup   time.Duration
}

// unit is one instance to be. The first of the two is the primary's; one that no file
// tells of is nil.
type unit struct {
	here      [2]*instance
	name      string
	iface     string
	vrid      string
	vips      []string
	priority  [2]string
	version   int
	advert    time.Duration
	multicast bool
	notes     []note
}

// first is the instance that the file itself has, or the primary's.
func (u *unit) first() *instance {
	if u.here[0] != nil {
		return u.here[0]
	}
	return u.here[1]
}

func (u *unit) note(at place, format string, args ...any) {
	u.notes = append(u.notes, note{at, fmt.Sprintf(format, args...)})
}

func (p *pair) lacks(what string) string {
	word := fillIn(what)
	if !slices.Contains(p.missing, word) {
		p.missing = append(p.missing, word)
	}
	return word
}

// build makes a pair of one host or two.
func build(one, two *host) *pair {
	p := &pair{labels: [2]string{"primary", "reserve"}}
	hosts := [2]*host{one, two}
	if preferred(one, two) == 1 {
		hosts = [2]*host{two, one}
	}
	p.label(hosts)
	for _, h := range []*host{one, two} {
		if h != nil {
			h.merge()
			p.notes = joined(p.notes, h.notes)
			p.startup = max(p.startup, h.global.startup)
		}
	}
	p.match(hosts)
	names := map[string]bool{}
	for _, u := range p.units {
		p.settle(u, names)
	}
	p.paths()
	p.virtual()
	p.apart()
	return p
}

// joined are the notes of one file and those of another that say something else.
func joined(notes, more []note) []note {
	said := map[string]bool{}
	for _, n := range notes {
		said[n.text] = true
	}
	for _, n := range more {
		if !said[n.text] {
			notes = append(notes, n)
		}
	}
	return notes
}

// preferred is the index of the host that wins elections: 1 for the second of two, or
// for the one that is not known.
func preferred(one, two *host) int {
	if len(one.instances) == 0 {
		return 0
	}
	in := one.instances[0]
	if two == nil {
		if in.state == "BACKUP" && in.priority <= 100 {
			return 1
		}
		return 0
	}
	for _, other := range two.instances {
		if (other.name == in.name || other.vrid == in.vrid) && other.priority > in.priority {
			return 1
		}
	}
	return 0
}

var validName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$`)

// label takes the hosts' own names where both files have one.
func (p *pair) label(hosts [2]*host) {
	if hosts[0] == nil || hosts[1] == nil {
		return
	}
	a, b := hosts[0].global.router, hosts[1].global.router
	if a != b && validName.MatchString(a) && validName.MatchString(b) {
		p.labels = [2]string{a, b}
	}
}

// merge makes one instance of those of a sync group that share an interface, and of
// those that share interface and VRID.
func (h *host) merge() {
	for i := range h.groups {
		h.gather(&h.groups[i])
	}
	for i := 0; i < len(h.instances); i++ {
		for j := len(h.instances) - 1; j > i; j-- {
			a, b := h.instances[i], h.instances[j]
			if a.vrid == b.vrid && a.iface == b.iface && a.vrid != 0 {
				a.note(b.at, "vrrp_instance %s has the same interface and VRID: its addresses are in this instance, with one election for both", b.name)
				a.absorb(b)
				h.instances = slices.Delete(h.instances, j, j+1)
			}
		}
	}
}

func (h *host) gather(g *group) {
	var members []*instance
	for _, name := range g.members {
		i := slices.IndexFunc(h.instances, func(in *instance) bool { return in.name == name })
		if i < 0 {
			h.notes = append(h.notes, note{g.at, fmt.Sprintf("sync group %s: there is no vrrp_instance %s", g.name, name)})
			continue
		}
		members = append(members, h.instances[i])
	}
	if len(members) == 0 {
		return
	}
	first := members[0]
	first.group = g
	first.checks = append(first.checks, g.checks...)
	for _, in := range members[1:] {
		if in.iface == first.iface {
			words := "its addresses are here"
			if in.vrid != first.vrid {
				words += fmt.Sprintf(", and VRID %d is used no more", in.vrid)
			}
			first.note(in.at, "vrrp_instance %s is in sync group %s with this one: %s", in.name, g.name, words)
			first.absorb(in)
			h.instances = slices.DeleteFunc(h.instances, func(x *instance) bool { return x == in })
			continue
		}
		in.checks = append(in.checks, g.checks...)
		tie := func(a, b *instance) {
			a.checks = append(a.checks, check{at: g.at, name: "link-" + b.iface, link: b.iface, interval: time.Second, timeout: time.Second, rise: 1, fall: 1})
		}
		tie(first, in)
		tie(in, first)
		in.note(g.at, "sync group %s: instances of different interfaces do not move together; each watches the other's link, and `tanist switchover` moves one at a time", g.name)
		if !g.notify.empty() {
			in.note(g.at, "the notify programs of sync group %s are called for instance %s only", g.name, first.name)
		}
	}
}

// absorb takes over what another instance has.
func (in *instance) absorb(b *instance) {
	in.addresses = append(in.addresses, b.addresses...)
	in.checks = append(in.checks, b.checks...)
	in.notes = append(in.notes, b.notes...)
	in.members = append(in.members, b)
	switch {
	case in.notify.empty():
		in.notify = b.notify
	case !b.notify.empty():
		in.note(b.at, "the notify programs of vrrp_instance %s are left out: those of %s are called", b.name, in.name)
	}
	b.checks, b.notes = nil, nil
}

// match finds what belongs together in both files.
func (p *pair) match(hosts [2]*host) {
	known := 0
	if hosts[0] == nil {
		known = 1
	}
	var others []*instance
	if o := hosts[1-known]; o != nil {
		others = o.instances
	}
	for _, in := range hosts[known].instances {
		u := &unit{}
		u.here[known] = in
		i := slices.IndexFunc(others, func(o *instance) bool { return o.name == in.name })
		if i < 0 {
			i = slices.IndexFunc(others, func(o *instance) bool { return o.vrid == in.vrid })
		}
		if i >= 0 {
			u.here[1-known] = others[i]
			others = slices.Delete(slices.Clone(others), i, i+1)
		} else if hosts[1-known] != nil {
			u.note(in.at, "the other file has no vrrp_instance of this name or VRID")
		}
		p.units = append(p.units, u)
	}
	for _, o := range others {
		u := &unit{}
		u.here[1-known] = o
		u.note(o.at, "only this file has vrrp_instance %s", o.name)
		p.units = append(p.units, u)
	}
}

// settle decides what both say alike.
func (p *pair) settle(u *unit, names map[string]bool) {
	in := u.first()
	for _, x := range u.here {
		if x != nil {
			u.notes = joined(u.notes, x.notes)
		}
	}
	u.name = uniqueName(in.name, names)
	if u.name != in.name {
		u.note(in.at, "vrrp_instance %q cannot be a name here; notify programs get %s", in.name, u.name)
	}
	u.multicast = len(in.peers) == 0
	u.settleInterface(p, in)
	if in.vrid != 0 {
		u.vrid = strconv.Itoa(in.vrid)
	} else {
		u.vrid = p.lacks("VRID")
	}
	for i, x := range u.here {
		if x == nil {
			u.priority[i] = p.lacks("PRIORITY-OF-" + p.labels[i])
		} else {
			u.priority[i] = strconv.Itoa(x.priority)
		}
	}
	if u.priority == [2]string{"255", "255"} {
		u.priority[1] = "254"
		u.note(in.at, "both hosts have priority 255: one of them has 254 here")
	}
	u.compare()
}

func (u *unit) settleInterface(p *pair, in *instance) {
	u.iface = in.iface
	devs := map[string]bool{}
	for _, a := range in.addresses {
		devs[a.dev] = true
	}
	if len(devs) == 1 && !devs[""] && !devs[in.iface] {
		u.iface = in.addresses[0].dev
		if u.multicast {
			u.note(in.at, "the addresses are on %s, and the heartbeat on %s: here both are on %s, or write mode: unicast", u.iface, in.iface, u.iface)
		}
	}
	if other := u.here[1]; u.here[0] != nil && other != nil && other.iface != u.here[0].iface {
		u.note(other.at, "the interface is %s on one host and %s on the other: both hosts have the same file here, so give it one name, with a systemd .link file",
			u.here[0].iface, other.iface)
		u.iface = ""
	}
	if len(u.iface) > 15 || u.iface == "" || u.iface == "." || u.iface == ".." || strings.ContainsAny(u.iface, "/: \t") || !printable(u.iface) {
		u.iface = p.lacks("THE-NAME-OF-THE-INTERFACE")
	}
}

// compare tells in what the two files differ, and settles version and interval.
func (u *unit) compare() {
	in := u.first()
	u.version, u.advert = in.version, in.advert
	if b := u.here[1]; u.here[0] != nil && b != nil {
		a := u.here[0]
		for _, d := range []struct {
			what     string
			one, two any
		}{
			{"virtual_router_id", a.vrid, b.vrid},
			{"version", a.version, b.version},
			{"advert_int", a.advert, b.advert},
			{"unicast_peer", len(a.peers) == 0, len(b.peers) == 0},
			{"virtual_ipaddress", prefixes(a), prefixes(b)},
		} {
			if d.one != d.two {
				u.note(b.at, "%s differs between the two files: that of %s is used", d.what, a.at.file)
			}
		}
		a.compareChecks(b, u)
	}
}

func (in *instance) compareChecks(b *instance, u *unit) {
	var names []string
	for _, c := range in.checks {
		names = append(names, c.name)
	}
	for _, c := range b.checks {
		if !slices.Contains(names, c.name) {
			u.note(c.at, "%s is tracked in this file only, and left out: the checks are the same on both hosts", c.name)
		}
	}
	if in.notify.words() != b.notify.words() {
		u.note(b.at, "the notify programs differ between the two files: those of %s are called", in.at.file)
	}
}

func (n notifies) words() string {
	var words []string
	for _, c := range []*command{n.master, n.backup, n.fault, n.stop, n.any} {
		if c == nil {
			words = append(words, "")
		} else {
			words = append(words, shellWords(c.args)+" "+c.user)
		}
	}
	return strings.Join(words, "\n")
}

func prefixes(in *instance) string {
	var words []string
	for _, a := range in.addresses {
		words = append(words, a.prefix.String())
	}
	slices.Sort(words)
	return strings.Join(words, " ")
}

// apart sees to it that VRIDs tell the instances apart.
func (p *pair) apart() {
	for j, b := range p.units {
		for _, a := range p.units[:j] {
			if a.vrid == b.vrid && !(a.multicast && b.multicast && a.iface != b.iface) {
				b.note(b.first().at, "VRID %s is that of instance %s, too: give this one another, on both hosts", b.vrid, a.name)
				b.vrid = p.lacks("ANOTHER-VRID")
			}
		}
	}
}

// uniqueName makes a name that Tanist takes.
func uniqueName(name string, taken map[string]bool) string {
	clean := strings.Map(func(r rune) rune {
		if r < 0x80 && (r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("_.-", r)) {
			return r
		}
		return '-'
	}, name)
	if clean = strings.TrimLeft(clean, "_.-"); clean == "" {
		clean = "instance"
	}
	const most = 50
	clean = clean[:min(len(clean), most)]
	unique := clean
	for i := 2; taken[unique]; i++ {
		unique = fmt.Sprintf("%s-%d", clean, i)
	}
	taken[unique] = true
	return unique
}

// node is an address that a node can have.
func node(a netip.Addr) bool {
	return a.IsValid() && a.Zone() == "" && !a.Is4In6() && !a.IsUnspecified() && !a.IsMulticast() && !a.IsLinkLocalUnicast() &&
		a != netip.AddrFrom4([4]byte{255, 255, 255, 255})
}
