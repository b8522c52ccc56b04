package doctor

// Do the two nodes hear each other, on every path, by every protocol, each way? One
// node sees what it sends and what comes in; together the two see what gets lost.

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Connection is how an attempt at the port of the peer link ended.
type Connection string

// Ends of a connection attempt. A firewall that rejects looks like a port on which
// nobody listens.
const (
	Connected   Connection = "connected"
	Refused     Connection = "refused"     // RST, or ICMP port unreachable
	Reset       Connection = "reset"       // taken, and cut at once
	Unanswered  Connection = "unanswered"  // nothing came back to the SYN
	Unreachable Connection = "unreachable" // ICMP: no way to the host, or forbidden
	NotTried    Connection = ""            // there was no socket to try with
)

// Sight is one path as one node sees it.
type Sight struct {
	Local     netip.Addr `json:"local"`
	Peer      netip.Addr `json:"peer"`
	Port      uint16     `json:"port"`      // of the peer link
	Interface string     `json:"interface"` // that has Local, empty when none has
	Link      string     `json:"link"`      // up, or why not
	// Group is where the heartbeat's packets go instead of Peer; invalid on a path
	// between two addresses.
	Group netip.Addr `json:"group,omitzero"`
	// Unused says that no instance advertises here: those of the family go to groups.
	Unused bool `json:"-"`

	// The heartbeat's socket. Without a daemon there is none.
	SocketError string `json:"socket_error,omitempty"`
	HeardMS     *int64 `json:"heard_ms,omitempty"` // since the last advertisement; nil: never
	PatienceMS  int64  `json:"patience_ms"`        // after which the peer counts as silent; 0: no daemon listens

	Sent        int    `json:"sent"`                   // probes of protocol 112
	SendError   string `json:"send_error,omitempty"`   // of the last one
	Heard       int    `json:"heard"`                  // probes of the peer's
	Unproved    int    `json:"unproved"`               // probes that are not sealed with a key of this node's
	ListenError string `json:"listen_error,omitempty"` // nothing could be heard

	TCP      Connection `json:"tcp"`
	TCPError string     `json:"tcp_error,omitempty"`
	// EchoUS is how long an ICMP echo took, in microseconds; nil: no answer.
	EchoUS *int64 `json:"echo_us,omitempty"`
	// OnLink says that the peer's address is in a network of the interface's.
	OnLink bool `json:"on_link"`
	// Hardware answered to ARP or neighbour solicitation for the peer's address.
	Hardware []string `json:"hardware,omitempty"`
	AskError string   `json:"ask_error,omitempty"`

	// What the packet filter here does with the peer's packets and this node's.
	In112  Ruling `json:"in_112"`
	Out112 Ruling `json:"out_112"`
	InTCP  Ruling `json:"in_tcp"`
	OutTCP Ruling `json:"out_tcp"`
}

// Filtered fills in what the packet filter of this host does on the path.
func (s *Sight) Filtered(f Firewall) {
	s.Out112 = f.Ask(s.outgoing(protocolVRRP))
	if s.Peer.IsValid() { // on a group it need not be known
		s.In112 = f.Ask(s.incoming(protocolVRRP))
	}
	if !s.Group.IsValid() {
		s.InTCP, s.OutTCP = f.Ask(s.incoming(protocolTCP)), f.Ask(s.outgoing(protocolTCP))
	}
}

// incoming is what the peer sends.
func (s Sight) incoming(protocol uint8) Packet {
	p := Packet{Incoming: true, Interface: s.Interface, Source: s.Peer, Destination: s.Local, Protocol: protocol, Port: s.Port}
	if s.Group.IsValid() {
		p.Destination = s.Group
	}
	return p
}

// outgoing is what this node sends.
func (s Sight) outgoing(protocol uint8) Packet {
	p := Packet{Interface: s.Interface, Source: s.Local, Destination: s.Peer, Protocol: protocol, Port: s.Port}
	if s.Group.IsValid() {
		p.Destination = s.Group
	}
	return p
}

func (s Sight) heardLately() bool {
	return s.HeardMS != nil && s.PatienceMS > 0 && *s.HeardMS <= s.PatienceMS
}

