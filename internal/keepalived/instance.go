package keepalived

import (
	"net/netip"
	"strings"
	"time"
)

func (m *maker) instance(d directive) *instance {
	in := &instance{at: d.at, name: d.value(), state: "BACKUP", priority: 100, version: m.global.version, advert: time.Second, garp: m.global.garp}
	before := len(m.notes)
	for _, d := range d.inner {
		m.instanceKey(in, d)
	}
	// What was noted while it was read is about it.
	in.notes = append(m.notes[before:len(m.notes):len(m.notes)], in.notes...)
	m.notes = m.notes[:before]
	return in
}

func (m *maker) instanceKey(in *instance, d directive) {
	switch d.keyword() {
	case "state":
		in.state = strings.ToUpper(d.value())
	case "interface":
		in.iface = d.value()
	case "virtual_router_id":
		in.vrid = m.number(d, 1, 255, 0)
	case "priority":
		in.priority = m.number(d, 1, 255, 100)
	case "version":
		in.version = m.number(d, 2, 3, in.version)
	case "advert_int":
		in.advert = m.seconds(d, time.Second)
	case "nopreempt":
		in.nopreempt = true
	case "preempt":
		in.nopreempt = false
	case "preempt_delay":
		in.preemptDelay = m.seconds(d, 0)
	case "v3_checksum_as_v2":
		in.checksumAsV2 = d.value() != "never"
	case "virtual_ipaddress":
		m.addresses(in, d, false)
	case "virtual_ipaddress_excluded":
		m.addresses(in, d, true)
	case "unicast_src_ip", "mcast_src_ip":
		in.source = m.own(d)
	case "unicast_peer":
		for _, p := range d.inner {
			if a := m.parseAddr(p, p.keyword()); a.IsValid() {
				in.peers = append(in.peers, a)
			}
		}
	default:
		if !m.tracking(in, -1, d) && !m.notifying(&in.notify, d) && !m.announcing(in, d) {
			m.otherKey(in, d)
		}
	}
}

func (m *maker) own(d directive) netip.Addr { return m.parseAddr(d, d.value()) }

func (m *maker) parseAddr(d directive, s string) netip.Addr {
	a, err := netip.ParseAddr(s)
	if err != nil {
		m.note(d.at, "%s: %s is not an address", d.text(), s)
	}
	return a
}

func (m *maker) announcing(in *instance, d directive) bool {
	switch d.keyword() {
	case "garp_master_repeat":
		in.garp.repeat = m.number(d, 1, 1<<20, 5)
	case "garp_master_delay":
		in.garp.delay = m.seconds(d, 5*time.Second)
	case "garp_master_refresh":
		in.garp.refresh = m.seconds(d, 0)
	case "garp_interval":
		in.garp.interval = m.seconds(d, 0)
	case "garp_master_refresh_repeat", "garp_lower_prio_repeat", "garp_lower_prio_delay", "garp_extra_if", "vmac_garp_intvl":
		in.note(d.at, "%s: Tanist announces an address anew by itself after it was contested", d.text())
	default:
		return false
	}
	return true
}

