// Package doctor diagnoses a pair while it lives: what keeps the two nodes from
// hearing each other, what on a host will take the address away, and where the
// two do not agree. It judges facts; what gathers them from sockets, files and
// programs is handed in, so that each judgement can be tested by a table.
//
// Every finding has its evidence and, if it is not fine, what to paste.
package doctor

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/tanist-ha/tanist/internal/words"
)

// Severity is how bad a finding is.
type Severity uint8

// Severities, from the best to the worst.
const (
	OK      Severity = iota // checked, and fine
	Warning                 // works now; what is said here can end that, or hide something
	Problem                 // does not work, or will not when it is needed
)

// String returns the severity as text and JSON show it.
func (s Severity) String() string {
	switch s {
	case OK:
		return "ok"
	case Warning:
		return "warning"
	case Problem:
		return "problem"
	}
	return fmt.Sprintf("Severity(%d)", uint8(s))
}

// MarshalText writes the word.
func (s Severity) MarshalText() ([]byte, error) { return []byte(words.Of(OK, s)), nil }

// UnmarshalText reads the word. One that is not known, of a newer release, is a
// problem.
func (s *Severity) UnmarshalText(b []byte) error {
	if *s = words.Value(OK, string(b)); *s > Problem {
		*s = Problem
	}
	return nil
}

// Code says what a finding is about. It is a word, so that a code of the peer's
// newer release passes through.
type Code string

// Codes. The words are for scripts: they keep their meaning.
const (
	Proto112Blocked      Code = "proto112_blocked"         // advertisements do not get through, one way or both
	Proto112Lossy        Code = "proto112_lossy"           // some of them get lost
	TCPBlocked           Code = "tcp_blocked"              // the port of the peer link does not answer, or refuses
	PathDead             Code = "path_dead"                // nothing of the peer answers on this path
	PathNotOpen          Code = "path_not_open"            // this node has no socket on the path
	AddressDuplicate     Code = "address_duplicate"        // two hosts answer for an address of a node
	WrongKey             Code = "wrong_key"                // the two nodes have different cluster keys
	LinkAltered          Code = "link_altered"             // what the peer link carries does not arrive as it was sent
	PortTaken            Code = "port_taken"               // something else speaks at the port of the peer link
	HeartbeatRefused     Code = "heartbeat_refused"        // advertisements come, and are not taken
	ConfigurationDiffers Code = "configuration_differs"    // the two nodes run different configurations
	ConfigurationWrong   Code = "configuration_wrong"      // the file cannot be used, or names what is not there
	ConfigurationUnread  Code = "configuration_not_loaded" // the file is not what the daemon runs
	VersionDiffers       Code = "version_differs"          // two releases
	ClockOff             Code = "clock_off"                // the clocks of the two nodes disagree
	ClockUnsynchronised  Code = "clock_unsynchronised"     // nothing keeps this node's clock
	EnabledAtBoot        Code = "enabled_at_boot"          // a unit that the plans start or stop starts by itself
	NotEnabledAtBoot     Code = "not_enabled_at_boot"      // tanist.service does not start at boot
	KeepalivedSameVRID   Code = "keepalived_same_vrid"     // keepalived has, or will have, a VRID of ours on our network
	ForeignVRRP          Code = "foreign_vrrp"             // advertisements with our VRID that are not the peer's
	NetworkTakesAddress  Code = "network_takes_address"    // a network daemon will remove the address
	AddressConfigured    Code = "address_configured"       // a network configuration has the virtual address for good
	MissingGrant         Code = "missing_grant"            // a database account lacks a privilege
	PeerUnreachable      Code = "peer_unreachable"         // the peer's daemon cannot be asked
	DaemonDown           Code = "daemon_down"              // no daemon runs here
	VIPUnanswered        Code = "vip_unanswered"           // nobody answers for a virtual address that is held
	VIPTwoHolders        Code = "vip_two_holders"          // more than one answers for it
	VIPStranger          Code = "vip_stranger"             // hardware answers for it that is no node's
	VIPNowhere           Code = "vip_nowhere"              // no node holds it
	StaleNeighbour       Code = "stale_neighbour"          // the neighbour table of a node points elsewhere
	KernelSetting        Code = "kernel_setting"           // a sysctl breaks the virtual address
	CheckFailed          Code = "check_failed"             // doctor could not look
)