// answers reports whether anything of the peer's host came back on this path.
func (s Sight) answers() bool {
	return s.EchoUS != nil || len(s.Hardware) > 0 || s.TCP == Connected || s.TCP == Refused || s.TCP == Reset || s.heardLately() || s.Heard > 0
}

// beside says what else was heard on the path, as evidence for what was not.
func (s Sight) beside(peer string) string {
	var got []string
	switch {
	case s.EchoUS != nil:
		got = append(got, fmt.Sprintf("ICMP answered in %s", milliseconds(*s.EchoUS)))
	default:
		got = append(got, "ICMP not answered")
	}
	switch {
	case len(s.Hardware) > 0:
		got = append(got, "ARP answered by "+strings.Join(s.Hardware, " and "))
	case s.OnLink:
		got = append(got, "ARP not answered")
	}
	return fmt.Sprintf("%s at %v: %s", peer, s.Peer, strings.Join(got, ", "))
}

func milliseconds(us int64) string { return fmt.Sprintf("%.2f ms", float64(us)/1000) }

// way is one direction of one path. There is what the far end sees, nil when it
// cannot be asked.
type way struct {
	from, to  string
	near, far *Sight // of the sender and of the receiver
	peer      Peer
}

// Peer is what is known of a peer that cannot be asked.
type Peer struct {
	// Lives says that its daemon was heard on any path: without one nobody listens.
	Lives bool
	// Advertises says that it holds a virtual address of an instance that advertises on
	// the paths: only then it does.
	Advertises bool
	// Holds are the instances of which it holds an address.
	Holds []string
}

// Paths judges the paths between two nodes by what each sees of them. there is nil
// when the peer could not be asked; peer is for then.
func Paths(nodes [2]string, here, there []Sight, peer Peer) []Finding {
	peer.Lives = peer.Lives || there != nil
	var found []Finding
	for i := range here {
		mine, theirs := &here[i], opposite(there, here[i])
		found = append(found, local(nodes[0], *mine)...)
		if theirs != nil {
			found = append(found, local(nodes[1], *theirs)...)
		}
		if dead, ok := deadPath(nodes, *mine, theirs); ok {
			found = append(found, dead)
			continue
		}
		out := way{from: nodes[0], to: nodes[1], near: mine, far: theirs, peer: peer}
		in := way{from: nodes[1], to: nodes[0], near: theirs, far: mine, peer: peer}
		if !mine.Unused { // that a packet filter lets only the group through is as it should be
			found = append(found, out.advertisements()...)
			found = append(found, in.advertisements()...)
		}
		found = append(found, out.connections()...)
		found = append(found, in.connections()...)
	}
	return found
}

func opposite(all []Sight, s Sight) *Sight {
	i := slices.IndexFunc(all, func(o Sight) bool { return o.Local == s.Peer && o.Peer == s.Local })
	if i < 0 {
		return nil
	}
	return &all[i]
}

// local judges what a node sees of its own end.
func local(node string, s Sight) []Finding {
	var found []Finding
	about := fmt.Sprintf("%v-%v", s.Local, s.Peer)
	switch {
	case s.Interface == "":
		found = append(found, wrong(PathNotOpen, about, "no interface of %s has the address %v", node, s.Local).
			because("the path to %v cannot be used", s.Peer).fix("ip -brief address show").on(node))
	case s.Link != "" && s.Link != "up":
		found = append(found, wrong(PathNotOpen, about, "%s, which has %v, %s", s.Interface, s.Local, s.Link).
			fix("ip link set "+s.Interface+" up", "# if it is up already: cable, switch port, VLAN").on(node))
	case s.SocketError != "":
		found = append(found, wrong(PathNotOpen, about, "the daemon cannot use the path %v to %v", s.Local, s.Peer).
			because("%s", s.SocketError).fix("ip -brief address show dev "+s.Interface, "ip route get "+s.Peer.String()).on(node))
	}
	if len(s.Hardware) > 1 {
		found = append(found, wrong(AddressDuplicate, s.Peer.String(), "%d hosts answer ARP for %v", len(s.Hardware), s.Peer).
			because("%s, asked on %s of %s", strings.Join(s.Hardware, " and "), s.Interface, node).
			fix("# take the address away from the host that is not the peer: look for the hardware address in the switch").on(node))
	}
	return found
}

