package keepalived

// What one host's configuration says, as far as Tanist has it.

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// note is something that could not be carried over, and what to do about it.
type note struct {
	at   place
	text string
}

// host is one host's configuration.
type host struct {
	global    global
	instances []*instance
	groups    []group
	scripts   map[string]check
	processes map[string]check
	notes     []note // of no instance
}

// global is what global_defs says.
type global struct {
	router  string // router_id
	version int
	user    string // script_user
	startup time.Duration
	garp    garp
}

// garp is how often an address is announced; what is not given is negative.
type garp struct {
	repeat                   int
	delay, refresh, interval time.Duration
}

func noGARP() garp { return garp{-1, -1, -1, -1} }

// check is a vrrp_script or a vrrp_track_process.
type check struct {
	at                place
	name              string
	command           []string
	process           string
	user              string
	interval, timeout time.Duration
	rise, fall        int
	weight            int
	reverse           bool
	link              string // of track_interface
}

// address is a virtual address.
type address struct {
	at       place
	prefix   netip.Prefix
	dev      string
	excluded bool
}

// command is a notify program.
type command struct {
	at   place
	args []string
	user string
}

// notifies are the notify programs of an instance or a group.
type notifies struct {
	master, backup, fault, stop, any *command
}

func (n notifies) empty() bool { return n == notifies{} }

// instance is a vrrp_instance.
type instance struct {
	at           place
	name         string
	state        string
	iface        string
	vrid         int
	priority     int
	version      int
	advert       time.Duration
	nopreempt    bool
	checksumAsV2 bool
	preemptDelay time.Duration
	addresses    []address
	source       netip.Addr
	peers        []netip.Addr
	checks       []check
	garp         garp
	notify       notifies
	notes        []note
	group        *group
	members      []*instance // merged into this one
}

// group is a vrrp_sync_group.
type group struct {
	at      place
	name    string
	members []string
	checks  []check
	notify  notifies
}

// maker makes a host of directives.
type maker struct {
	host
	tracks []tracked
}

// tracked is a check by name, whose definition may come later.
type tracked struct {
	at       place
	instance *instance
	group    int // index of, -1: of an instance
	name     string
	process  bool
	weight   *int
	reverse  bool
}

func makeHost(all []directive) host {
	m := &maker{host: host{
		scripts: map[string]check{}, processes: map[string]check{},
		global: global{version: 2, garp: noGARP()},
	}}
	for _, d := range all {
		if d.keyword() == "global_defs" {
			m.globals(d.inner)
		}
	}
	for _, d := range all {
		m.root(d)
	}
	m.resolve()
	return m.host
}

func (m *maker) note(at place, format string, args ...any) {
	m.notes = append(m.notes, note{at, fmt.Sprintf(format, args...)})
}

func (in *instance) note(at place, format string, args ...any) {
	in.notes = append(in.notes, note{at, fmt.Sprintf(format, args...)})
}

func (m *maker) root(d directive) {
	switch d.keyword() {
	case "global_defs", "process_names", "instance", "use_pid_dir", "net_namespace_ipvs", "child_wait_time", "{":
	case "vrrp_instance":
		m.instances = append(m.instances, m.instance(d))
	case "vrrp_sync_group":
		m.groups = append(m.groups, m.syncGroup(d, len(m.groups)))
	case "vrrp_script":
		c := m.script(d)
		m.scripts[c.name] = c
	case "vrrp_track_process":
		c := m.trackProcess(d)
		m.processes[c.name] = c
	case "vrrp_track_file", "track_file", "vrrp_file":
		m.note(d.at, "%s: a number in a file that moves the priority: use `tanist switchover`, or a health check of kind file", d.text())
	case "virtual_server", "virtual_server_group", "SSL":
		m.note(d.at, "%s: Tanist balances nothing: keep keepalived for LVS without its vrrp_instance blocks, or use HAProxy", d.text())
	case "static_ipaddress", "static_routes", "static_rules":
		m.note(d.at, "%s: give these to the host's network configuration", d.text())
	case "net_namespace":
		m.note(d.at, "%s: run Tanist in that namespace (NetworkNamespacePath= in a drop-in of its unit)", d.text())
	case "garp_group", "interface_up_down_delays", "linkbeat_interfaces", "track_group", "bfd_instance":
		m.note(d.at, "%s: there is nothing of the kind", d.text())
	default:
		m.note(d.at, "%s: not known to this import", d.text())
	}
}

