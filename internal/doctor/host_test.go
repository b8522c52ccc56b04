package doctor

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// wantFix looks into the fix of the first finding that is not fine.
func wantFix(t *testing.T, found []Finding, want string) {
	t.Helper()
	for _, f := range found {
		if f.Severity != OK {
			if all := strings.Join(f.Fix, "\n"); want == "" || !strings.Contains(all, want) {
				t.Errorf("fix %q, want %q in it", all, want)
			}
			return
		}
	}
}

func wantEvidence(t *testing.T, found []Finding, want string) {
	t.Helper()
	for _, f := range found {
		if f.Severity != OK && strings.Contains(f.What+"\n"+strings.Join(f.Evidence, "\n"), want) {
			return
		}
	}
	if want != "" {
		t.Errorf("no evidence %q in %+v", want, found)
	}
}

// units are what the service manager has; the rest does not exist.
type units map[string]Unit

func (u units) Unit(_ context.Context, name string) (Unit, error) {
	if name == "broken.service" {
		return Unit{}, errors.New("reach the service manager: no such file")
	}
	return u[name], nil
}

func files(all map[string]string) fstest.MapFS {
	m := fstest.MapFS{}
	for name, text := range all {
		m[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return m
}

func compass() []Virtual {
	return []Virtual{{Instance: "compass", Interface: "eth0", VRID: 51, Addresses: []netip.Addr{netip.MustParseAddr("10.77.0.100")}}}
}

func TestAtBoot(t *testing.T) {
	ours := Unit{Exists: true, Running: true, AtBoot: true}
	for _, tt := range []struct {
		name    string
		units   units
		files   map[string]string
		planned string
		want    []string
		fix     string
	}{
		{"as it should be", units{ownUnit: ours, "lsyncd.service": {Exists: true}}, nil, "lsyncd.service", nil, ""},
		{"enabled", units{ownUnit: ours, "lsyncd.service": {Exists: true, AtBoot: true}}, nil, "lsyncd.service", []string{"problem enabled_at_boot "}, "systemctl disable lsyncd.service"},
		{"an init script that is linked", units{ownUnit: ours, "lsyncd.service": {Exists: true, LSB: true}}, map[string]string{"etc/rc3.d/S01lsyncd": ""}, "lsyncd.service", []string{"problem enabled_at_boot "}, "systemctl disable lsyncd.service"},
		{"an init script that is not", units{ownUnit: ours, "lsyncd.service": {Exists: true, LSB: true}}, map[string]string{"etc/rc3.d/K01lsyncd": ""}, "lsyncd.service", nil, ""},
		{"no such unit", units{ownUnit: ours}, nil, "lsyncd.service", nil, ""},
		{"the daemon itself is not", units{ownUnit: {Exists: true}}, nil, "lsyncd.service", []string{"warning not_enabled_at_boot "}, "systemctl enable tanist.service"},
		{"systemd does not answer", units{ownUnit: ours}, nil, "broken.service", []string{"warning check_failed "}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			found := AtBoot(t.Context(), tt.units, files(tt.files), []string{tt.planned})
			if diff := cmp.Diff(tt.want, summary(found)); diff != "" {
				t.Fatalf("(-want +got)\n%s", diff)
			}
			if tt.fix != "" {
				wantFix(t, found, tt.fix)
			}
		})
	}
}

const keepalivedText = `! the pair as it was
global_defs { router_id a }
include other/*.conf
vrrp_instance OLD {
    state BACKUP
    interface eth0
    virtual_router_id 51
    track_interface { eth1 }
    virtual_ipaddress {
        10.77.0.200/24 dev eth0
    }
}
`

func TestKeepalived(t *testing.T) {
	running := units{keepalivedUnit: {Exists: true, Running: true}}
	file := func(from, to string) map[string]string {
		return map[string]string{keepalivedFile: strings.ReplaceAll(keepalivedText, from, to)}
	}
	for _, tt := range []struct {
		name     string
		units    units
		files    map[string]string
		want     []string
		evidence string
	}{
		{"installed and at rest", units{keepalivedUnit: {Exists: true}}, file("", ""), nil, ""},
		{"running with our VRID", running, file("", ""), []string{"problem keepalived_same_vrid "}, "/etc/keepalived/keepalived.conf:7: vrrp_instance OLD, interface eth0, virtual_router_id 51"},
		{"at the next boot", units{keepalivedUnit: {Exists: true, AtBoot: true}}, file("", ""), []string{"problem keepalived_same_vrid "}, "starts at boot with VRID 51"},
		{"without a unit", units{}, map[string]string{keepalivedFile: keepalivedText, "proc/4711/comm": "keepalived\n"}, []string{"problem keepalived_same_vrid "}, "pid 4711"},
		{"another VRID", running, file("virtual_router_id 51", "virtual_router_id 52"), nil, ""},
		{"another network", running, file("interface eth0", "interface eth1"), nil, ""},
		{"another VRID with our address", running, file("virtual_router_id 51\n", "virtual_router_id 52\n virtual_ipaddress { 10.77.0.100 }\n"), []string{"problem keepalived_same_vrid "}, "with the address 10.77.0.100"},
		{"commented out", running, file("    virtual_router_id 51", "    #virtual_router_id 51"), nil, ""},
		{"in a file that is included", running, map[string]string{keepalivedFile: "include conf.d/*.conf\n", "etc/keepalived/conf.d/a.conf": keepalivedText}, []string{"problem keepalived_same_vrid "}, "/etc/keepalived/conf.d/a.conf:7"},
		{"a file that includes itself", running, map[string]string{keepalivedFile: "include keepalived.conf\n"}, []string{"warning check_failed "}, "more than 64 files"},
		{"no file", running, nil, []string{"warning check_failed "}, "read /etc/keepalived/keepalived.conf"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			found := Keepalived(t.Context(), tt.units, files(tt.files), compass())
			if diff := cmp.Diff(tt.want, summary(found)); diff != "" {
				t.Fatalf("(-want +got)\n%s", diff)
			}
			wantEvidence(t, found, tt.evidence)
		})
	}
}

