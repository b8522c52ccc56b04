package pair

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tanist-ha/tanist/internal/doctor"
	"github.com/tanist-ha/tanist/test/lab"
	"github.com/tanist-ha/tanist/test/site"
)

// ailment is something wrong with the pair, and what doctor has to say of it.
type ailment struct {
	name string
	// cause and heal are shell commands by host.
	cause, heal map[string]string
	// problems are all that doctor may find, as "code host", asked on the host in on.
	on       string
	problems []string
	also     []string // may be among them
	evidence []string // has to be in what it prints
	pasted   bool     // its fixes heal it
}

// TestDoctor: every ailment is found, nothing else is, and once it is healed nothing is.
func TestDoctor(t *testing.T) {
	t.Parallel()
	// Slow enough for a machine on which other things run: nothing here is about time.
	slow := strings.NewReplacer("lease: 2s", "lease: 8s", "advert_interval: 250ms", "advert_interval: 1s").Replace(site.Config(true))
	s := up(t, site.Options{Config: slow}, true)
	installClockshift(t, s)
	fit(t, s)
	for _, a := range ailments() {
		t.Run(a.name, func(t *testing.T) {
			shell(t, s, a.cause)
			var report doctor.Report
			err := site.Await(within(t), "doctor finds it", func(ctx context.Context) error {
				report = examine(t, s, a.on)
				got := slices.DeleteFunc(problems(report), func(p string) bool { return slices.Contains(a.also, p) })
				if !slices.Equal(got, a.problems) {
					return fmt.Errorf("problems %v, want %v", got, a.problems)
				}
				return nil
			})
			text := tanist(t, s, host(s, a.on), "doctor")
			t.Logf("%s\n%s", text.Stdout, text.Stderr)
			if err != nil {
				t.Error(err)
			}
			if text.Code != 1 {
				t.Errorf("exit status %d, want 1", text.Code)
			}
			for _, want := range a.evidence {
				if !strings.Contains(text.Stdout, want) {
					t.Errorf("no word of %q", want)
				}
			}
			if a.pasted {
				paste(t, s, report)
			}
			shell(t, s, a.heal)
			if a.pasted || a.heal != nil {
				fit(t, s)
			}
		})
	}
}

const clockshift = "/opt/clockshift"

func installClockshift(t *testing.T, s *site.Site) {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "clockshift")
	build := exec.CommandContext(within(t), "go", "build", "-o", bin, "github.com/tanist-ha/tanist/test/clockshift")
	build.Env = append(build.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v: %s", err, out)
	}
	if err := s.Reserve.Install(bin, clockshift, 0o755); err != nil {
		t.Fatal(err)
	}
}

