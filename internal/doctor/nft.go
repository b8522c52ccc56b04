package doctor

// nftables, as `nft -n -j -a list ruleset` prints it (libnftables-json(5)).

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

type nftObject struct {
	Chain *nftChain `json:"chain"`
	Rule  *nftRule  `json:"rule"`
	Set   *nftSet   `json:"set"`
}

type nftChain struct {
	Family, Table, Name, Type, Hook, Policy string
	Prio                                    json.RawMessage
}

type nftRule struct {
	Family, Table, Chain string
	Handle               int
	Expr                 []map[string]json.RawMessage
}

type nftSet struct {
	Family, Table, Name string
	Elem                json.RawMessage
}

// ParseNFT reads a ruleset in JSON, and the same one as text, from which rules are
// quoted. Tables that iptables keeps are left out: it prints its own better.
func ParseNFT(ruleset, text []byte, withIPTables bool) (Ruleset, error) {
	var doc struct{ Nftables []nftObject }
	if err := json.Unmarshal(ruleset, &doc); err != nil {
		return Ruleset{}, fmt.Errorf("read the nftables ruleset: %w", err)
	}
	n := nftReader{
		quotes: quotes(text), sets: map[string]json.RawMessage{},
		set: Ruleset{Tool: "nft", Others: map[string]*chain{}},
	}
	for _, o := range doc.Nftables {
		if o.Set != nil {
			n.sets[o.Set.Family+" "+o.Set.Table+" "+o.Set.Name] = o.Set.Elem
		}
		if o.Chain != nil && (withIPTables || !ofIPTables(*o.Chain)) {
			n.chain(*o.Chain)
		}
	}
	for _, o := range doc.Nftables {
		if o.Rule != nil {
			n.rule(*o.Rule)
		}
	}
	slices.SortStableFunc(n.set.Base, func(a, b *chain) int { return a.priority - b.priority })
	return n.set, nil
}

// ofIPTables tells the chains that iptables-nft makes by their names.
func ofIPTables(c nftChain) bool {
	return (c.Family == "ip" || c.Family == "ip6") && c.Table == "filter" && (c.Name == "INPUT" || c.Name == "OUTPUT" || c.Name == "FORWARD")
}

type nftReader struct {
	quotes map[string]string
	sets   map[string]json.RawMessage
	set    Ruleset
}

func (n *nftReader) chain(c nftChain) {
	made := &chain{family: c.Family, table: c.Table, name: c.Name, drops: c.Policy == "drop"}
	made.priority, _ = strconv.Atoi(strings.Trim(string(c.Prio), `"`))
	n.set.Others[made.key(c.Name)] = made
	switch c.Hook {
	case "input", "prerouting":
		made.incoming = c.Type == "filter"
	case "output", "postrouting":
		made.outgoing = c.Type == "filter"
	}
	if c.Hook == "prerouting" {
		made.priority -= 1 << 20 // before input, whatever its number
	}
	if c.Hook == "postrouting" {
		made.priority += 1 << 20
	}
	if made.incoming || made.outgoing {
		n.set.Base = append(n.set.Base, made)
	}
}

func (n *nftReader) rule(r nftRule) {
	c := n.set.Others[r.Family+" "+r.Table+" "+r.Chain]
	if c == nil {
		return
	}
	made := rule{handle: r.Handle, text: n.quotes[fmt.Sprintf("%s %s %s %d", r.Family, r.Table, r.Chain, r.Handle)]}
	if made.text == "" {
		made.text = fmt.Sprintf("rule with handle %d", r.Handle)
	}
	made.text += fmt.Sprintf(" (table %s %s, chain %s, handle %d)", r.Family, r.Table, r.Chain, r.Handle)
	at := nftPlace{n: n, table: r.Family + " " + r.Table}
	var conditions []func(Packet) truth
	for _, expr := range r.Expr {
		for kind, value := range expr {
			if cond := at.condition(kind, value); cond != nil {
				conditions = append(conditions, cond)
			}
			made.then = append(made.then, at.outcomes(kind, value)...)
		}
	}
	made.match = func(p Packet) truth {
		held := yes
		for _, cond := range conditions {
			held = both(held, cond(p))
		}
		return held
	}
	c.rules = append(c.rules, made)
}

type nftPlace struct {
	n     *nftReader
	table string
}

func (at nftPlace) outcomes(kind string, value json.RawMessage) []outcome {
	if kind != "vmap" {
		if o, ok := nftVerdict(kind, value); ok {
			return []outcome{o}
		}
		return nil
	}
	var m struct {
		Key  json.RawMessage
		Data struct{ Set [][]json.RawMessage }
	}
	if json.Unmarshal(value, &m) != nil || len(m.Data.Set) == 0 {
		// A named map: anything may come of it.
		return []outcome{{verdict: drops, match: func(Packet) truth { return maybe }}}
	}
	var all []outcome
	for _, pair := range m.Data.Set {
		var verdicts map[string]json.RawMessage
		if len(pair) != 2 || json.Unmarshal(pair[1], &verdicts) != nil {
			continue
		}
		for kind, value := range verdicts {
			if o, ok := nftVerdict(kind, value); ok {
				o.match = at.compare(m.Key, "==", pair[0])
				all = append(all, o)
			}
		}
	}
	return all
}