func TestForeigners(t *testing.T) {
	at := netip.MustParseAddr
	heard := []Overheard{
		{Interface: "eth0", VRID: 51, Source: at("10.77.0.9"), Count: 2},
		{Interface: "eth1", VRID: 51, Source: at("10.77.1.9"), Count: 2},
		{Interface: "eth0", VRID: 52, Source: at("10.77.0.8"), Count: 2},
		{Interface: "eth0", VRID: 51, Source: at("10.77.0.12"), Count: 2},
	}
	found := Foreigners(heard, compass(), []netip.Addr{at("10.77.0.12")}, "1.5s")
	if diff := cmp.Diff([]string{"problem foreign_vrrp "}, summary(found)); diff != "" {
		t.Fatalf("(-want +got)\n%s", diff)
	}
	wantEvidence(t, found, "10.77.0.9 advertises VRID 51")
	wantFix(t, found, "tcpdump -ni eth0 'ip proto 112 and host 10.77.0.9'")
	found = Foreigners([]Overheard{{Interface: "eth0", VRID: 51, Source: at("fe80::9"), Count: 2}}, compass(), nil, "1.5s")
	wantFix(t, found, "tcpdump -ni eth0 'ip6 proto 112 and host fe80::9'")
}

func TestNetworkd(t *testing.T) {
	const match = "[Match]\nName=eth0\n\n[Network]\nAddress=10.77.0.11/24\n"
	running := units{networkdUnit: {Exists: true, Running: true}}
	for _, tt := range []struct {
		name     string
		units    units
		files    map[string]string
		want     []string
		evidence string
	}{
		{"not there", units{}, map[string]string{"etc/systemd/network/10.network": match}, nil, ""},
		{"nothing kept", running, map[string]string{"etc/systemd/network/10.network": match}, []string{"problem network_takes_address "}, "/etc/systemd/network/10.network configures eth0 and has no KeepConfiguration="},
		{"only at boot", units{networkdUnit: {Exists: true, AtBoot: true}}, map[string]string{"etc/systemd/network/10.network": match}, []string{"problem network_takes_address "}, ""},
		{"kept in the file", running, map[string]string{"etc/systemd/network/10.network": match + "KeepConfiguration=yes\n"}, nil, ""},
		{"leases kept, as ours count", running, map[string]string{"etc/systemd/network/10.network": match + "KeepConfiguration=dhcp\n"}, nil, ""},
		{"only what has no lifetime", running, map[string]string{"etc/systemd/network/10.network": match + "KeepConfiguration=static\n"}, []string{"problem network_takes_address "}, "/etc/systemd/network/10.network:6: KeepConfiguration=static does not keep an address that has a lifetime"},
		{"kept by a drop-in", running, map[string]string{"run/systemd/network/10.network": match, "etc/systemd/network/10.network.d/tanist.conf": "[Network]\nKeepConfiguration=yes\n"}, nil, ""},
		{"left alone", running, map[string]string{"etc/systemd/network/10.network": match + "[Link]\nUnmanaged=yes\n"}, nil, ""},
		{"another interface", running, map[string]string{"etc/systemd/network/10.network": strings.Replace(match, "eth0", "eth1", 1)}, nil, ""},
		{"all but this interface", running, map[string]string{"etc/systemd/network/10.network": strings.Replace(match, "Name=eth0", "Name=!eth0 lo", 1)}, nil, ""},
		{"by a pattern", running, map[string]string{"usr/lib/systemd/network/80.network": strings.Replace(match, "eth0", "lo en* eth*", 1)}, []string{"problem network_takes_address "}, ""},
		{"by its hardware address", running, map[string]string{"etc/systemd/network/10.network": strings.Replace(match, "Name=eth0", "MACAddress=02:00:00:77:00:0B", 1), "sys/class/net/eth0/address": "02:00:00:77:00:0b\n"}, []string{"problem network_takes_address "}, ""},
		{"the first file counts", running, map[string]string{"etc/systemd/network/20.network": match, "etc/systemd/network/10.network": match + "KeepConfiguration=yes\n"}, nil, ""},
		{"the file of the administrator counts", running, map[string]string{"usr/lib/systemd/network/10.network": match, "etc/systemd/network/10.network": match + "KeepConfiguration=yes\n"}, nil, ""},
		{"by what is not looked at", running, map[string]string{"etc/systemd/network/10.network": strings.Replace(match, "Name=eth0", "Driver=virtio_net", 1)}, []string{"warning network_takes_address "}, "may configure eth0"},
		{"the file that networkd says it uses", running, map[string]string{
			"sys/class/net/eth0/ifindex": "2\n", "run/systemd/netif/links/2": "ADMIN_STATE=configured\nNETWORK_FILE=/run/systemd/network/10-netplan-eth0.network\n",
			"run/systemd/network/10-netplan-eth0.network": "[Match]\nDriver=x\n", "etc/systemd/network/20.network": match + "KeepConfiguration=yes\n",
		}, []string{"problem network_takes_address "}, "/run/systemd/network/10-netplan-eth0.network configures eth0"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			found := networkd(t.Context(), tt.units, files(tt.files), "eth0")
			if diff := cmp.Diff(tt.want, summary(found)); diff != "" {
				t.Fatalf("(-want +got)\n%s", diff)
			}
			wantEvidence(t, found, tt.evidence)
			if tt.want != nil {
				wantFix(t, found, keepWanted)
			}
		})
	}
}

