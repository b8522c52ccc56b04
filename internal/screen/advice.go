package screen

import (
	"fmt"
	"time"

	"github.com/tanist-ha/tanist/internal/control"
	"github.com/tanist-ha/tanist/replication"
)

// GateText says what keeps a gate closed.
func GateText(r control.GateReason) string {
	switch r.Code {
	case replication.Blocked, replication.Maintenance, replication.Unhealthy:
		if r.Detail != "" {
			return r.Detail // a sentence of its own
		}
	default:
	}
	text := codeText(r.Code)
	if r.Database != "" {
		text = r.Database + " " + text
	}
	if r.Detail != "" {
		text += ": " + r.Detail
	}
	return text
}

func codeText(c replication.Code) string {
	switch c {
	case replication.IOStopped:
		return "does not fetch from its source"
	case replication.SQLStopped:
		return "does not apply what it fetched"
	case replication.Lagging:
		return "lags"
	case replication.NotKnown:
		return "cannot be judged"
	case replication.Undrained:
		return "has not applied all that it received"
	case replication.BehindSource:
		return "lacks transactions that its source had"
	case replication.Errant:
		return "has transactions that its source lacks"
	case replication.Unreachable:
		return "does not answer"
	case replication.NotReplica:
		return "follows no source"
	case replication.Blocked:
		return "blocked"
	case replication.Maintenance:
		return "maintenance"
	case replication.Unhealthy:
		return "a health check fails"
	}
	return "closed"
}

// gateMood says how bad it is: what somebody wanted, or what passes by itself, is no
// alarm.
func gateMood(c replication.Code) Mood {
	switch c {
	case replication.Lagging, replication.Undrained, replication.Blocked, replication.Maintenance:
		return Attention
	default:
		return Wrong
	}
}

// gateAdvice says what to do, on the node that the gate is of.
func (d *drawing) gateAdvice(in string, r control.GateReason) string {
	replica := func(verb string) string {
		return "tanist replication " + verb + d.flag(in) + " " + r.Database
	}
	switch r.Code {
	case replication.IOStopped:
		return replica("start") + " (if it stops again, SHOW REPLICA STATUS says why)"
	case replication.SQLStopped:
		return replica("start") + ", after what SHOW REPLICA STATUS names is mended"
	case replication.Lagging, replication.Undrained:
		return replica("wait") + " (it passes by itself if the replica keeps up)"
	case replication.NotKnown:
		return "tanist doctor says what cannot be measured"
	case replication.BehindSource:
		return "bring the old source back; or give up what is missing: tanist switchover" + d.flag(in) + " --force --reason TEXT"
	case replication.Errant:
		return replica("rejoin") + ", after the databases were compared"
	case replication.Unreachable:
		return "start the database server, or see its log"
	case replication.NotReplica:
		return replica("rejoin")
	case replication.Blocked:
		return "tanist unblock" + d.flag(in) + " when the reason is over"
	case replication.Maintenance:
		return "tanist maintenance off" + d.flag(in) + " when the work is done"
	case replication.Unhealthy:
		return "mend what the check looks at"
	}
	return ""
}

// needsSource reports whether what mends it can be done only while the source answers.
func needsSource(c replication.Code) bool {
	return c == replication.NotReplica || c == replication.IOStopped || c == replication.Errant
}

// flag names the instance in a command, where there is more than one.
func (d *drawing) flag(name string) string {
	if len(d.doc.Instances) < 2 {
		return ""
	}
	return " --instance " + name
}

func (d *drawing) on(s side, command string) string {
	if command == "" || s.here {
		return command
	}
	return "on " + s.label + ": " + command
}

// finding is one thing that is not as it should be.
type finding struct {
	mood Mood
	text string
	todo string // empty where nothing is to be done
}

type findings []finding

func (f *findings) add(mood Mood, todo, format string, args ...any) {
	*f = append(*f, finding{mood, fmt.Sprintf(format, args...), todo})
}

