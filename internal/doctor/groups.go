package doctor

// Do the two nodes hear each other on the VRRP group of an interface? What goes to a
// group can be lost where unicast between the same two hosts gets through: a switch that
// snoops forwards it only to where it believes that somebody listens.

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// MostGroups bounds the groups that are looked at in one diagnosis.
const MostGroups = 32

// Group is the VRRP group of an interface as one node sees it. Local is the node's
// address there, invalid when it has none; Peer is the peer's, invalid until it said so.
// Of its Sight nothing is filled in that is about TCP or ARP.
type Group struct {
	Sight
	VRIDs       []byte `json:"vrids"`                  // of the instances that advertise to it
	NoMulticast bool   `json:"no_multicast,omitempty"` // a flag that the interface lacks

	Instances []string       `json:"-"` // that advertise to it
	Networks  []netip.Prefix `json:"-"` // of the interface
}

// GroupEnd is what a node tells the other of its end of a group.
type GroupEnd struct {
	Interface string     `json:"interface"`
	Local     netip.Addr `json:"local"`
	VRIDs     []byte     `json:"vrids"`
}

// Ends lists what the peer is told.
func Ends(groups []Group) []GroupEnd {
	ends := []GroupEnd{}
	for _, g := range groups {
		if g.Local.IsValid() {
			ends = append(ends, GroupEnd{Interface: g.Interface, Local: g.Local, VRIDs: g.VRIDs})
		}
	}
	return ends
}

// Meet fills in the peer's address on each group of which it has an end: one with a VRID
// in common, on the interface of the same name if there are several. An address that
// cannot be on the link is not believed.
func Meet(groups []Group, ends []GroupEnd) {
	ends = slices.Clone(ends[:min(len(ends), MostGroups)])
	for i := range groups {
		g := &groups[i]
		at := slices.IndexFunc(ends, func(e GroupEnd) bool { return g.meets(e) && e.Interface == g.Interface })
		if at < 0 {
			at = slices.IndexFunc(ends, g.meets)
		}
		if at >= 0 {
			g.Peer = ends[at].Local.WithZone("")
			ends = slices.Delete(ends, at, at+1)
		}
	}
}

func (g *Group) meets(e GroupEnd) bool {
	a := e.Local.WithZone("")
	if !g.Local.IsValid() || !a.IsValid() || a.Is4In6() || a.Is4() != g.Local.Is4() || a == g.Local || !shared(g.VRIDs, e.VRIDs) {
		return false
	}
	if a.Is6() {
		return a.IsLinkLocalUnicast()
	}
	return slices.ContainsFunc(g.Networks, func(p netip.Prefix) bool { return p.Contains(a) })
}

// shared reports whether two lists of VRIDs, one of them the peer's and as long as it
// likes, have one in common.
func shared(a, b []byte) bool {
	var among [256]bool
	for _, vrid := range a {
		among[vrid] = true
	}
	return slices.ContainsFunc(b, func(vrid byte) bool { return among[vrid] })
}

// otherEnd is the peer's view of a group.
func otherEnd(all []Group, g Group) *Group {
	is := func(o Group) bool { return o.Local == g.Peer && o.Peer == g.Local && shared(o.VRIDs, g.VRIDs) }
	at := slices.IndexFunc(all, func(o Group) bool { return is(o) && o.Interface == g.Interface })
	if at < 0 {
		at = slices.IndexFunc(all, is)
	}
	if at < 0 {
		return nil
	}
	return &all[at]
}

// View is what one node sees of the ways to the other. Groups are nil where its release
// does not look at them.
type View struct {
	Sights []Sight
	Groups []Group
}