func TestNetworkManager(t *testing.T) {
	const profile = "[connection]\nid=wired\ninterface-name=eth0\n"
	running := units{networkManagerUnit: {Exists: true, Running: true}}
	wired := func(more ...string) map[string]string {
		m := map[string]string{"etc/NetworkManager/system-connections/wired.nmconnection": profile}
		for i := 0; i < len(more); i += 2 {
			m[more[i]] = more[i+1]
		}
		return m
	}
	taken := []string{"problem network_takes_address "}
	for _, tt := range []struct {
		name     string
		units    units
		files    map[string]string
		want     []string
		evidence string
	}{
		{"not there", units{}, wired(), nil, ""},
		{"a profile of the interface", running, wired(), taken, "/etc/NetworkManager/system-connections/wired.nmconnection:3"},
		{"Red Hat's older form", running, map[string]string{"etc/sysconfig/network-scripts/ifcfg-eth0": "TYPE=Ethernet\nDEVICE=\"eth0\"\n"}, taken, "ifcfg-eth0:2"},
		{"no profile", running, nil, []string{"warning network_takes_address "}, "no profile names eth0"},
		{"unmanaged by name", running, wired("etc/NetworkManager/conf.d/90.conf", "[keyfile]\nunmanaged-devices=mac:aa:bb:cc:dd:ee:ff;interface-name:eth0\n"), nil, ""},
		{"unmanaged by pattern", running, wired("etc/NetworkManager/NetworkManager.conf", "[keyfile]\nunmanaged-devices=interface-name:eth*\n"), nil, ""},
		{"all but this one unmanaged", running, wired("etc/NetworkManager/NetworkManager.conf", "[keyfile]\nunmanaged-devices=*,except:interface-name:eth0\n"), taken, ""},
		{"the later list counts", running, wired("etc/NetworkManager/NetworkManager.conf", "[keyfile]\nunmanaged-devices=interface-name:eth0\n", "etc/NetworkManager/conf.d/90.conf", "[keyfile]\nunmanaged-devices=none\n"), taken, ""},
		{"a device section", running, wired("etc/NetworkManager/conf.d/90.conf", "[device-a]\nmatch-device=interface-name:eth0\nmanaged=0\n"), nil, ""},
		{"Debian's rule", running, wired("etc/NetworkManager/NetworkManager.conf", "[ifupdown]\nmanaged=false\n", "etc/network/interfaces", "auto eth0\niface eth0 inet static\n"), nil, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			found := networkManager(t.Context(), tt.units, files(tt.files), "eth0")
			if diff := cmp.Diff(tt.want, summary(found)); diff != "" {
				t.Fatalf("(-want +got)\n%s", diff)
			}
			wantEvidence(t, found, tt.evidence)
		})
	}
}

