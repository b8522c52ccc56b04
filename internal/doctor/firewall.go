package doctor

// What the packet filter of a host does with a packet, as far as its rules say. The
// rules of nftables and iptables are read into one form. A match that is not
// understood may hold or not: then the answer is not certain, and names the rule.

import (
	"fmt"
	"net/netip"
	"strings"
)

// IP protocols that are asked about.
const (
	protocolTCP  = 6
	protocolVRRP = 112
)

// Packet is what a host may send or receive: a first one, no answer to another.
type Packet struct {
	Incoming    bool
	Interface   string
	Source      netip.Addr
	Destination netip.Addr
	Protocol    uint8
	Port        uint16 // of the destination, for TCP
}

// Ruleset are the base chains of a packet filter in the order in which packets
// pass them, with the chains that they jump to.
type Ruleset struct {
	Tool   string // nft or iptables
	Base   []*chain
	Others map[string]*chain // by family, table and name
}

type chain struct {
	family, table, name string
	incoming, outgoing  bool
	priority            int
	drops               bool // the policy
	rules               []rule
}

func (c *chain) key(name string) string { return c.family + " " + c.table + " " + name }

type rule struct {
	text   string // as the tool prints it
	handle int    // of nftables; 0: none
	match  func(Packet) truth
	then   []outcome
}

// outcome is a verdict, with a condition of its own in a verdict map.
type outcome struct {
	verdict verdict
	target  string
	match   func(Packet) truth // nil: always
}

type verdict uint8

const (
	goesOn verdict = iota
	accepts
	drops
	rejects
	returns
	jumps
	goesTo
)

// truth is what is known of a condition.
type truth uint8

const (
	no truth = iota
	maybe
	yes
)

func both(a, b truth) truth { return min(a, b) }

func known(b bool) truth {
	if b {
		return yes
	}
	return no
}

// Ruling is what becomes of a packet.
type Ruling struct {
	Drops   bool   `json:"drops"`
	Certain bool   `json:"certain"` // every match on the way was understood
	Rejects bool   `json:"rejects,omitempty"`
	Tool    string `json:"tool,omitempty"`
	Rule    string `json:"rule,omitempty"`   // the one that drops, as its tool prints it
	Chain   string `json:"chain,omitempty"`  // where an exception has to stand: family, table and chain
	Family  string `json:"family,omitempty"` // of Chain: ip, ip6, inet or another
}

// ask follows a packet through the base chains. An accept ends a chain only.
func (r Ruleset) ask(p Packet) Ruling {
	for _, c := range r.Base {
		if p.Incoming && !c.incoming || !p.Incoming && !c.outgoing || !familyTakes(c.family, p.Source) {
			continue
		}
		w := walk{set: r, packet: p, base: c}
		if ends := w.follow(c, 0); ends != drops && ends != rejects {
			if ends == goesOn && c.drops {
				w.ruling = w.dropped("policy drop of chain "+c.family+" "+c.table+" "+c.name, false)
			}
		}
		if w.ruling.Drops {
			return w.ruling
		}
	}
	return Ruling{Certain: true, Tool: r.Tool}
}

func familyTakes(family string, a netip.Addr) bool {
	switch family {
	case "ip":
		return a.Is4()
	case "ip6":
		return a.Is6()
	case "inet":
		return true
	}
	return false // arp, bridge and netdev see other packets, or earlier ones
}

const (
	// mostJumps is how deep the kernel lets chains nest, and a bound of ours.
	mostJumps = 16
	// mostSteps bounds the rules that one packet is held against: chains that are jumped
	// to from many places count each time.
	mostSteps = 1 << 18
)

type walk struct {
	set     Ruleset
	packet  Packet
	base    *chain
	ruling  Ruling
	steps   int
	unclear bool // a rule that was not understood may have ended the walk before
}

func (w *walk) dropped(text string, rejecting bool) Ruling {
	return Ruling{
		Drops: true, Certain: !w.unclear, Rejects: rejecting, Tool: w.set.Tool, Rule: text,
		Chain: strings.TrimSpace(w.base.family + " " + w.base.table + " " + w.base.name), Family: w.base.family,
	}
}

// follow returns how the chain ends: accepts, drops, rejects, or goesOn at its end.
// A drop that may or may not hold is remembered, and the walk goes on.
func (w *walk) follow(c *chain, depth int) verdict {
	for _, r := range c.rules {
		if w.steps++; w.steps > mostSteps {
			w.unclear = true
			return goesOn
		}
		held := r.match(w.packet)
		for _, o := range r.then {
			now := held
			if o.match != nil {
				now = both(now, o.match(w.packet))
			}
			if now == no {
				continue
			}
			switch end := w.take(c, r, o, now, depth); {
			case end == returns:
				return goesOn
			case end != goesOn:
				return end
			}
		}
	}
	return goesOn
}