// Groups judges the groups by what each node sees of them. there is nil when the peer
// could not be asked; peer is for then.
func Groups(nodes [2]string, here View, there *View, peer Peer) []Finding {
	var found []Finding
	var theirs View
	if there != nil {
		theirs = *there
	}
	if there != nil && there.Groups == nil && len(Ends(here.Groups)) > 0 {
		found = append(found, unprobed(nodes, here.Groups))
	}
	for i := range here.Groups {
		mine := &here.Groups[i]
		other := otherEnd(theirs.Groups, *mine)
		found = append(found, ownGroup(nodes[0], *mine, here.Sights)...)
		if other != nil {
			found = append(found, ownGroup(nodes[1], *other, theirs.Sights)...)
		}
		peer := peer
		if there != nil && there.Groups != nil && !slices.ContainsFunc(theirs.Groups, mine.alike) {
			peer.Holds = nil // it advertises elsewhere, which the comparison of the configurations says
		}
		out := groupWay{from: nodes[0], to: nodes[1], near: mine, far: other, peer: peer, instances: mine.Instances}
		in := groupWay{from: nodes[1], to: nodes[0], near: other, far: mine, peer: peer, instances: mine.Instances}
		out.unicast, in.unicast = beside(here.Sights, theirs.Sights, *mine), beside(theirs.Sights, here.Sights, mine.turned())
		found = append(found, out.advertisements()...)
		found = append(found, in.advertisements()...)
	}
	return found
}

// unprobed says that the peer's daemon was asked, and answered nothing of groups. What it
// is not told of an end of this node's, it says nothing of either.
func unprobed(nodes [2]string, groups []Group) Finding {
	var which []string
	for _, g := range groups {
		which = append(which, g.about())
	}
	return warn(CheckFailed, "", "the VRRP groups were not probed: the release of %s does not know how", nodes[1]).
		because("what is said of %s is what %s hears", strings.Join(which, ", "), nodes[0]).
		fix("tanist version   # on both; upgrade the older one").on(nodes[0])
}

// alike reports whether an instance that advertises to g does so to a group of the peer's.
func (g *Group) alike(theirs Group) bool {
	return theirs.Group == g.Group && shared(g.VRIDs, theirs.VRIDs)
}

// turned is where the peer's end of a group is.
func (g Group) turned() Group {
	g.Local, g.Peer = g.Peer, g.Local
	return g
}

// unicast is what protocol 112 does between the same two addresses without a group.
type unicast struct{ sent, got int }

// beside looks for a path between the addresses of a group.
func beside(near, far []Sight, g Group) unicast {
	for _, n := range near {
		if f := opposite(far, n); f != nil && n.Local == g.Local && n.Peer == g.Peer {
			got := min(n.Sent, f.Heard+f.Unproved)
			if got == 0 && (n.Out112.Drops || f.In112.Drops) {
				break // by a packet filter of the hosts that may let the group through
			}
			return unicast{sent: n.Sent, got: got}
		}
	}
	return unicast{}
}

func (g Group) about() string { return fmt.Sprintf("%s %v", g.Interface, g.Group) }

func (g Group) open() bool { return g.Link == "up" && g.Local.IsValid() }

// ownGroup judges what a node sees of its own end of a group.
func ownGroup(node string, g Group, sights []Sight) []Finding {
	said := func(s Sight) bool { return s.Interface == g.Interface && s.Link != "up" }
	switch {
	case g.Link == "": // there is no such interface, which the configuration's findings say
	case g.Link != "up" && slices.ContainsFunc(sights, said):
	case g.Link != "up":
		return []Finding{wrong(PathNotOpen, g.about(), "%s, on whose group %v %s, %s", g.Interface, g.Group, advertise(g.Instances), g.Link).
			fix("ip link set "+g.Interface+" up", "# if it is up already: cable, switch port, VLAN").on(node)}
	case !g.Local.IsValid():
		return []Finding{wrong(PathNotOpen, g.about(), "%s has no %s of its own to send to the group %v from", g.Interface, ownAddress(g.Group), g.Group).
			fix("ip -brief address show dev " + g.Interface).on(node)}
	case g.SocketError != "":
		return []Finding{wrong(PathNotOpen, g.about(), "the daemon cannot use the group %v on %s", g.Group, g.Interface).
			because("%s", g.SocketError).fix("ip -brief address show dev "+g.Interface, "ip maddress show dev "+g.Interface).on(node)}
	}
	return nil
}