func TestNetworkFiles(t *testing.T) {
	for _, tt := range []struct {
		name     string
		files    map[string]string
		want     []string
		evidence string
	}{
		{"nothing", nil, nil, ""},
		{"the virtual address for good", map[string]string{"etc/network/interfaces": "iface eth0 inet static\n  address 10.77.0.11/24\n  up ip addr add 10.77.0.100/24 dev eth0\n"}, []string{"problem address_configured "}, "/etc/network/interfaces:3: up ip addr add"},
		{"in netplan", map[string]string{"etc/netplan/01.yaml": "network:\n  ethernets:\n    eth0:\n      addresses: [10.77.0.11/24, 10.77.0.100/24]\n"}, []string{"problem address_configured "}, "/etc/netplan/01.yaml:4"},
		{"in a comment", map[string]string{"etc/network/interfaces": "# never 10.77.0.100 here\n"}, nil, ""},
		{"an address that only begins so", map[string]string{"etc/network/interfaces": "address 10.77.0.10\nup x 110.77.0.100\n"}, nil, ""},
		{"a lease", map[string]string{"etc/network/interfaces": "allow-hotplug eth0\niface eth0 inet dhcp\n"}, []string{"warning network_takes_address "}, "/etc/network/interfaces:2"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			found := Network(t.Context(), units{}, files(tt.files), compass())
			if diff := cmp.Diff(tt.want, summary(found)); diff != "" {
				t.Fatalf("(-want +got)\n%s", diff)
			}
			wantEvidence(t, found, tt.evidence)
		})
	}
}

