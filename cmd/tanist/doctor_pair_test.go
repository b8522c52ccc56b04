package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tanist-ha/tanist/internal/doctor"
)

// Two whole daemons diagnose each other: probes come through each way, one difference
// in the files is found by both, and the one that cannot ask says so.
func TestPairDoctor(t *testing.T) {
	if !inside(t) {
		return
	}
	dir := t.TempDir()
	key := filepath.Join(dir, "key")
	if got := tanist(t, "keygen", key); got.code != exitOK {
		t.Fatalf("keygen: %+v", got)
	}
	with := func(node, lease string) []string {
		name, state := filepath.Join(dir, node+".yaml"), filepath.Join(dir, node)
		text := fmt.Sprintf(pairConfig, key, "advert_interval: 100ms") + "    lease: " + lease + "\n"
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(state, 0o700); err != nil {
			t.Fatal(err)
		}
		return []string{"--config", name, "--node", node, "--socket", filepath.Join(dir, node+".s"), "--state-dir", state}
	}
	primaryArgs := with("primary", "2s")
	reserve := inAnotherNetwork(t, "192.0.2.12/24", append([]string{"run"}, with("reserve", "3s")...)...)
	addAddress(t, "veth0", "192.0.2.11/24")
	primary := startTanist(t, append([]string{"run"}, primaryArgs...)...)

	examine := func() (r doctor.Report, code int) {
		got := tanist(t, append([]string{"doctor", "--json"}, primaryArgs...)...)
		_ = json.Unmarshal([]byte(got.stdout), &r) // not up yet: an empty one
		return r, got.code
	}
	var r doctor.Report
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the last report: %+v\n%s", r, primary.stderr.String())
		}
	})
	eventually(t, "primary asks reserve, and somebody is Active", func() bool {
		r, _ = examine()
		return slices.Equal(r.Asked, []string{"primary", "reserve"}) && !slices.Contains(codes(r, doctor.Problem), string(doctor.VIPNowhere)+" primary")
	})
	if diff := cmp.Diff([]string{"configuration_differs primary"}, codes(r, doctor.Problem)); diff != "" {
		t.Errorf("problems (-want +got)\n%s\n%+v", diff, r)
	}
	for _, f := range r.Findings {
		if f.Code == doctor.ConfigurationDiffers && !slices.Contains(f.Evidence, "instances[compass].lease differs") {
			t.Errorf("evidence %q", f.Evidence)
		}
	}
	for _, want := range []string{"protocol 112 from primary to reserve (192.0.2.11 to 192.0.2.12): 3 of 3 probes", "protocol 112 from reserve to primary (192.0.2.12 to 192.0.2.11): 3 of 3 probes"} {
		if !slices.ContainsFunc(r.Findings, func(f doctor.Finding) bool { return f.What == want }) {
			t.Errorf("nothing says: %s", want)
		}
	}
	secret, err := os.ReadFile(key)
	if err != nil {
		t.Fatal(err)
	}
	if text := tanist(t, append([]string{"doctor", "-v"}, primaryArgs...)...); text.code != exitProblem || strings.Contains(text.stdout, strings.TrimSpace(string(secret))) {
		t.Errorf("exit status %d, or the key is in the text:\n%s", text.code, text.stdout)
	}

	if err := reserve.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	eventually(t, "primary says that the daemon of reserve hangs", func() bool {
		r, _ = examine()
		return slices.Equal(codes(r, doctor.Problem), []string{"peer_unreachable primary"})
	})
	if log := primary.stderr.String(); strings.Contains(log, "drop advertisements") {
		t.Errorf("the probes were taken for advertisements:\n%s", log)
	}
	for _, p := range []tanistProcess{primary, reserve} {
		for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGCONT} {
			if err := p.Process.Signal(sig); err != nil {
				t.Fatal(err)
			}
		}
	}
	primary.end(t)
	eventually(t, "the command says that no daemon runs", func() bool {
		r, _ = examine()
		return slices.Contains(codes(r, doctor.Problem), "daemon_down primary")
	})
	reserve.end(t)
}