func advertise(instances []string) string {
	switch len(instances) {
	case 0: // the peer does not say their names
		return "instances advertise"
	case 1:
		return "instance " + instances[0] + " advertises"
	}
	return fmt.Sprintf("%d instances advertise", len(instances))
}

func ownAddress(group netip.Addr) string {
	if group.Is6() {
		return "link-local address"
	}
	return "IPv4 address"
}

// groupWay is one direction of a group.
type groupWay struct {
	from, to  string
	near, far *Group // of the sender and of the receiver
	peer      Peer
	unicast   unicast
	instances []string
}

// advertisements judges protocol 112 to the group one way, as on a path.
func (w groupWay) advertisements() []Finding {
	near, far := w.near, w.far
	switch {
	case near != nil && !near.open() || far != nil && !far.open():
		return nil // said already
	case near != nil && far != nil && near.Sent > 0 && far.ListenError == "":
		return w.probed()
	case far != nil && far.PatienceMS > 0 && far.heardLately():
		return []Finding{fine(Proto112Blocked, w.about(), "protocol 112 %s: heard %s ago", w.name(), ago(*far.HeardMS)).on(w.to)}
	case far != nil && far.PatienceMS > 0 && w.near == nil && slices.ContainsFunc(w.instances, func(in string) bool { return slices.Contains(w.peer.Holds, in) }):
		said := "no advertisement was ever heard"
		if far.HeardMS != nil {
			said = fmt.Sprintf("no advertisement for %s", ago(*far.HeardMS))
		}
		return []Finding{w.lost(said)}
	case far != nil && far.In112.Drops && far.In112.Certain, near != nil && near.Out112.Drops && near.Out112.Certain:
		return []Finding{w.lost("not tried")}
	}
	return nil // nobody is there who could say: a standby is silent
}

func (w groupWay) probed() []Finding {
	sent := w.near.Sent
	switch got := w.far.Heard + w.far.Unproved; {
	case got == 0:
		return []Finding{w.lost(fmt.Sprintf("%d of %d probes to the group lost", sent, sent))}
	case got < sent:
		return []Finding{warn(Proto112Lossy, w.about(), "%d of %d probes of IP protocol 112 got lost %s", sent-got, sent, w.name()).
			because("%s", w.near.beside(w.to)).fix("ip -s link show " + w.far.Interface).on(w.to)}
	}
	return []Finding{fine(Proto112Blocked, w.about(), "protocol 112 %s: %d of %d probes", w.name(), min(w.far.Heard+w.far.Unproved, sent), sent).on(w.to)}
}

// end is the one that is seen, and the addresses of the sender and of the group.
func (w groupWay) end() (seen *Group, source netip.Addr) {
	if w.near != nil {
		return w.near, w.near.Local
	}
	return w.far, w.far.Peer
}

func (w groupWay) about() string {
	seen, _ := w.end()
	return seen.about()
}

func (w groupWay) name() string {
	seen, source := w.end()
	if !source.IsValid() {
		return fmt.Sprintf("to the group %v on %s from %s to %s", seen.Group, seen.Interface, w.from, w.to)
	}
	return fmt.Sprintf("to the group %v on %s from %s to %s (from %v)", seen.Group, seen.Interface, w.from, w.to, source)
}