// Finding is one thing that was looked at.
type Finding struct {
	Severity Severity `json:"severity"`
	Code     Code     `json:"code"`
	Node     string   `json:"node"`            // label of the node that it is about
	About    string   `json:"about,omitempty"` // the path, unit, instance, database or file
	What     string   `json:"what"`            // one sentence
	Evidence []string `json:"evidence,omitempty"`
	// Fix is what to paste, or to write, line by line; a line that begins with # says where.
	Fix []string `json:"fix,omitempty"`
}

// fine is a finding for what is as it should be.
func fine(code Code, about, format string, args ...any) Finding {
	return Finding{Code: code, About: about, What: fmt.Sprintf(format, args...)}
}

func warn(code Code, about, format string, args ...any) Finding {
	return Finding{Severity: Warning, Code: code, About: about, What: fmt.Sprintf(format, args...)}
}

func wrong(code Code, about, format string, args ...any) Finding {
	return Finding{Severity: Problem, Code: code, About: about, What: fmt.Sprintf(format, args...)}
}

func (f Finding) because(format string, args ...any) Finding {
	f.Evidence = append(slices.Clip(f.Evidence), fmt.Sprintf(format, args...))
	return f
}

func (f Finding) fix(lines ...string) Finding {
	f.Fix = append(slices.Clip(f.Fix), lines...)
	return f
}

func (f Finding) on(node string) Finding {
	f.Node = node
	return f
}

// Report is a diagnosis of the pair.
type Report struct {
	Verdict  string    `json:"verdict"`
	Problems int       `json:"problems"`
	Warnings int       `json:"warnings"`
	Nodes    []string  `json:"nodes"` // labels, this node's first
	Asked    []string  `json:"asked"` // labels of the nodes whose daemon or host took part
	Findings []Finding `json:"findings"`
}

// NewReport sorts the findings of a pair: by node, the worst first, and otherwise
// as they came.
func NewReport(nodes [2]string, asked []string, findings []Finding) Report {
	r := Report{Nodes: nodes[:], Asked: asked, Findings: slices.Clone(findings)}
	for i, f := range r.Findings {
		if f.Node == "" {
			r.Findings[i].Node = nodes[0]
		}
		switch f.Severity {
		case OK:
		case Warning:
			r.Warnings++
		case Problem:
			r.Problems++
		}
	}
	slices.SortStableFunc(r.Findings, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(r.place(a.Node), r.place(b.Node)), cmp.Compare(b.Severity, a.Severity))
	})
	r.Verdict = r.verdict()
	return r
}

func (r Report) place(node string) int {
	if i := slices.Index(r.Nodes, node); i >= 0 {
		return i
	}
	return len(r.Nodes)
}

// verdict names the nodes that something is wrong with, or those that are fine.
func (r Report) verdict() string {
	if r.Problems+r.Warnings == 0 {
		return fmt.Sprintf("nothing wrong on %s (%d checks)", strings.Join(r.Asked, " and "), len(r.Findings))
	}
	var where []string
	for _, f := range r.Findings {
		if f.Severity != OK && !slices.Contains(where, f.Node) {
			where = append(where, f.Node)
		}
	}
	var counts []string
	if r.Problems > 0 {
		counts = append(counts, count(r.Problems, "problem"))
	}
	if r.Warnings > 0 {
		counts = append(counts, count(r.Warnings, "warning"))
	}
	return strings.Join(counts, ", ") + " on " + strings.Join(where, " and ")
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