// deadPath finds a path on which nothing gets through at all.
func deadPath(nodes [2]string, mine Sight, theirs *Sight) (Finding, bool) {
	if mine.answers() || theirs != nil && theirs.answers() || mine.Interface == "" {
		return Finding{}, false
	}
	f := wrong(PathDead, fmt.Sprintf("%v-%v", mine.Local, mine.Peer), "nothing of %s answers on the path %v to %v", nodes[1], mine.Local, mine.Peer).
		because("no answer to ICMP, to TCP port %d, %sand no advertisement", mine.Port, map[bool]string{true: "to ARP ", false: ""}[mine.OnLink]).on(nodes[0])
	return f.fix("ip -s link show "+mine.Interface, "# then the cable, the switch and its VLAN; "+nodes[1]+" is off if no other path answers either"), true
}

// advertisements judges protocol 112 one way.
func (w way) advertisements() []Finding {
	sight := w.near
	if sight == nil {
		sight = w.far
	}
	from, to := sight.Local, sight.Peer
	if w.near == nil {
		from, to = sight.Peer, sight.Local
	}
	about := fmt.Sprintf("%v-%v", from, to)
	name := fmt.Sprintf("%s to %s (%v to %v)", w.from, w.to, from, to)
	switch {
	case w.near != nil && w.far != nil && w.near.Sent > 0 && w.far.ListenError == "":
		return w.probed(about, name)
	case w.far != nil && w.far.PatienceMS > 0 && (w.far.heardLately() || w.peer.Advertises):
		return w.listened(about, name)
	case w.far != nil && w.far.In112.Drops && w.far.In112.Certain:
		return []Finding{w.blocked(about, name, "not tried")}
	case w.near != nil && w.near.Out112.Drops && w.near.Out112.Certain:
		return []Finding{w.blocked(about, name, "not tried")}
	}
	return nil // nobody is there who could say: a standby is silent
}

// probed judges by what both ends counted.
func (w way) probed(about, name string) []Finding {
	sent, got := w.near.Sent, w.far.Heard+w.far.Unproved
	switch {
	case got == 0:
		return []Finding{w.blocked(about, name, fmt.Sprintf("%d of %d probes of IP protocol 112 lost", sent, sent))}
	case got < sent:
		return []Finding{warn(Proto112Lossy, about, "%d of %d probes of IP protocol 112 got lost from %s", sent-got, sent, name).
			because("%s", w.near.beside(w.to)).fix("ip -s link show " + w.far.Interface).on(w.to)}
	}
	return []Finding{fine(Proto112Blocked, about, "protocol 112 from %s: %d of %d probes", name, got, sent).on(w.to)}
}

// listened judges by the advertisements alone.
func (w way) listened(about, name string) []Finding {
	if w.far.heardLately() {
		return []Finding{fine(Proto112Blocked, about, "protocol 112 from %s: heard %s ago", name, ago(*w.far.HeardMS)).on(w.to)}
	}
	said := "no advertisement was ever heard"
	if w.far.HeardMS != nil {
		said = fmt.Sprintf("no advertisement for %s", ago(*w.far.HeardMS))
	}
	return []Finding{w.blocked(about, name, said)}
}