// fit waits until doctor finds no problem on either host.
func fit(t *testing.T, s *site.Site) {
	t.Helper()
	for _, n := range s.Nodes() {
		err := site.Await(within(t), "doctor on "+n.Hostname+" finds nothing wrong", func(context.Context) error {
			r := tanist(t, s, n, "doctor")
			if r.Code != 0 {
				return errors.New(r.Stdout + r.Stderr)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

func host(s *site.Site, name string) *lab.Node {
	if name == s.Primary.Hostname {
		return s.Primary
	}
	return s.Reserve
}

func shell(t *testing.T, s *site.Site, commands map[string]string) {
	t.Helper()
	for name, c := range commands {
		if out, err := host(s, name).Exec(within(t), "bash", "-euc", c); err != nil {
			t.Fatalf("on %s: %v\n%s", name, err, out)
		}
	}
}

func examine(t *testing.T, s *site.Site, on string) doctor.Report {
	t.Helper()
	r := tanist(t, s, host(s, on), "doctor", "--json")
	var report doctor.Report
	if err := json.Unmarshal([]byte(r.Stdout), &report); err != nil {
		t.Fatalf("%v\n%s%s", err, r.Stdout, r.Stderr)
	}
	return report
}

// problems lists what is wrong, each kind once for a host.
func problems(r doctor.Report) []string {
	var all []string
	for _, f := range r.Findings {
		if f.Severity == doctor.Problem {
			all = append(all, string(f.Code)+" "+f.Node)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// paste runs what the fixes of the problems say, each on its host.
func paste(t *testing.T, s *site.Site, r doctor.Report) {
	t.Helper()
	for _, f := range r.Findings {
		if f.Severity == doctor.Problem && f.Code != doctor.PeerUnreachable {
			shell(t, s, map[string]string{f.Node: strings.Join(f.Fix, "\n")})
		}
	}
}

const (
	otherKey = "ffeeddccbbaa99887766554433221100ffeeddccbbaa99887766554433221100"
	reloaded = "systemctl reload tanist.service"
)

func ailments() []ailment {
	edit := func(from, to string) string {
		return fmt.Sprintf("sed -i 's/%s/%s/' %s && %s", from, to, site.ConfigFile, reloaded)
	}
	keepalived := `cat > /etc/keepalived/keepalived.conf <<'END'
vrrp_instance OLD {
    state BACKUP
    interface eth0
    virtual_router_id 51   # as Tanist has it
    priority 10
    virtual_ipaddress { 10.77.0.200/24 }
}
END
systemctl unmask keepalived.service; systemctl start keepalived.service`
	networkd := `rm -f /etc/systemd/system/systemd-networkd.*
systemctl daemon-reload
mkdir -p /etc/systemd/network
printf '[Match]\nName=eth0\n\n[Network]\nAddress=10.77.0.11/24\nKeepConfiguration=static\n' > /etc/systemd/network/10-eth0.network
systemctl start systemd-networkd.service`
	manager := `printf '[Service]\nExecStart=/bin/sleep infinity\n' > /etc/systemd/system/NetworkManager.service
mkdir -p /etc/NetworkManager/conf.d /etc/NetworkManager/system-connections
printf '[connection]\nid=wired\ninterface-name=eth0\n\n[ipv4]\nmethod=manual\naddress1=10.77.0.11/24\n' > /etc/NetworkManager/system-connections/wired.nmconnection
systemctl daemon-reload; systemctl start NetworkManager.service`
	// The lab took the links of the init script away, without which systemctl enable and
	// disable refuse.
	const disabled = "rm /etc/systemd/system/multi-user.target.wants/lsyncd.service && systemctl daemon-reload"
	const enabled = "ln -s /etc/systemd/system/lsyncd.service /etc/systemd/system/multi-user.target.wants/ && systemctl daemon-reload"
	// The tracer is the main process of the unit, and the daemon its child.
	const shifted = `mkdir -p /etc/systemd/system/tanist.service.d
printf '[Service]\nExecStart=\nExecStart=` + clockshift + ` 90s /usr/bin/tanist run\nNotifyAccess=all\nWatchdogSec=0\n' > /etc/systemd/system/tanist.service.d/clock.conf
systemctl daemon-reload; systemctl restart tanist.service`
	return []ailment{
		{
			name: "a firewall drops protocol 112", on: "primary",
			cause:    map[string]string{"reserve": "nft 'add table inet guard; add chain inet guard in { type filter hook input priority 0; }; add rule inet guard in ip protocol 112 drop'"},
			problems: []string{"proto112_blocked reserve"},
			evidence: []string{"3 of 3 probes of IP protocol 112 lost", "ICMP answered in", "ip protocol 112 drop", "fix: nft insert rule inet guard in"},
			pasted:   true, heal: map[string]string{"reserve": "nft delete table inet guard"},
		},
		{
			name: "a firewall drops the port of the link", on: "reserve",
			cause:    map[string]string{"primary": "iptables -A INPUT -p tcp --dport 7511 -j DROP"},
			problems: []string{"peer_unreachable reserve", "tcp_blocked primary"},
			evidence: []string{"nothing came back to the SYN"}, // and it stays for the next one
		},
		{
			name: "the same, asked where the firewall is", on: "primary",
			problems: []string{"peer_unreachable primary", "tcp_blocked primary"},
			evidence: []string{"-A INPUT -p tcp -m tcp --dport 7511 -j DROP", "fix: iptables -I INPUT -s 10.77.0.12"},
			pasted:   true, heal: map[string]string{"primary": "iptables -F INPUT"},
		},
		{
			name: "another key on one host", on: "primary",
			cause:    map[string]string{"reserve": "echo " + otherKey + " > /etc/tanist/cluster.key; " + reloaded},
			problems: []string{"wrong_key primary"},
			also:     []string{"peer_unreachable primary", "peer_unreachable reserve"}, // the link refuses the key
			evidence: []string{"/etc/tanist/cluster.key"},
			heal:     map[string]string{"reserve": "echo " + site.ClusterKey + " > /etc/tanist/cluster.key; " + reloaded},
		},
		{
			name: "two configurations", on: "reserve",
			cause:    map[string]string{"reserve": edit("lease: 8s", "lease: 9s")},
			problems: []string{"configuration_differs reserve"},
			evidence: []string{"instances[compass].lease differs", "scp /etc/tanist/tanist.yaml primary:"},
			heal:     map[string]string{"reserve": edit("lease: 9s", "lease: 8s")},
		},
		{
			name: "the clock of one host is off", on: "primary",
			cause:    map[string]string{"reserve": shifted},
			problems: []string{"clock_off reserve"},
			evidence: []string{"the clock of reserve is ahead of primary by 1m30"},
			heal:     map[string]string{"reserve": "rm -r /etc/systemd/system/tanist.service.d; systemctl daemon-reload; systemctl restart tanist.service"},
		},
		{
			name: "lsyncd starts at boot on both hosts", on: "primary",
			cause:    map[string]string{"primary": enabled, "reserve": enabled},
			problems: []string{"enabled_at_boot primary", "enabled_at_boot reserve"},
			evidence: []string{"fix: systemctl disable lsyncd.service"},
			heal:     map[string]string{"primary": disabled, "reserve": disabled},
		},
		{
			name: "keepalived runs with the same VRID", on: "primary",
			cause:    map[string]string{"reserve": keepalived},
			problems: []string{"foreign_vrrp primary", "keepalived_same_vrid reserve"},
			evidence: []string{"/etc/keepalived/keepalived.conf:4:", "10.77.0.12 advertises VRID 51"},
			heal:     map[string]string{"reserve": "systemctl disable --now keepalived.service; rm /etc/keepalived/keepalived.conf"},
		},
		{
			name: "networkd will take the address away", on: "primary",
			cause:    map[string]string{"primary": networkd},
			problems: []string{"network_takes_address primary"},
			evidence: []string{"/etc/systemd/network/10-eth0.network:6: KeepConfiguration=static", "KeepConfiguration=yes"},
			pasted:   true,
		},
		{
			name: "NetworkManager will take the address away", on: "reserve",
			cause:    map[string]string{"primary": manager},
			problems: []string{"network_takes_address primary"},
			evidence: []string{"/etc/NetworkManager/system-connections/wired.nmconnection:3", "unmanaged-devices"},
			heal:     map[string]string{"primary": "printf '[keyfile]\nunmanaged-devices+=interface-name:eth0\n' > /etc/NetworkManager/conf.d/90-tanist.conf"},
		},
		{
			name: "no daemon runs here", on: "reserve",
			cause:    map[string]string{"reserve": "systemctl stop tanist.service"},
			problems: []string{"daemon_down reserve"},
			evidence: []string{"no daemon answers on /run/tanist/tanist.sock", "tanist.service: inactive (dead)", "fix: systemctl start tanist.service"},
		},
		{
			name: "no daemon runs there", on: "primary",
			problems: []string{"peer_unreachable reserve"},
			evidence: []string{"its host refuses TCP port 7511 on every path: no daemon listens there", "fix: ssh reserve systemctl start tanist.service"},
			heal:     map[string]string{"reserve": "systemctl start tanist.service"},
		},
		{
			name: "a database account lacks a grant", on: "reserve",
			cause:    map[string]string{"primary": "mariadb -e 'REVOKE READ_ONLY ADMIN ON *.* FROM tanist@localhost'"},
			problems: []string{"missing_grant primary", "missing_grant reserve"},
			evidence: []string{"account tanist lacks the privilege READ_ONLY ADMIN", "fix: GRANT READ_ONLY ADMIN ON *.* TO `tanist`@`localhost`;"},
			heal:     map[string]string{"primary": "mariadb -e 'GRANT READ_ONLY ADMIN ON *.* TO tanist@localhost'"},
		},
	}
}
