package doctor

// iptables, as iptables-save and ip6tables-save print it.

import (
	"bufio"
	"bytes"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// ParseIPTables reads what iptables-save printed, or ip6tables-save for family
// "ip6". Only tables that may drop are read.
func ParseIPTables(family string, saved []byte) Ruleset {
	set := Ruleset{Tool: "iptables", Others: map[string]*chain{}}
	table := ""
	lines := bufio.NewScanner(bytes.NewReader(saved))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := lines.Text()
		switch {
		case strings.HasPrefix(line, "*"):
			table = line[1:]
		case table != "filter" && table != "raw" && table != "mangle":
		case strings.HasPrefix(line, ":"):
			set.declare(family, table, strings.Fields(line[1:]))
		case strings.HasPrefix(line, "-A "):
			set.append(family, table, line)
		}
	}
	slices.SortStableFunc(set.Base, func(a, b *chain) int { return a.priority - b.priority })
	return set
}

func (r *Ruleset) declare(family, table string, fields []string) {
	if len(fields) < 2 {
		return
	}
	c := &chain{
		family: family, table: table, name: fields[0], drops: fields[1] == "DROP",
		priority: map[string]int{"raw": -300, "mangle": -150, "filter": 0}[table],
	}
	c.incoming = c.name == "INPUT" || c.name == "PREROUTING"
	c.outgoing = c.name == "OUTPUT" || c.name == "POSTROUTING"
	r.Others[c.key(c.name)] = c
	if c.incoming || c.outgoing {
		r.Base = append(r.Base, c)
	}
}

// quoted is the text of a comment.
var quoted = regexp.MustCompile(`"(\\.|[^"\\])*"`)

func (r *Ruleset) append(family, table, line string) {
	args := strings.Fields(quoted.ReplaceAllString(line, "text"))[1:]
	if len(args) == 0 {
		return
	}
	c := r.Others[family+" "+table+" "+args[0]]
	if c == nil {
		return
	}
	conditions, then := iptablesRule(args[1:])
	c.rules = append(c.rules, rule{
		text: line, then: then,
		match: func(p Packet) truth {
			held := yes
			for _, cond := range conditions {
				held = both(held, cond(p))
			}
			return held
		},
	})
}

// iptablesRule reads the arguments of a rule. What is not known may match or not.
func iptablesRule(args []string) (conditions []func(Packet) truth, then []outcome) {
	not := false
	for i := 0; i < len(args); i++ {
		arg, value := args[i], ""
		if i+1 < len(args) {
			value = args[i+1]
		}
		if arg == "!" {
			not = true
			continue
		}
		cond, takes := iptablesMatch(arg, value)
		switch arg {
		case "-j", "--jump":
			then = append(then, iptablesTarget(value, false))
			if value != "" && then[len(then)-1].verdict != jumps {
				return conditions, then // what follows are options of the target
			}
		case "-g", "--goto":
			then = append(then, iptablesTarget(value, true))
		}
		if cond != nil {
			if inverted := not; inverted {
				plain := cond
				cond = func(p Packet) truth {
					if held := plain(p); held != maybe {
						return yes - held
					}
					return maybe
				}
			}
			conditions = append(conditions, cond)
		}
		not = false
		if takes {
			i++
		}
	}
	return conditions, then
}

func iptablesTarget(name string, goes bool) outcome {
	switch name {
	case "ACCEPT":
		return outcome{verdict: accepts}
	case "DROP":
		return outcome{verdict: drops}
	case "REJECT":
		return outcome{verdict: rejects}
	case "RETURN":
		return outcome{verdict: returns}
	case "LOG", "NFLOG", "MARK", "CONNMARK", "CT", "NOTRACK", "TCPMSS", "DSCP", "TOS", "CHECKSUM", "SET":
		return outcome{verdict: goesOn}
	}
	if goes {
		return outcome{verdict: goesTo, target: name}
	}
	return outcome{verdict: jumps, target: name}
}

// iptablesMatch returns the condition of one option, and whether it takes a value.
func iptablesMatch(arg, value string) (cond func(Packet) truth, takes bool) {
	v := nftValue{text: value}
	switch arg {
	case "-p", "--protocol":
		return func(p Packet) truth { return known(value == "all" || v.protocol(p.Protocol)) }, true
	case "-s", "--source":
		return func(p Packet) truth { return known(inNetwork(value, p.Source)) }, true
	case "-d", "--destination":
		return func(p Packet) truth { return known(inNetwork(value, p.Destination)) }, true
	case "-i", "--in-interface":
		v.text = strings.Replace(value, "+", "*", 1)
		return func(p Packet) truth { return known(p.Incoming && v.names(p.Interface)) }, true
	case "-o", "--out-interface":
		v.text = strings.Replace(value, "+", "*", 1)
		return func(p Packet) truth { return known(!p.Incoming && v.names(p.Interface)) }, true
	case "--dport", "--dports":
		return func(p Packet) truth { return known(p.Protocol == protocolTCP && amongPorts(value, p.Port)) }, true
	case "--ctstate", "--state":
		return func(p Packet) truth {
			held := no
			for s := range strings.SplitSeq(strings.ToLower(value), ",") {
				held = max(held, connectionState(p, nftValue{text: s}))
			}
			return held
		}, true
	case "--pkt-type":
		v.text = strings.Replace(value, "unicast", "host", 1)
		return func(p Packet) truth { return packetType(p, v) }, true
	case "--comment", "-m", "--match", "-j", "--jump", "-g", "--goto":
		return nil, true
	case "--sport", "--sports", "--limit", "--tcp-flags", "--mark", "--match-set", "--uid-owner", "--mac-source", "--icmp-type", "--dst-type", "--src-type", "--ttl-eq":
		return func(Packet) truth { return maybe }, true
	}
	return func(Packet) truth { return maybe }, false
}

func inNetwork(text string, a netip.Addr) bool {
	if p, err := netip.ParsePrefix(text); err == nil {
		return p.Contains(a)
	}
	is, err := netip.ParseAddr(text)
	return err == nil && is == a
}

func amongPorts(list string, port uint16) bool {
	for part := range strings.SplitSeq(list, ",") {
		from, to, ranged := strings.Cut(part, ":")
		if !ranged {
			to = from
		}
		low, err := strconv.ParseUint(from, 10, 16)
		high, err2 := strconv.ParseUint(to, 10, 16)
		if err == nil && err2 == nil && low <= uint64(port) && uint64(port) <= high {
			return true
		}
	}
	return false
}