// otherKey says of what Tanist has not what to do about it.
func (m *maker) otherKey(in *instance, d directive) {
	switch k := d.keyword(); k {
	case "authentication":
		how := "its"
		for _, a := range d.inner {
			if a.keyword() == "auth_type" {
				how = "auth_type " + a.value() + ": its"
			}
		}
		in.note(d.at, "authentication, %s password is not carried over. Before a keepalived and a Tanist host run side by side, take this block out of both keepalived.conf; "+
			"when both hosts run Tanist, `tanist keygen`, key_file and auth: hmac prove who is speaking", how)
	case "auth_hmac":
		in.note(d.at, "auth_hmac: its keys are not carried over: `tanist keygen`, key_file and auth: hmac are in its place")
	case "use_vmac", "use_vmac_addr", "vmac_xmit_base", "use_ipvlan":
		in.note(d.at, "%s: the address stays on the interface itself, and neighbours are told by gratuitous ARP", d.text())
	case "virtual_routes", "virtual_rules":
		in.note(d.at, "%s: add exec steps with ip route or ip rule, behind vip: acquire and before vip: release", k)
	case "dont_track_primary":
		in.note(d.at, "dont_track_primary: a link that is down is always a fault")
	case "lvs_sync_daemon_interface", "lvs_sync_daemon":
		in.note(d.at, "%s: Tanist knows nothing of LVS", d.text())
	case "smtp_alert":
		in.note(d.at, "smtp_alert: Tanist sends no mail: add a notify step, or an alert on its metrics")
	case "strict_mode":
		in.note(d.at, "strict_mode: left out; it keeps clients from the address")
	case "no_accept":
		in.note(d.at, "no_accept: the holder of an address always answers on it")
	case "mcast_dst_ip":
		in.note(d.at, "%s: Tanist speaks to 224.0.0.18 and ff02::12 only: write mode: unicast", d.text())
	case "down_timer_adverts":
		in.note(d.at, "%s: the other node is asked for by other means before its silence counts; three advertisements is what it is", d.text())
	case "vrf", "no_virtual_ipaddress", "notify_priority_changes", "track_bfd":
		in.note(d.at, "%s: not carried over", d.text())
	case "accept", "debug", "skip_check_adv_addr", "track_src_ip", "unicast_fault_no_peer", "check_unicast_src", "old_unicast_checksum",
		"native_ipv6", "promote_secondaries", "linkbeat_use_polling", "lower_prio_no_advert", "higher_prio_send_advert",
		"owner_ignore_adverts", "kernel_rx_buf_size", "timer_expired_backup", "thread_timer_expired", "unicast_ttl", "mcast_ttl", "{":
	default:
		in.note(d.at, "%s: not known to this import", d.text())
	}
}

// addresses reads a block of virtual addresses.
func (m *maker) addresses(in *instance, d directive, excluded bool) {
	for _, l := range d.inner {
		a := address{at: l.at, excluded: excluded}
		text := l.keyword()
		if !strings.Contains(text, "/") {
			text += map[bool]string{false: "/32", true: "/128"}[strings.Contains(text, ":")]
		}
		p, err := netip.ParsePrefix(text)
		if err != nil {
			in.note(l.at, "%s: not an address", l.text())
			continue
		}
		a.prefix = p
		var left []string
		for i := 1; i < len(l.words); i++ {
			switch w := l.words[i]; w {
			case "dev":
				if i++; i < len(l.words) {
					a.dev = l.words[i]
				}
			case "brd", "broadcast", "label", "scope", "peer", "preferred_lft", "track_group":
				words := w
				if i++; i < len(l.words) {
					words += " " + l.words[i]
				}
				left = append(left, words)
			case "-nodad", "home", "nodad", "no_track", "mngtmpaddr", "noprefixroute", "autojoin":
			default:
				left = append(left, w)
			}
		}
		if len(left) > 0 {
			in.note(l.at, "%s: %s is not set by Tanist", l.keyword(), strings.Join(left, ", "))
		}
		in.addresses = append(in.addresses, a)
	}
}

// notifying reads a notify program: the command in one word, then an account.
func (m *maker) notifying(n *notifies, d directive) bool {
	var to **command
	switch d.keyword() {
	case "notify_master":
		to = &n.master
	case "notify_backup":
		to = &n.backup
	case "notify_fault":
		to = &n.fault
	case "notify_stop":
		to = &n.stop
	case "notify":
		to = &n.any
	case "notify_deleted", "notify_master_rx_lower_pri":
		m.note(d.at, "%s: there is no such event", d.text())
		return true
	default:
		return false
	}
	args := quotedWords(d.value(), true)
	if len(args) == 0 {
		m.note(d.at, "%s: it names no program", d.text())
		return true
	}
	c := &command{at: d.at, args: args, user: m.global.user}
	if len(d.words) > 2 {
		c.user = d.words[2]
	}
	*to = c
	return true
}

func (m *maker) syncGroup(d directive, index int) group {
	g := group{at: d.at, name: d.value()}
	for _, d := range d.inner {
		switch d.keyword() {
		case "group":
			for _, l := range d.inner {
				g.members = append(g.members, l.words...)
			}
		case "global_tracking", "sync_group_tracking_weight", "notify_priority_changes", "{":
		case "smtp_alert":
			m.note(d.at, "smtp_alert: Tanist sends no mail: add a notify step, or an alert on its metrics")
		default:
			if !m.tracking(nil, index, d) && !m.notifying(&g.notify, d) {
				m.note(d.at, "%s: not carried over", d.text())
			}
		}
	}
	return g
}