// take does what a rule says, surely or perhaps.
func (w *walk) take(c *chain, r rule, o outcome, held truth, depth int) verdict {
	switch o.verdict {
	case drops, rejects:
		if held == maybe {
			w.unclear = true
			if !w.ruling.Drops {
				w.ruling = w.dropped(r.text, o.verdict == rejects)
			}
			return goesOn
		}
		w.ruling = w.dropped(r.text, o.verdict == rejects)
		return o.verdict
	case jumps, goesTo:
		next := w.set.Others[c.key(o.target)]
		if next == nil || depth >= mostJumps {
			w.unclear = true
			return goesOn
		}
		before := w.unclear
		if held == maybe {
			w.unclear = true
		}
		end := w.follow(next, depth+1)
		if held == maybe {
			return goesOn // what it would have ended is not sure to end
		}
		w.unclear = w.unclear || before
		if end == goesOn && o.verdict == goesTo {
			return returns
		}
		return end
	case accepts, returns:
		if held == maybe {
			w.unclear = true
			return goesOn
		}
		if w.ruling.Drops && !w.ruling.Certain && o.verdict == accepts {
			return accepts // perhaps dropped before
		}
		return o.verdict
	case goesOn:
	}
	return goesOn
}

// Firewall is the packet filters of a host, and who else writes their rules.
type Firewall struct {
	Rulesets  []Ruleset
	Firewalld bool
	UFW       bool
	Err       error // why the rules could not be read, nil otherwise
}

// Ask returns what the filters do with a packet: a sure drop before a possible one.
func (f Firewall) Ask(p Packet) Ruling {
	answer := Ruling{Certain: f.Err == nil}
	for _, set := range f.Rulesets {
		switch r := set.ask(p); {
		case r.Drops && r.Certain:
			return f.named(r)
		case r.Drops && !answer.Drops:
			answer = f.named(r)
		}
	}
	if !answer.Drops {
		answer = f.named(answer)
	}
	return answer
}

// named makes the tool the one to work with: rules beside firewalld's or ufw's are
// gone with their next reload.
func (f Firewall) named(r Ruling) Ruling {
	switch {
	case f.Firewalld:
		r.Tool = "firewalld"
	case f.UFW:
		r.Tool = "ufw"
	case r.Tool == "" && len(f.Rulesets) > 0:
		r.Tool = f.Rulesets[0].Tool
	}
	return r
}

// Allow returns the commands that let a packet through.
func (r Ruling) Allow(p Packet) []string {
	family, six, direction, far, end := "ip", "", "OUTPUT", p.Destination, "daddr"
	if p.Incoming {
		direction, far, end = "INPUT", p.Source, "saddr"
	}
	if far.Is6() {
		family, six = "ip6", "6"
	}
	tcp := p.Protocol == protocolTCP
	switch r.Tool {
	case "firewalld":
		if !p.Incoming {
			return []string{
				"firewall-cmd --direct --get-all-rules; firewall-cmd --list-all-policies; nft list ruleset   # where is the rule?",
				fmt.Sprintf("# take it out there, or let protocol %d to %s pass in front of it: a rich rule is of what comes in", p.Protocol, far),
			}
		}
		what := `protocol value="vrrp"`
		if tcp {
			what = fmt.Sprintf(`port port="%d" protocol="tcp"`, p.Port)
		}
		version := map[bool]string{false: "ipv4", true: "ipv6"}[far.Is6()]
		return []string{
			fmt.Sprintf(`firewall-cmd --permanent --add-rich-rule='rule family="%s" source address="%s" %s accept'`, version, far, what),
			"firewall-cmd --reload",
		}
	case "ufw":
		what, ends := "vrrp", fmt.Sprintf("from %s", far)
		if !p.Incoming {
			ends = fmt.Sprintf("to %s", far)
		}
		if tcp {
			what = "tcp"
			ends = map[bool]string{true: ends + " to any", false: ends}[p.Incoming] + fmt.Sprintf(" port %d", p.Port)
		}
		way := map[bool]string{true: "", false: "out "}[p.Incoming]
		return []string{fmt.Sprintf("ufw allow %sproto %s %s", way, what, ends)}
	case "iptables":
		match := fmt.Sprintf("-p %d", p.Protocol)
		if tcp {
			match = fmt.Sprintf("-p tcp --dport %d", p.Port)
		}
		side := map[bool]string{false: "-d", true: "-s"}[p.Incoming]
		if at := strings.Fields(r.Chain); len(at) == 3 { // what one table lets pass, another may drop
			if direction = at[2]; at[1] != "filter" {
				direction = at[2] + " -t " + at[1]
			}
		}
		return []string{
			fmt.Sprintf("ip%stables -I %s %s %s %s -j ACCEPT", six, direction, side, far, match),
			"# keep it over a reboot, for example with: netfilter-persistent save",
		}
	}
	match := fmt.Sprintf("meta l4proto %d", p.Protocol)
	if tcp {
		match = fmt.Sprintf("tcp dport %d", p.Port)
	}
	where := r.Chain
	if where == "" {
		where = "inet filter " + strings.ToLower(direction)
	}
	return []string{
		fmt.Sprintf("nft insert rule %s %s %s %s %s accept", where, family, end, far, match),
		"# and the same rule into /etc/nftables.conf, in front of the others of that chain",
	}
}