func nftVerdict(kind string, value json.RawMessage) (outcome, bool) {
	verdicts := map[string]verdict{"accept": accepts, "drop": drops, "reject": rejects, "return": returns, "jump": jumps, "goto": goesTo}
	v, ok := verdicts[kind]
	if !ok {
		return outcome{}, false
	}
	var to struct{ Target string }
	_ = json.Unmarshal(value, &to) // null for the others
	return outcome{verdict: v, target: to.Target}, true
}

// condition returns nil for what matches everything.
func (at nftPlace) condition(kind string, value json.RawMessage) func(Packet) truth {
	switch kind {
	case "match":
		var m struct {
			Op          string
			Left, Right json.RawMessage
		}
		if json.Unmarshal(value, &m) == nil {
			return at.compare(m.Left, m.Op, m.Right)
		}
	case "accept", "drop", "reject", "return", "jump", "goto", "vmap", "counter", "log", "comment", "mangle", "notrack", "flow":
		return nil
	}
	return func(Packet) truth { return maybe } // limit, xt, and what later versions add
}

// compare makes the condition that one property of a packet is, or is not, a value.
func (at nftPlace) compare(left json.RawMessage, op string, right json.RawMessage) func(Packet) truth {
	is := at.property(left)
	values, ok := at.values(right)
	if is == nil || !ok || op != "==" && op != "!=" && op != "in" {
		return func(Packet) truth { return maybe }
	}
	return func(p Packet) truth {
		held := no
		for _, v := range values {
			held = max(held, is(p, v))
		}
		if op == "!=" && held != maybe {
			return yes - held
		}
		return held
	}
}

// property returns how one property of a packet compares with a value, nil for
// one that is not known here.
func (at nftPlace) property(left json.RawMessage) func(Packet, nftValue) truth {
	var l struct {
		Meta    struct{ Key string }
		Payload struct{ Protocol, Field string }
		Ct      struct{ Key string }
	}
	if json.Unmarshal(left, &l) != nil {
		return nil
	}
	switch l.Meta.Key {
	case "iif", "iifname":
		return func(p Packet, v nftValue) truth { return known(p.Incoming && v.names(p.Interface)) }
	case "oif", "oifname":
		return func(p Packet, v nftValue) truth { return known(!p.Incoming && v.names(p.Interface)) }
	case "pkttype":
		return func(p Packet, v nftValue) truth {
			return packetType(p, v.worded("host", "broadcast", "multicast", "other"))
		}
	case "l4proto":
		return func(p Packet, v nftValue) truth { return known(v.protocol(p.Protocol)) }
	case "nfproto":
		return func(p Packet, v nftValue) truth {
			return known(v.text == map[bool]string{true: "ipv6", false: "ipv4"}[p.Source.Is6()] ||
				v.text == map[bool]string{true: "10", false: "2"}[p.Source.Is6()]) // AF_INET6, AF_INET
		}
	}
	if l.Ct.Key == "state" {
		return func(p Packet, v nftValue) truth {
			return connectionState(p, v.worded("", "invalid", "established", "", "related", "", "", "", "new"))
		}
	}
	switch l.Payload.Protocol + " " + l.Payload.Field {
	case "ip saddr", "ip6 saddr":
		return func(p Packet, v nftValue) truth { return known(v.contains(p.Source)) }
	case "ip daddr", "ip6 daddr":
		return func(p Packet, v nftValue) truth { return known(v.contains(p.Destination)) }
	case "ip protocol", "ip6 nexthdr":
		v6 := l.Payload.Protocol == "ip6"
		return func(p Packet, v nftValue) truth { return known(p.Source.Is6() == v6 && v.protocol(p.Protocol)) }
	case "tcp dport", "th dport":
		return func(p Packet, v nftValue) truth { return known(p.Protocol == protocolTCP && v.number(uint64(p.Port))) }
	}
	for _, other := range []string{"udp", "icmp", "icmpv6", "sctp", "esp", "ah"} {
		if l.Payload.Protocol == other {
			return func(Packet, nftValue) truth { return no }
		}
	}
	return nil
}

// packetType is whether a packet is for this host or for a group. Of what this host sends
// the kernel does not say it in the same way.
func packetType(p Packet, v nftValue) truth {
	if !p.Incoming {
		return maybe
	}
	return known(v.text == map[bool]string{true: "multicast", false: "host"}[p.Destination.IsMulticast()])
}

// connectionState is of a first packet: of TCP it is new. Between two hosts that
// advertise to each other the tracker takes the advertisements for a connection.
func connectionState(p Packet, v nftValue) truth {
	switch {
	case v.text == "invalid" || v.text == "related" || v.text == "untracked":
		return no
	case p.Protocol == protocolTCP:
		return known(v.text == "new")
	}
	return maybe
}