func ago(ms int64) string {
	d := time.Duration(ms) * time.Millisecond
	if d < 10*time.Second {
		return d.Round(100 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}

// blocked names the packet filter that does it, the receiver's if none is known.
func (w way) blocked(about, name, evidence string) Finding {
	f := wrong(Proto112Blocked, about, "IP protocol 112 does not get from %s", name)
	seen := w.near
	if seen == nil {
		seen = w.far
	}
	peer := w.to
	if w.near == nil {
		peer = w.from
	}
	f = f.because("%s; %s", evidence, seen.beside(peer))
	if w.near != nil && w.near.SendError != "" {
		f = f.because("sending fails: %s", w.near.SendError)
	}
	return w.blame(f, protocolVRRP)
}

// blame says whose packet filter drops, and how it is told not to.
func (w way) blame(f Finding, protocol uint8) Finding {
	if filtered, does := w.filtered(f, protocol); does {
		return filtered
	}
	f = w.unfiltered(f)
	if w.far == nil {
		return f.fix(fmt.Sprintf("# on %s: nft list ruleset; iptables-save", w.to)).on(w.to)
	}
	what := tcpdump112(w.far.Peer)
	if protocol == protocolTCP {
		what = fmt.Sprintf("tcp port %d", w.far.Port)
	}
	return f.fix(fmt.Sprintf("tcpdump -ni %s '%s and host %v'", w.far.Interface, what, w.far.Peer),
		"# nothing there: allow it in the firewall between the hosts").on(w.to)
}

// filtered blames the packet filter of one of the hosts, if one drops or may drop it.
func (w way) filtered(f Finding, protocol uint8) (Finding, bool) {
	out, in := Ruling{}, Ruling{}
	if w.near != nil {
		out = map[uint8]Ruling{protocolVRRP: w.near.Out112, protocolTCP: w.near.OutTCP}[protocol]
	}
	if w.far != nil {
		in = map[uint8]Ruling{protocolVRRP: w.far.In112, protocolTCP: w.far.InTCP}[protocol]
	}
	switch {
	case in.Drops && in.Certain:
		return w.atReceiver(f, in, protocol, "drops"), true
	case out.Drops && out.Certain:
		return w.atSender(f, out, protocol, "drops"), true
	case in.Drops:
		return w.atReceiver(f, in, protocol, "may drop"), true
	case out.Drops:
		return w.atSender(f, out, protocol, "may drop"), true
	}
	return f, false
}

// unfiltered says whose packet filters were read, and drop nothing.
func (w way) unfiltered(f Finding) Finding {
	switch {
	case w.near == nil:
		return f.because("no rule of the packet filter of %s drops it", w.to)
	case w.far == nil:
		return f.because("no rule of the packet filter of %s drops it", w.from)
	}
	return f.because("no rule of the packet filters of %s and %s drops it: what lies between does", w.to, w.from)
}

func (w way) atReceiver(f Finding, r Ruling, protocol uint8, does string) Finding {
	s := w.far
	return f.because("the packet filter of %s %s it: %s", w.to, does, r.Rule).on(w.to).
		fix(r.Allow(s.incoming(protocol))...)
}

func (w way) atSender(f Finding, r Ruling, protocol uint8, does string) Finding {
	s := w.near
	return f.because("the packet filter of %s %s it on its way out: %s", w.from, does, r.Rule).on(w.from).
		fix(r.Allow(s.outgoing(protocol))...)
}

// connections judges TCP to the port of the peer link one way.
func (w way) connections() []Finding {
	if w.near == nil {
		return w.ownPort()
	}
	s := w.near
	about := fmt.Sprintf("%v-%v", s.Local, s.Peer)
	name := fmt.Sprintf("%s to %s (%v to %v)", w.from, w.to, s.Local, s.Peer)
	port := fmt.Sprintf("TCP port %d", s.Port)
	f := wrong(TCPBlocked, about, "%s does not answer from %s", port, name)
	switch s.TCP {
	case NotTried:
		return nil
	case Connected:
		return []Finding{fine(TCPBlocked, about, "%s from %s: connected", port, name).on(w.to)}
	case Unanswered:
		return []Finding{w.blame(f.because("nothing came back to the SYN: it is dropped; %s", s.beside(w.to)), protocolTCP)}
	case Unreachable:
		return []Finding{w.blame(f.because("%s; %s", s.TCPError, s.beside(w.to)), protocolTCP)}
	case Reset: // by a daemon that has no place for one more: the way is open
		return []Finding{fine(TCPBlocked, about, "%s from %s: connected, and hung up on", port, name).on(w.to)}
	case Refused:
		if !w.peer.Lives {
			return nil // nobody listens because no daemon runs: said once, not for each path
		}
		f = f.because("refused, although the daemon of %s lives: a firewall rejects it, or peer_port is another one there", w.to)
		return []Finding{w.blame(f, protocolTCP)}
	}
	return nil
}

// ownPort is about the port here, to which a peer that cannot be asked connects.
func (w way) ownPort() []Finding {
	s := w.far
	if !s.InTCP.Drops || !s.InTCP.Certain {
		return nil
	}
	f := wrong(TCPBlocked, fmt.Sprintf("%v-%v", s.Peer, s.Local), "%s cannot connect to TCP port %d of %s (%v to %v)", w.from, s.Port, w.to, s.Peer, s.Local)
	return []Finding{w.atReceiver(f, s.InTCP, protocolTCP, "drops")}
}
