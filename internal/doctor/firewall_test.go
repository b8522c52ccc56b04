package doctor

import (
	"cmp"
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/vishvananda/netns"
)

func incoming(protocol uint8) Packet {
	return Packet{
		Incoming: true, Interface: "eth1", Source: netip.MustParseAddr("10.77.1.12"), Destination: netip.MustParseAddr("10.77.1.11"),
		Protocol: protocol, Port: 7511,
	}
}

func outgoing(protocol uint8) Packet {
	p := incoming(protocol)
	p.Incoming, p.Source, p.Destination = false, p.Destination, p.Source
	return p
}

// firewallCases are rules as operators write them, and what becomes of packets.
var firewallCases = []struct {
	name string
	nft  string
	old  string // the same for iptables-restore
	// what becomes of an advertisement that comes in, of one that goes out, and of a
	// connection to the link port: ok, drop, or maybe.
	in, out, tcp string
	group        string // of an advertisement to the group that comes in; empty: as in
	rule         string // part of the rule that is quoted, in small letters
}{
	{
		name: "no rules", in: "ok", out: "ok", tcp: "ok",
	},
	{
		name: "the protocol dropped by its number",
		nft:  "table inet guard { chain in { type filter hook input priority 0; ip protocol 112 counter drop; } }",
		old:  "*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -p 112 -j DROP\nCOMMIT\n",
		in:   "drop", out: "ok", tcp: "ok", rule: "112",
	},
	{
		name: "a policy of drop with what is known let in",
		nft: `table inet filter { chain input { type filter hook input priority 0; policy drop;
			ct state vmap { established : accept, related : accept, invalid : drop }
			iifname "lo" accept
			meta l4proto { icmp, ipv6-icmp } accept
			tcp dport { 22, 3306, 7000-8000 } accept } }`,
		old: "*filter\n:INPUT DROP [0:0]\n-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n-A INPUT -i lo -j ACCEPT\n-A INPUT -p icmp -j ACCEPT\n-A INPUT -p tcp -m multiport --dports 22,3306,7000:8000 -j ACCEPT\nCOMMIT\n",
		in:  "maybe", out: "ok", tcp: "ok", rule: "policy drop",
	},
	{
		name: "a policy of drop without a tracker",
		nft:  "table ip filter { chain input { type filter hook input priority 0; policy drop; ip saddr 10.77.1.0/24 tcp dport 22 accept; } }",
		old:  "*filter\n:INPUT DROP [0:0]\n-A INPUT -s 10.77.1.0/24 -p tcp -m tcp --dport 22 -j ACCEPT\nCOMMIT\n",
		in:   "drop", out: "ok", tcp: "drop", rule: "policy drop",
	},
	{
		name: "the peer let in before a drop of the rest",
		nft:  "table ip filter { chain input { type filter hook input priority 0; ip saddr { 10.77.0.12, 10.77.1.12 } accept; drop; } }",
		old:  "*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -s 10.77.1.12/32 -j ACCEPT\n-A INPUT -j DROP\nCOMMIT\n",
		in:   "ok", out: "ok", tcp: "ok",
	},
	{
		name: "a chain of its own that rejects",
		nft:  "table inet t { chain others { meta l4proto != tcp reject; }; chain input { type filter hook input priority 10; jump others; } }",
		old:  "*filter\n:INPUT ACCEPT [0:0]\n:OTHERS - [0:0]\n-A INPUT -j OTHERS\n-A OTHERS ! -p tcp -j REJECT --reject-with icmp-port-unreachable\nCOMMIT\n",
		in:   "drop", out: "ok", tcp: "ok", rule: "reject",
	},
	{
		name: "a chain that returns before it drops",
		nft:  "table inet t { chain others { iifname \"eth*\" return; drop; }; chain input { type filter hook input priority 10; jump others; } }",
		old:  "*filter\n:INPUT ACCEPT [0:0]\n:OTHERS - [0:0]\n-A INPUT -j OTHERS\n-A OTHERS -i eth+ -j RETURN\n-A OTHERS -j DROP\nCOMMIT\n",
		in:   "ok", out: "ok", tcp: "ok",
	},
	{
		name: "accepted in one table and dropped in the next",
		nft:  "table inet a { chain in { type filter hook input priority 0; accept; } }\ntable inet b { chain in { type filter hook input priority 1; meta l4proto 112 drop; } }",
		old:  "*raw\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -j ACCEPT\nCOMMIT\n*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -p vrrp -m comment --comment \"no VRRP here\" -j DROP\nCOMMIT\n",
		in:   "drop", out: "ok", tcp: "ok", rule: "drop",
	},
	{
		name: "dropped before it is tracked",
		nft:  "table inet t { chain in { type filter hook prerouting priority -300; meta l4proto 112 drop; } }",
		old:  "*raw\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -p 112 -j DROP\nCOMMIT\n*filter\n:INPUT ACCEPT [0:0]\nCOMMIT\n",
		in:   "drop", out: "ok", tcp: "ok", rule: "112",
	},
	{
		name: "what is for a group dropped",
		nft:  "table inet t { chain in { type filter hook input priority 0; meta pkttype multicast drop; } }",
		old:  "*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -m pkttype --pkt-type multicast -j DROP\nCOMMIT\n",
		in:   "ok", group: "drop", out: "ok", tcp: "ok", rule: "pkt",
	},
	{
		name: "what is for a group let in before a drop of the rest",
		nft:  "table inet t { chain in { type filter hook input priority 0; policy drop; meta pkttype multicast accept; tcp dport 7511 accept; } }",
		old:  "*filter\n:INPUT DROP [0:0]\n-A INPUT -m pkttype --pkt-type multicast -j ACCEPT\n-A INPUT -p tcp --dport 7511 -j ACCEPT\nCOMMIT\n",
		in:   "drop", group: "ok", out: "ok", tcp: "ok", rule: "policy drop",
	},
	{
		name: "new connections let in, and what belongs to none dropped",
		nft:  "table inet t { chain in { type filter hook input priority 0; policy drop; ct state invalid drop; ct state new tcp dport 7511 accept; } }",
		old:  "*filter\n:INPUT DROP [0:0]\n-A INPUT -m conntrack --ctstate INVALID -j DROP\n-A INPUT -p tcp --dport 7511 -m conntrack --ctstate NEW -j ACCEPT\nCOMMIT\n",
		in:   "drop", out: "ok", tcp: "ok", rule: "policy drop",
	},
	{
		name: "one family dropped",
		nft:  "table inet t { chain in { type filter hook input priority 0; meta nfproto ipv4 meta l4proto 112 drop; } }",
		old:  "*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -p 112 -j DROP\nCOMMIT\n",
		in:   "drop", out: "ok", tcp: "ok", rule: "112",
	},
	{
		name: "the other family dropped",
		nft:  "table inet t { chain in { type filter hook input priority 0; meta nfproto ipv6 meta l4proto 112 drop; ct state untracked drop; } }",
		in:   "ok", out: "ok", tcp: "ok",
	},
	{
		name: "dropped on its way out",
		nft:  "table inet t { chain out { type filter hook output priority 0; ip daddr 10.77.1.12 drop; } }",
		old:  "*filter\n:OUTPUT ACCEPT [0:0]\n-A OUTPUT -d 10.77.1.12/32 -j DROP\nCOMMIT\n",
		in:   "ok", out: "drop", tcp: "ok", rule: "10.77.1.12",
	},
	{
		name: "a drop beyond a rate",
		nft:  "table inet t { chain in { type filter hook input priority 0; meta l4proto 112 limit rate over 10/second drop; } }",
		old:  "*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -p 112 -m hashlimit --hashlimit-above 10/sec --hashlimit-name x -j DROP\nCOMMIT\n",
		in:   "maybe", out: "ok", tcp: "ok", rule: "112",
	},
	{
		name: "another interface",
		nft:  "table inet t { chain in { type filter hook input priority 0; iifname eth0 drop; } }",
		old:  "*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -i eth0 -j DROP\nCOMMIT\n",
		in:   "ok", out: "ok", tcp: "ok",
	},
}