// nftValue is one value: a word or number, a network, or a range.
type nftValue struct {
	text     string
	network  netip.Prefix
	from, to string // of a range
}

// worded is a value with the word for its number, as nft -n prints the kernel's: the
// number is the place among the words.
func (v nftValue) worded(words ...string) nftValue {
	n, err := strconv.Atoi(v.text)
	switch {
	case err == nil && 0 <= n && n < len(words):
		v.text = words[n]
	case v.text == "64": // a bit of ct state, far from the others
		v.text = "untracked"
	}
	return v
}

func (v nftValue) names(iface string) bool {
	if star, ok := strings.CutSuffix(v.text, "*"); ok {
		return strings.HasPrefix(iface, star)
	}
	return v.text == iface
}

func (v nftValue) protocol(p uint8) bool {
	words := map[string]uint8{"tcp": protocolTCP, "vrrp": protocolVRRP, "carp": protocolVRRP}
	if n, ok := words[v.text]; ok {
		return n == p
	}
	return v.number(uint64(p))
}

func (v nftValue) number(n uint64) bool {
	if v.from != "" {
		from, err := strconv.ParseUint(v.from, 10, 64)
		to, err2 := strconv.ParseUint(v.to, 10, 64)
		return err == nil && err2 == nil && from <= n && n <= to
	}
	is, err := strconv.ParseUint(v.text, 10, 64)
	return err == nil && is == n
}

func (v nftValue) contains(a netip.Addr) bool {
	if v.network.IsValid() {
		return v.network.Contains(a)
	}
	if v.from != "" {
		from, err := netip.ParseAddr(v.from)
		to, err2 := netip.ParseAddr(v.to)
		return err == nil && err2 == nil && from.BitLen() == a.BitLen() && !a.Less(from) && !to.Less(a)
	}
	is, err := netip.ParseAddr(v.text)
	return err == nil && is == a
}

// values lists what the right side of a match stands for.
func (at nftPlace) values(right json.RawMessage) ([]nftValue, bool) {
	right = bytes.TrimSpace(right)
	if len(right) == 0 {
		return nil, false
	}
	switch right[0] {
	case '[':
		return at.list(right)
	case '{':
		return at.compound(right)
	case '"':
		var s string
		if json.Unmarshal(right, &s) != nil {
			return nil, false
		}
		if name, ok := strings.CutPrefix(s, "@"); ok {
			elements, there := at.n.sets[at.table+" "+name]
			if !there || len(elements) == 0 {
				return nil, there // an empty set holds nothing
			}
			return at.list(elements)
		}
		return []nftValue{{text: s}}, true
	}
	return []nftValue{{text: string(right)}}, true
}

func (at nftPlace) list(right json.RawMessage) ([]nftValue, bool) {
	var parts []json.RawMessage
	if json.Unmarshal(right, &parts) != nil {
		return nil, false
	}
	var all []nftValue
	for _, p := range parts {
		vs, ok := at.values(p)
		if !ok {
			return nil, false
		}
		all = append(all, vs...)
	}
	return all, true
}

func (at nftPlace) compound(right json.RawMessage) ([]nftValue, bool) {
	var c struct {
		Set    json.RawMessage
		Range  []json.RawMessage
		Prefix *struct {
			Addr string
			Len  int
		}
		Elem *struct{ Val json.RawMessage }
	}
	if json.Unmarshal(right, &c) != nil {
		return nil, false
	}
	switch {
	case c.Set != nil:
		return at.values(c.Set)
	case c.Elem != nil:
		return at.values(c.Elem.Val)
	case len(c.Range) == 2:
		return []nftValue{{from: strings.Trim(string(c.Range[0]), `"`), to: strings.Trim(string(c.Range[1]), `"`)}}, true
	case c.Prefix != nil:
		a, err := netip.ParseAddr(c.Prefix.Addr)
		if err != nil {
			return nil, false
		}
		return []nftValue{{network: netip.PrefixFrom(a, c.Prefix.Len)}}, true
	}
	return nil, false
}

var (
	nftTable  = regexp.MustCompile(`^table (\S+) (\S+) \{`)
	nftInside = regexp.MustCompile(`^\tchain (\S+) \{`)
	nftHandle = regexp.MustCompile(`^\t\t(.*) # handle (\d+)$`)
)

// quotes finds the text of each rule by its family, table, chain and handle.
func quotes(text []byte) map[string]string {
	found := map[string]string{}
	var table, in string
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := lines.Text()
		if m := nftTable.FindStringSubmatch(line); m != nil {
			table = m[1] + " " + m[2]
		} else if m := nftInside.FindStringSubmatch(line); m != nil {
			in = m[1]
		} else if m := nftHandle.FindStringSubmatch(line); m != nil {
			found[table+" "+in+" "+m[2]] = m[1]
		}
	}
	return found
}