// ofHost are the findings that concern this node and the way to the other one.
func (d *drawing) ofHost() findings {
	var f findings
	doc := d.doc
	if doc.LoopSilentMS != nil {
		f.add(Wrong, "journalctl -u tanist; systemd restarts a daemon that hangs for long, and the address goes with its lease",
			"the daemon does not answer: its control loop has stood still for %s, and what is below is from before", Age(d.ms(doc.LoopSilentMS)))
	}
	if j := doc.Journal; j != nil && !j.Writable {
		f.add(Wrong, "make room or mend the disk: until then this node is not promoted", "the journal cannot be written: %s", j.Error)
	}
	d.wayFindings(&f)
	d.floodFindings(&f, doc.Node, doc.Heartbeat)
	if r := doc.Peer.Report; r != nil && d.ms(doc.Peer.ReportAgeMS) < old {
		d.floodFindings(&f, doc.Peer.Label, r.Heartbeat)
	}
	d.trustFindings(&f)
	if r := doc.Reload; r != nil && (r.Result == "refused" || r.Result == "busy" || r.Result == "failed") {
		f.add(Attention, "tanist check", "the configuration was not reloaded %s ago: %s", Age(d.since(r.At)), r.Error)
	}
	return f
}

// wayFindings are about hearing each other.
func (d *drawing) wayFindings(f *findings) {
	peer := d.doc.Peer
	if !peer.Reachable {
		d.silence(f)
		return
	}
	silent, deaf := 0, 0
	for _, p := range peer.Paths {
		if !p.Heard {
			silent++
		}
		if p.HearsUs != nil && !*p.HearsUs {
			deaf++
		}
	}
	n := len(peer.Paths)
	switch {
	case n > 0 && deaf == n:
		f.add(Wrong, "a firewall of "+peer.Label+" or on the way drops what this node sends: tanist doctor", "%s does not hear this node, though this node hears %s", peer.Label, peer.Label)
	case n > 0 && silent == n:
		f.add(Wrong, "a firewall here or on the way drops what "+peer.Label+" sends: tanist doctor", "this node does not hear the link of %s, which hears this node", peer.Label)
	default:
		for _, p := range peer.Paths {
			if !p.Heard || p.HearsUs != nil && !*p.HearsUs {
				f.add(Attention, "tanist doctor says where on the way it is lost", "the link is broken on one path, %s: only the others are left", p.Address)
			}
		}
	}
	for _, h := range d.doc.Heartbeat {
		if !h.Up {
			f.add(Attention, "", "no heartbeat by %s: %s", h.Peer, h.Error)
		}
	}
}

// floodFindings say that somebody sends in the other node's name.
func (d *drawing) floodFindings(f *findings, node string, paths []control.HeartbeatPath) {
	for _, p := range paths {
		if p.Flooded {
			whose := "in the name of " + pathName(p)
			if p.Interface != "" {
				whose = "to " + pathName(p)
			}
			f.add(Attention, "on "+node+": tcpdump -c 20 -eni any proto 112 shows the hardware address, and so the port of the switch, that they come from",
				"%s is flooded with advertisements that the cluster key did not seal, %s; they are kept out", node, whose)
		}
	}
}

// justHeard is how recent a word of the peer is no silence.
const justHeard = 500 * time.Millisecond

func (d *drawing) silence(f *findings) {
	peer := d.doc.Peer
	heard := time.Duration(-1)
	for _, p := range peer.Paths {
		if p.LastHeardMS != nil && (heard < 0 || d.ms(p.LastHeardMS) < heard) {
			heard = d.ms(p.LastHeardMS)
		}
	}
	if heard >= 0 && heard < justHeard {
		return // its first word is on its way into what is told here
	}
	todo := "look whether " + peer.Label + " is up and its daemon runs; if it is, tanist doctor says what is lost on the way"
	if heard < 0 {
		f.add(Wrong, todo, "%s was never heard since this daemon started", peer.Label)
		return
	}
	f.add(Wrong, todo, "%s has been silent for %s", peer.Label, Age(heard))
}