// The rules go through the tools themselves, so that what is read is what they print.
func TestFirewallRules(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: a network namespace with rules of its own")
	}
	for _, tool := range []string{"nft", "iptables-restore"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("needs %s", tool)
		}
	}
	for _, tt := range firewallCases {
		for tool, rules := range map[string]string{"nft": tt.nft, "iptables": tt.old} {
			t.Run(tt.name+"/"+tool, func(t *testing.T) {
				inNamespace(t)
				var set Ruleset
				if tool == "nft" {
					set = throughNFT(t, rules)
				} else {
					set = throughIPTables(t, rules)
				}
				f := Firewall{Rulesets: []Ruleset{set}}
				toGroup := incoming(protocolVRRP)
				toGroup.Destination = netip.MustParseAddr("224.0.0.18")
				for what, asked := range map[string]struct {
					packet Packet
					want   string
				}{"in": {incoming(protocolVRRP), tt.in}, "group": {toGroup, cmp.Or(tt.group, tt.in)}, "out": {outgoing(protocolVRRP), tt.out}, "tcp": {incoming(protocolTCP), tt.tcp}} {
					r := f.Ask(asked.packet)
					if got := becomes(r); got != asked.want {
						t.Errorf("%s: %s, want %s (%+v)", what, got, asked.want, r)
					} else if r.Drops && !strings.Contains(strings.ToLower(strings.ReplaceAll(r.Rule, "vrrp", "112")), tt.rule) && !strings.Contains(r.Rule, "policy") {
						t.Errorf("%s: quoted %q, want %q in it", what, r.Rule, tt.rule)
					}
					if r.Drops {
						allowed(t, tool, r, asked.packet)
					}
				}
			})
		}
	}
}