func (m *maker) globals(all []directive) {
	g := &m.global
	for _, d := range all {
		switch k := d.keyword(); k {
		case "router_id":
			g.router = d.value()
		case "vrrp_version":
			g.version = m.number(d, 2, 3, 2)
		case "script_user":
			g.user = d.value()
		case "vrrp_startup_delay":
			g.startup = m.seconds(d, 0)
		case "vrrp_garp_master_repeat":
			g.garp.repeat = m.number(d, 1, 1<<20, 5)
		case "vrrp_garp_master_delay":
			g.garp.delay = m.seconds(d, 5*time.Second)
		case "vrrp_garp_master_refresh":
			g.garp.refresh = m.seconds(d, 0)
		case "vrrp_garp_interval":
			g.garp.interval = m.seconds(d, 0)
		case "vrrp_mcast_group4", "vrrp_mcast_group6":
			if v := d.value(); v != "224.0.0.18" && v != "ff02::12" {
				m.note(d.at, "%s: Tanist speaks to 224.0.0.18 and ff02::12 only: write mode: unicast", d.text())
			}
		case "vrrp_strict":
			m.note(d.at, "vrrp_strict: left out; it keeps clients from the address, and Tanist follows RFC 9568 anyway")
		case "notification_email", "notification_email_from", "smtp_server", "smtp_connect_timeout", "smtp_helo_name", "smtp_alert",
			"smtp_alert_vrrp", "smtp_alert_checker":
			m.note(d.at, "%s: Tanist sends no mail: add a notify step, or an alert on its metrics", k)
		case "enable_snmp_vrrp", "enable_snmp_keepalived", "enable_snmp_checker", "enable_snmp_rfc", "enable_snmp_rfcv2", "enable_snmp_rfcv3",
			"enable_traps", "snmp_server", "snmp_socket", "enable_dbus", "dbus_service_name":
			m.note(d.at, "%s: Tanist has HTTP (http: {listen: 127.0.0.1:7512}) with /metrics and /status in its place", k)
		case "notify_fifo", "vrrp_notify_fifo", "lvs_notify_fifo", "notify_fifo_script", "vrrp_notify_fifo_script", "lvs_notify_fifo_script":
			m.note(d.at, "%s: `tanist history --json` and notify steps are in its place", d.text())
		case "startup_script", "shutdown_script":
			m.note(d.at, "%s: make it a drop-in of tanist.service (ExecStartPre=, ExecStopPost=)", d.text())
		default:
			if !harmless(k) {
				m.note(d.at, "%s: not carried over", d.text())
			}
		}
	}
}

// harmless are keywords about how keepalived works, for which Tanist has an answer of
// its own that needs no word.
func harmless(keyword string) bool {
	switch keyword {
	case "enable_script_security", "enforce_script_security", "dynamic_interfaces", "max_auto_priority", "min_auto_priority_delay", "umask",
		"use_symlink_paths", "json_version", "vrrp_garp_lower_prio_repeat", "vrrp_garp_lower_prio_delay", "vrrp_garp_master_refresh_repeat",
		"vrrp_gna_interval", "vrrp_lower_prio_no_advert", "vrrp_higher_prio_send_advert", "vrrp_iptables", "vrrp_ipsets", "vrrp_check_unicast_src",
		"vrrp_skip_check_adv_addr", "log_unknown_vrids", "reload_check_config", "reload_repeat", "default_interface", "no_email_faults",
		"script_security", "set_supplementary_groups", "process_monitor_rate", "bfd_rlimit_rttime", "vrrp_min_garp":
		return true
	}
	for _, prefix := range []string{
		"checker_", "bfd_", "vrrp_priority", "vrrp_rt_priority", "vrrp_no_swap", "vrrp_rlimit", "vrrp_cpu", "vrrp_rx_bufs", "vrrp_netlink", "netlink_", "lvs_", "nftables", "iptables", "vrrp_process_name", "reload_", "include_check",
	} {
		if strings.HasPrefix(keyword, prefix) {
			return true
		}
	}
	return false
}

// number reads a whole number within bounds; another is noted, and the usual one used.
func (m *maker) number(d directive, least, most, usual int) int {
	n, err := strconv.Atoi(d.value())
	if err != nil || n < least || n > most {
		m.note(d.at, "%s: not a number from %d to %d; %d is assumed", d.text(), least, most, usual)
		return usual
	}
	return n
}

// seconds reads a time in seconds with decimals.
func (m *maker) seconds(d directive, usual time.Duration) time.Duration {
	f, err := strconv.ParseFloat(d.value(), 64)
	const most = 1e6
	if err != nil || !(f >= 0 && f <= most) { // not a number is neither
		m.note(d.at, "%s: not a time in seconds; %s is assumed", d.text(), usual)
		return usual
	}
	return time.Duration(f*1e6+0.5) * time.Microsecond
}