func TestKernelSettings(t *testing.T) {
	six := []Virtual{{Instance: "six", Interface: "eth0.100", VRID: 6, Addresses: []netip.Addr{netip.MustParseAddr("fd77::100")}}}
	for _, tt := range []struct {
		name  string
		ours  []Virtual
		files map[string]string
		want  []string
		fix   string
	}{
		{"defaults", compass(), map[string]string{"proc/sys/net/ipv4/conf/all/arp_ignore": "0\n", "sys/class/net/eth0/flags": "0x1003\n"}, nil, ""},
		{"only where the address is", compass(), map[string]string{"proc/sys/net/ipv4/conf/all/arp_ignore": "1\n"}, nil, ""},
		{"no answer to probes", compass(), map[string]string{"proc/sys/net/ipv4/conf/eth0/arp_ignore": "2\n"}, []string{"warning kernel_setting "}, "sysctl -w net.ipv4.conf.eth0.arp_ignore=1"},
		{"no answer at all", compass(), map[string]string{"proc/sys/net/ipv4/conf/all/arp_ignore": "8\n"}, []string{"problem kernel_setting "}, "sysctl -w net.ipv4.conf.all.arp_ignore=1"},
		{"no ARP", compass(), map[string]string{"sys/class/net/eth0/flags": "0x1083\n"}, []string{"problem kernel_setting "}, "ip link set eth0 arp on"},
		{"no IPv6, on an interface with a dot", six, map[string]string{"proc/sys/net/ipv6/conf/eth0.100/disable_ipv6": "1\n"}, []string{"problem kernel_setting "}, "sysctl -w net.ipv6.conf.eth0.100.disable_ipv6=0"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			found := KernelSettings(files(tt.files), tt.ours)
			if diff := cmp.Diff(tt.want, summary(found)); diff != "" {
				t.Fatalf("(-want +got)\n%s", diff)
			}
			if tt.fix != "" {
				wantFix(t, found, tt.fix)
			}
		})
	}
}

func TestAddresses(t *testing.T) {
	const a, b, x = "02:00:00:77:00:0b", "02:00:00:77:00:0c", "02:00:00:00:00:99"
	claim := func(change func(here, there *Claim)) (Claim, Claim) {
		here := Claim{Instance: "compass", Interface: "eth0", Address: netip.MustParseAddr("10.77.0.100"), Held: true, Hardware: []string{a}}
		there := here
		there.Held, there.Hardware, there.Answers, there.Peer = false, []string{b}, []string{a}, []string{a}
		change(&here, &there)
		return here, there
	}
	for _, tt := range []struct {
		name   string
		change func(here, there *Claim)
		alone  bool // the claim of there is all that is known
		want   []string
	}{
		{name: "as it should be", change: func(_, _ *Claim) {}},
		{name: "seen from the standby alone", change: func(_, _ *Claim) {}, alone: true},
		{name: "on both", change: func(_, there *Claim) { there.Held = true }, want: []string{"problem vip_two_holders primary"}},
		{name: "held and silent", change: func(_, there *Claim) { there.Answers = nil }, want: []string{"problem vip_unanswered primary"}},
		{name: "could not be asked", change: func(_, there *Claim) { there.Answers, there.AskError = nil, "no carrier" }, want: []string{"warning vip_unanswered reserve"}},
		{name: "a stranger as well", change: func(_, there *Claim) { there.Answers = []string{a, x} }, want: []string{"problem vip_two_holders reserve"}},
		{name: "a stranger instead", change: func(_, there *Claim) { there.Answers = []string{x} }, want: []string{"problem vip_stranger reserve"}},
		{name: "a stranger instead, seen from the standby alone", alone: true, change: func(_, there *Claim) { there.Answers = []string{x} }, want: []string{"problem vip_stranger reserve"}},
		{name: "nowhere", change: func(here, there *Claim) { here.Held, there.Answers = false, nil }, want: []string{"problem vip_nowhere primary"}},
		{name: "nowhere, and a stranger has it", change: func(here, there *Claim) { here.Held, there.Answers = false, []string{x} }, want: []string{"problem vip_stranger primary"}},
		{name: "a neighbour entry that is old", change: func(_, there *Claim) { there.Neighbour = x }, want: []string{"warning stale_neighbour reserve"}},
		{name: "a neighbour entry by hand", change: func(_, there *Claim) { there.Neighbour, there.Permanent = x, true }, want: []string{"problem stale_neighbour reserve"}},
		{name: "a neighbour entry that is right", change: func(_, there *Claim) { there.Neighbour = a }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			here, there := claim(tt.change)
			var found []Finding
			if tt.alone {
				found = Addresses([2]string{"reserve", "primary"}, []Claim{there}, nil)
			} else {
				found = Addresses(nodes(), []Claim{here}, []Claim{there})
			}
			if diff := cmp.Diff(tt.want, summary(found)); diff != "" {
				t.Fatalf("(-want +got)\n%s", diff)
			}
		})
	}
}