// What other programs write the rules of is told to them, for what comes in and for what
// goes out.
func TestAllowByOthers(t *testing.T) {
	six := func(p Packet) Packet {
		p.Source, p.Destination = netip.MustParseAddr("fe80::12"), netip.MustParseAddr("ff02::12")
		return p
	}
	group := outgoing(protocolVRRP)
	group.Destination = netip.MustParseAddr("224.0.0.18")
	for _, tt := range []struct {
		tool   string
		packet Packet
		want   string
	}{
		{"ufw", incoming(protocolVRRP), "ufw allow proto vrrp from 10.77.1.12"},
		{"ufw", six(incoming(protocolVRRP)), "ufw allow proto vrrp from fe80::12"},
		{"ufw", incoming(protocolTCP), "ufw allow proto tcp from 10.77.1.12 to any port 7511"},
		{"ufw", outgoing(protocolVRRP), "ufw allow out proto vrrp to 10.77.1.12"},
		{"ufw", group, "ufw allow out proto vrrp to 224.0.0.18"},
		{"ufw", outgoing(protocolTCP), "ufw allow out proto tcp to 10.77.1.12 port 7511"},
		{"firewalld", incoming(protocolVRRP), `firewall-cmd --permanent --add-rich-rule='rule family="ipv4" source address="10.77.1.12" protocol value="vrrp" accept'`},
		{"firewalld", incoming(protocolTCP), `firewall-cmd --permanent --add-rich-rule='rule family="ipv4" source address="10.77.1.12" port port="7511" protocol="tcp" accept'`},
		{"firewalld", group, "firewall-cmd --direct --get-all-rules; firewall-cmd --list-all-policies; nft list ruleset   # where is the rule?"},
	} {
		if got := (Ruling{Tool: tt.tool, Chain: "ip filter INPUT"}).Allow(tt.packet); got[0] != tt.want {
			t.Errorf("%q, want %q", got[0], tt.want)
		}
	}
}