// Two daemons with two keys: each of them says so, also the active one, to which nobody
// advertises, until they have the same.
func TestPairDoctorOfTwoKeys(t *testing.T) {
	if !inside(t) {
		return
	}
	dir := t.TempDir()
	args := map[string][]string{}
	for _, node := range []string{"primary", "reserve"} {
		key, name, state := filepath.Join(dir, node+".key"), filepath.Join(dir, node+".yaml"), filepath.Join(dir, node)
		if got := tanist(t, "keygen", key); got.code != exitOK {
			t.Fatalf("keygen: %+v", got)
		}
		if err := os.WriteFile(name, fmt.Appendf(nil, pairConfig, key, "advert_interval: 100ms"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(state, 0o700); err != nil {
			t.Fatal(err)
		}
		args[node] = []string{"--config", name, "--node", node, "--socket", filepath.Join(dir, node+".s"), "--state-dir", state}
	}
	reserve := inAnotherNetwork(t, "192.0.2.12/24", append([]string{"run"}, args["reserve"]...)...)
	addAddress(t, "veth0", "192.0.2.11/24")
	primary := startTanist(t, append([]string{"run"}, args["primary"]...)...)
	examine := func(node string) (r doctor.Report, twoKeys bool) {
		got := tanist(t, append([]string{"doctor", "--json"}, args[node]...)...)
		_ = json.Unmarshal([]byte(got.stdout), &r) // not up yet: an empty one
		refused := func(e string) bool { return strings.Contains(e, "refused as wrong_key") }
		return r, slices.ContainsFunc(r.Findings, func(f doctor.Finding) bool {
			return f.Severity == doctor.Problem && f.Code == doctor.WrongKey && f.Node == node && slices.ContainsFunc(f.Evidence, refused)
		})
	}
	for node := range args {
		eventually(t, node+" says that the keys are two", func() bool {
			_, two := examine(node)
			return two
		})
	}
	key, err := os.ReadFile(filepath.Join(dir, "primary.key"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "reserve.key"), key, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := reserve.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	for node := range args {
		eventually(t, node+" asks the other one, and says no more that they are", func() bool {
			r, two := examine(node)
			return len(r.Asked) == 2 && !two
		})
	}
	for _, p := range []tanistProcess{primary, reserve} {
		if err := p.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		p.end(t)
	}
}

// codes lists what a report has of one severity, by code and node.
func codes(r doctor.Report, s doctor.Severity) []string {
	var all []string
	for _, f := range r.Findings {
		if f.Severity == s {
			all = append(all, string(f.Code)+" "+f.Node)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// A file with a mistake is one finding for each, with its place.
func TestDoctorOfAFileWithMistakes(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	name := filepath.Join(dir, "tanist.yaml")
	if err := os.WriteFile(name, []byte("nodes: {}\ninstance: []\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	got := tanist(t, "doctor", "--json", "--config", name, "--socket", filepath.Join(dir, "nobody.sock"))
	var r doctor.Report
	if err := json.Unmarshal([]byte(got.stdout), &r); err != nil || got.code != exitProblem {
		t.Fatalf("%v: %+v", err, got)
	}
	if r.Findings[0].Code != doctor.DaemonDown {
		t.Errorf("first: %+v", r.Findings[0])
	}
	some := slices.ContainsFunc(r.Findings, func(f doctor.Finding) bool {
		return f.Code == doctor.ConfigurationWrong && strings.HasPrefix(f.About, name+":2:1")
	})
	if !some {
		t.Errorf("no word of line 2: %+v", r.Findings)
	}
	for _, f := range r.Findings {
		for _, fix := range f.Fix {
			if f.Code == doctor.ConfigurationWrong && !strings.HasPrefix(fix, "# ") {
				t.Errorf("%q is to be pasted", fix)
			}
		}
	}
}

// What a person is told to do is no command, and a command stays one.
func TestRemedy(t *testing.T) {
	for hint, want := range map[string]string{
		"": "", "chmod 600 /etc/tanist/cluster.key": "chmod 600 /etc/tanist/cluster.key", "chown root /etc/tanist/cluster.key": "chown root /etc/tanist/cluster.key",
		"`ip -brief link` lists this host's interfaces": "# `ip -brief link` lists this host's interfaces",
	} {
		if got := remedy(hint); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// Two whole daemons on the VRRP groups of an interface: probes come through each way,
// what a packet filter drops is found by its rule, what something else drops is told from
// that by what comes without the group, and the fix that is to be pasted heals.
func TestPairDoctorOfAGroup(t *testing.T) {
	if !inside(t) {
		return
	}
	if _, err := exec.LookPath("nft"); err != nil {
		t.Skip("needs nft")
	}
	dir := t.TempDir()
	key := filepath.Join(dir, "key")
	if got := tanist(t, "keygen", key); got.code != exitOK {
		t.Fatalf("keygen: %+v", got)
	}
	const onGroups = "advert_interval: 500ms, mode: multicast" // nothing here is about time
	text := fmt.Sprintf(pairConfig, key, onGroups) + "    lease: 8s\n  - {name: domino, lease: 8s, interface: veth0, vrid: 52, vips: [\"2001:db8::100/64\"], heartbeat: {" + onGroups + "}}\n"
	with := func(node string) []string {
		name, state := filepath.Join(dir, node+".yaml"), filepath.Join(dir, node)
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(state, 0o700); err != nil {
			t.Fatal(err)
		}
		return []string{"--config", name, "--node", node, "--socket", filepath.Join(dir, node+".s"), "--state-dir", state}
	}
	primaryArgs := with("primary")
	reserve := inAnotherNetwork(t, "192.0.2.12/24", append([]string{"run"}, with("reserve")...)...)
	addAddress(t, "veth0", "192.0.2.11/24")
	primary := startTanist(t, append([]string{"run"}, primaryArgs...)...)
	there := func(command string) {
		t.Helper()
		inside := exec.CommandContext(t.Context(), "nsenter", "-t", fmt.Sprint(reserve.Process.Pid), "-n", "sh", "-ec", command)
		if out, err := inside.CombinedOutput(); err != nil {
			t.Fatalf("on reserve: %s: %v\n%s", command, err, out)
		}
	}
	addAddress(t, "veth0", "2001:db8::11/64")
	there("ip address add 2001:db8::12/64 dev veth0")
	var r doctor.Report
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the last report: %q\n%s", codes(r, doctor.Problem), primary.stderr.String())
		}
	})
	await := func(what string, problems ...string) (found []doctor.Finding) {
		t.Helper()
		eventually(t, what, func() bool {
			got := tanist(t, append([]string{"doctor", "--json"}, primaryArgs...)...)
			r = doctor.Report{}
			_ = json.Unmarshal([]byte(got.stdout), &r) // not up yet: an empty one
			return len(r.Asked) == 2 && slices.Equal(codes(r, doctor.Problem), problems)
		})
		for _, f := range r.Findings {
			if f.Severity == doctor.Problem {
				found = append(found, f)
			}
		}
		return found
	}
	await("all is well on both groups")
	for _, group := range []string{"224.0.0.18", "ff02::12"} {
		for _, way := range []string{"from primary to reserve", "from reserve to primary"} {
			if !slices.ContainsFunc(r.Findings, func(f doctor.Finding) bool {
				return strings.HasPrefix(f.What, "protocol 112 to the group "+group+" on veth0 "+way) && strings.HasSuffix(f.What, ": 3 of 3 probes")
			}) {
				t.Errorf("nothing says that %s of %s works: %+v", way, group, r.Findings)
			}
		}
	}

	for _, cut := range []string{"ip daddr 224.0.0.18", "ip6 daddr ff02::12"} {
		there("nft 'add table inet guard; add chain inet guard in { type filter hook input priority 0; }; add rule inet guard in " + cut + " drop'")
		found := await("a packet filter drops "+cut, "proto112_blocked reserve")
		if len(found) != 1 || !strings.Contains(strings.Join(found[0].Evidence, "\n"), "the packet filter of reserve drops it: "+cut+" drop") {
			t.Fatalf("%+v", found)
		}
		there(strings.Join(found[0].Fix, "\n"))
		await("what was pasted heals " + cut)
		there("nft delete table inet guard")
	}

	// As a firewall of before is, that lets keepalived's group through and no more: nobody
	// advertises beside it.
	there("nft 'add table inet guard; add chain inet guard in { type filter hook input priority 0; }; add rule inet guard in meta l4proto 112 ip daddr != 224.0.0.18 drop'")
	await("only the groups get through")
	there("nft delete table inet guard")

	// What is dropped before the packet filters of a host look is as if a switch did it.
	there("nft 'add table netdev switch; add chain netdev switch in { type filter hook ingress device veth0 priority 0; }; add rule netdev switch in ip daddr 224.0.0.18 drop'")
	found := await("something drops the group alone", "proto112_blocked reserve")
	said := strings.Join(slices.Concat(found[0].Evidence, found[0].Fix), "\n")
	for _, want := range []string{"to the address of reserve itself: 3 of 3 probes", "snoops IGMP", "tcpdump -ni veth0 'ip proto 112 and dst 224.0.0.18 and src 192.0.2.11'", "heartbeat: {mode: unicast} for compass"} {
		if !strings.Contains(said, want) {
			t.Errorf("no word of %q:\n%s", want, said)
		}
	}
	there("nft delete table netdev switch")
	await("all is well again")

	log := primary.stderr.String() + reserve.stderr.String()
	for _, p := range []tanistProcess{primary, reserve} {
		if err := p.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		p.end(t)
	}
	if strings.Contains(log, "drop advertisements") {
		t.Errorf("probes were taken for advertisements:\n%s", log)
	}
}

// Two daemons between which addresses are translated have one key, and their proofs do
// not fit: each end says so, and not that the keys differ.
func TestPairDoctorOfTranslatedAddresses(t *testing.T) {
	if !inside(t) {
		return
	}
	if _, err := exec.LookPath("nft"); err != nil {
		t.Skip("needs nft")
	}
	dir := t.TempDir()
	key := filepath.Join(dir, "key")
	if got := tanist(t, "keygen", key); got.code != exitOK {
		t.Fatalf("keygen: %+v", got)
	}
	text := fmt.Sprintf(pairConfig, key, "advert_interval: 500ms")
	translated := strings.NewReplacer("192.0.2.11", "192.0.2.21", "192.0.2.12", "192.0.2.22").Replace(text) // as reserve sees it
	args := func(node, text string) []string {
		name, state := filepath.Join(dir, node+".yaml"), filepath.Join(dir, node)
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(state, 0o700); err != nil {
			t.Fatal(err)
		}
		return []string{"--config", name, "--node", node, "--socket", filepath.Join(dir, node+".s"), "--state-dir", state}
	}
	primaryArgs := args("primary", text)
	reserve := inAnotherNetwork(t, "192.0.2.12/24", append([]string{"run"}, args("reserve", translated)...)...)
	addAddress(t, "veth0", "192.0.2.11/24")
	there := exec.CommandContext(t.Context(), "nsenter", "-t", fmt.Sprint(reserve.Process.Pid), "-n", "sh", "-ec", `ip address add 192.0.2.22/24 dev veth0
nft 'table ip translation {
	chain to { type nat hook prerouting priority -100; ip daddr 192.0.2.12 tcp dport 7511 dnat to 192.0.2.22; }
	chain in { type nat hook input priority 100; ip daddr 192.0.2.22 tcp dport 7511 snat to 192.0.2.21; }
	chain out { type nat hook output priority -100; ip daddr 192.0.2.21 tcp dport 7511 dnat to 192.0.2.11; }
	chain from { type nat hook postrouting priority 100; ip saddr 192.0.2.22 tcp dport 7511 snat to 192.0.2.12; }
}'`)
	if out, err := there.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	primary := startTanist(t, append([]string{"run"}, primaryArgs...)...)
	var r doctor.Report
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the last report: %+v\n%s", r, primary.stderr.String())
		}
	})
	eventually(t, "primary says that the proofs do not fit", func() bool {
		got := tanist(t, append([]string{"doctor", "--json"}, primaryArgs...)...)
		r = doctor.Report{}
		_ = json.Unmarshal([]byte(got.stdout), &r) // not up yet: an empty one
		return slices.Contains(codes(r, doctor.Problem), "link_altered primary")
	})
	if slices.Contains(codes(r, doctor.Problem), "wrong_key primary") {
		t.Error("the keys are called different")
	}
	for _, p := range []tanistProcess{primary, reserve} {
		if err := p.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		p.end(t)
	}
}