func TestClocks(t *testing.T) {
	for _, tt := range []struct {
		name   string
		offset Offset
		want   Severity
		text   string
	}{
		{"the same", Offset{Ahead: time.Millisecond, Error: time.Millisecond}, OK, "agree"},
		{"just within", Offset{Ahead: -time.Second, Error: time.Millisecond}, OK, "agree"},
		{"ahead", Offset{Ahead: 90 * time.Second, Error: time.Millisecond}, Problem, "reserve is ahead of primary by 1m30s"},
		{"behind", Offset{Ahead: -1100 * time.Millisecond, Error: time.Millisecond}, Problem, "reserve is behind primary by 1.1s"},
		{"perhaps apart", Offset{Ahead: 1500 * time.Millisecond, Error: time.Second}, OK, "agree to within 2.5s"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := ClocksAgree(nodes(), tt.offset)
			if f.Severity != tt.want || !strings.Contains(f.What, tt.text) {
				t.Errorf("%v: %s", f.Severity, f.What)
			}
		})
	}
	for want, c := range map[Severity]Clock{OK: {Synchronised: true}, Warning: {Service: "chrony.service"}} {
		if f := Synchronised(c); f.Severity != want {
			t.Errorf("%+v: %v", c, f)
		}
	}
	if f := Synchronised(Clock{Foreign: true}); f.Severity != OK {
		t.Errorf("in a container: %v", f)
	}
}

func TestAgree(t *testing.T) {
	running := func(change func(*Running)) Running {
		r := Running{
			Version: "0.6.0", File: "/etc/tanist/tanist.yaml", KeyFile: "/etc/tanist/cluster.key", Keys: []string{"1a2b3c4d"},
			Sections: map[string]string{"nodes": "1", "instances[compass].lease": "2"},
		}
		change(&r)
		return r
	}
	for _, tt := range []struct {
		name     string
		change   func(*Running)
		want     []string
		evidence string
	}{
		{"the same", func(*Running) {}, nil, ""},
		{"another lease", func(r *Running) { r.Sections["instances[compass].lease"] = "3" }, []string{"problem configuration_differs primary"}, "instances[compass].lease differs"},
		{"one key more", func(r *Running) { r.Sections["instances[compass].fence"] = "3" }, []string{"problem configuration_differs primary"}, "instances[compass].fence is only on reserve"},
		{"another key", func(r *Running) { r.Keys = []string{"99999999"} }, []string{"problem wrong_key primary"}, "primary has key 1a2b3c4d, reserve has key 99999999"},
		{"no key", func(r *Running) { r.Keys = nil }, []string{"problem wrong_key primary"}, "reserve has no key"},
		{"in the middle of a change", func(r *Running) { r.Keys = []string{"1a2b3c4d", "99999999"} }, []string{"warning wrong_key primary"}, "1a2b3c4d and 99999999"},
		{"another release", func(r *Running) { r.Version = "0.7.0" }, []string{"warning version_differs primary"}, "reserve runs 0.7.0"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			found := Agree(nodes(), running(func(*Running) {}), running(tt.change))
			if diff := cmp.Diff(tt.want, summary(found)); diff != "" {
				t.Fatalf("(-want +got)\n%s", diff)
			}
			wantEvidence(t, found, tt.evidence)
		})
	}
	r := running(func(*Running) {})
	if f := Loaded(r.File, r.Sections, r.Sections); f.Severity != OK {
		t.Errorf("the file as it runs: %v", f)
	}
	if f := Loaded(r.File, r.Sections, map[string]string{"nodes": "1"}); f.Severity != Warning || !strings.Contains(f.Evidence[0], "lease") {
		t.Errorf("a file that lost a key: %v", f)
	}
}