func becomes(r Ruling) string {
	switch {
	case r.Drops && r.Certain:
		return "drop"
	case r.Drops:
		return "maybe"
	}
	return "ok"
}

// allowed pastes what lets a packet through, and asks again.
func allowed(t *testing.T, tool string, r Ruling, p Packet) {
	t.Helper()
	run(t, "sh", "-euc", strings.Join(r.Allow(p), "\n"))
	var set Ruleset
	if tool == "nft" {
		set = readNFT(t)
	} else {
		set = ParseIPTables("ip", run(t, "iptables-save"))
	}
	if got := (Firewall{Rulesets: []Ruleset{set}}).Ask(p); got.Drops {
		t.Errorf("after %q: %+v", r.Allow(p), got)
	}
}

// inNamespace gives the test a network namespace of its own.
func inNamespace(t *testing.T) {
	t.Helper()
	runtime.LockOSThread() // never unlocked: the thread ends with the test's goroutine
	before, err := netns.Get()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = before.Close() })
	if _, err := netns.New(); err != nil {
		t.Skip("needs a network namespace: ", err)
	}
}

func throughNFT(t *testing.T, rules string) Ruleset {
	t.Helper()
	file := filepath.Join(t.TempDir(), "rules")
	if err := os.WriteFile(file, []byte(strings.NewReplacer("}; chain", "}\nchain", "; } }", ";\n}\n}", "; }", ";\n}", " } }", "\n}\n}").Replace(rules)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, "nft", "-f", file)
	return readNFT(t)
}

func readNFT(t *testing.T) Ruleset {
	t.Helper()
	set, err := ParseNFT(run(t, "nft", "-n", "-j", "-a", "list", "ruleset"), run(t, "nft", "-n", "-a", "list", "ruleset"), true)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func throughIPTables(t *testing.T, rules string) Ruleset {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "iptables-restore")
	cmd.Stdin = strings.NewReader(rules)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("iptables-restore: %v: %s", err, out)
	}
	return ParseIPTables("ip", run(t, "iptables-save"))
}

func run(t *testing.T, argv ...string) []byte {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), argv[0], argv[1:]...).Output()
	if err != nil {
		exit, _ := errors.AsType[*exec.ExitError](err)
		t.Fatalf("%v: %v %s", argv, err, exit.Stderr)
	}
	return out
}

// What is read may be anything: a host's rules are not ours.
func FuzzRulesets(f *testing.F) {
	f.Add([]byte(`{"nftables":[{"chain":{"family":"ip","table":"t","name":"c","handle":1,"type":"filter","hook":"input","prio":0,"policy":"drop"}},{"rule":{"family":"ip","table":"t","chain":"c","handle":2,"expr":[{"match":{"op":"==","left":{"meta":{"key":"l4proto"}},"right":112}},{"jump":{"target":"c"}}]}}]}`))
	f.Add([]byte("*filter\n:INPUT DROP [0:0]\n-A INPUT ! -p 112 -j DROP\n"))
	f.Add([]byte("*filter\n:INPUT ACCEPT [0:0]\n" + strings.Repeat("-A INPUT -j INPUT\n", 20))) // ends
	f.Fuzz(func(t *testing.T, b []byte) {
		sets := []Ruleset{ParseIPTables("ip", b)}
		if set, err := ParseNFT(b, b, true); err == nil {
			sets = append(sets, set)
		}
		for _, p := range []Packet{incoming(protocolVRRP), outgoing(protocolTCP)} {
			if r := (Firewall{Rulesets: sets}).Ask(p); r.Drops && r.Rule == "" {
				t.Errorf("a drop without a rule: %+v", r)
			}
		}
	})
}