// lost says what keeps packets to the group away, the surest reason first.
func (w groupWay) lost(evidence string) Finding {
	seen, _ := w.end()
	f := wrong(Proto112Blocked, w.about(), "IP protocol 112 does not get through %s", w.name()).because("%s", evidence)
	if seen.Peer.IsValid() {
		peer := w.to
		if w.near == nil {
			peer = w.from
		}
		f = f.because("%s", seen.beside(peer))
	}
	if w.unicast.got > 0 {
		f = f.because("without the group, to the address of %s itself: %d of %d probes of IP protocol 112 came", w.to, w.unicast.got, w.unicast.sent)
	}
	if w.near != nil && w.near.SendError != "" {
		f = f.because("sending fails: %s", w.near.SendError)
	}
	if filtered, does := w.asPath().filtered(f, protocolVRRP); does {
		return filtered
	}
	for _, end := range []struct {
		node  string
		group *Group
	}{{w.from, w.near}, {w.to, w.far}} {
		if end.group != nil && end.group.NoMulticast {
			return f.because("%s of %s has no multicast", end.group.Interface, end.node).
				fix("ip link set dev "+end.group.Interface+" multicast on", "# a tunnel that cannot: "+w.withoutGroup()).on(end.node)
		}
	}
	f = w.asPath().unfiltered(f)
	if w.far == nil {
		return f.fix(fmt.Sprintf("# on %s: nft list ruleset; iptables-save", w.to)).on(w.to)
	}
	return w.between(f.fix(w.watch())).on(w.to)
}

// asPath is the way without what is a group's own.
func (w groupWay) asPath() way {
	p := way{from: w.from, to: w.to, peer: w.peer}
	if w.near != nil {
		p.near = &w.near.Sight
	}
	if w.far != nil {
		p.far = &w.far.Sight
	}
	return p
}

// watch shows whether anything comes to the receiver.
func (w groupWay) watch() string {
	_, source := w.end()
	from := ""
	if source.IsValid() {
		from = fmt.Sprintf(" and src %v", source)
	}
	return fmt.Sprintf("tcpdump -ni %s '%s and dst %v%s'", w.far.Interface, tcpdump112(w.far.Group), w.far.Group, from)
}

// between judges what lies between the two hosts, by what else gets through there.
func (w groupWay) between(f Finding) Finding {
	echoed := w.near != nil && w.near.EchoUS != nil || w.far.EchoUS != nil
	switch {
	case w.unicast.sent > 0 && w.unicast.got == 0 && echoed:
		return f.because("without the group it is lost as well: a firewall between the hosts drops the protocol").
			fix("# nothing there: allow IP protocol 112 in the firewall between the hosts")
	case w.unicast.got == 0 && !echoed:
		return f.because("nothing else gets through on %s either", w.far.Interface).
			fix("ip -s link show "+w.far.Interface, "# then the cable, the switch and its VLAN")
	case w.unicast.got == 0:
		f = f.because("the hosts reach each other: a switch that snoops without a querier drops the group, or a firewall between them the protocol")
	default:
		f = f.because("only the group is lost: a switch between them snoops %s and knows of no member, as without a querier", snooped(w.far.Group))
	}
	return f.fix(fmt.Sprintf("# nothing there: in the switch, an %s querier for this VLAN, or %v as a static group on both ports", snooped(w.far.Group), w.far.Group),
		fmt.Sprintf("# with a querier: %s has to answer it, and no packet filter to keep its %s reports in", w.to, snooped(w.far.Group)),
		"# where the switch is a Linux bridge, there: ip link set dev BRIDGE type bridge mcast_querier 1",
		"# or do without: "+w.withoutGroup())
}

// withoutGroup is what to write where a group cannot be had.
func (w groupWay) withoutGroup() string {
	of := "these instances"
	if n := len(w.instances); n > 0 && n <= 3 {
		of = strings.Join(w.instances, ", ")
	}
	return "heartbeat: {mode: unicast} for " + of + " on both nodes, then on both at once: systemctl reload tanist"
}

// snooped is the protocol by which switches learn who listens to a group.
func snooped(group netip.Addr) string {
	if group.Is6() {
		return "MLD"
	}
	return "IGMP"
}

func tcpdump112(a netip.Addr) string {
	if a.Is6() {
		return "ip6 proto 112"
	}
	return "ip proto 112"
}
