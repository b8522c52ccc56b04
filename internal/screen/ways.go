package screen

import (
	"slices"
	"time"

	"github.com/tanist-ha/tanist/internal/control"
)

// silentAfter is how old the last word on a path may be.
const silentAfter = 3 * time.Second

// ways draws both directions of every path, of the link and of the advertisements.
func (d *drawing) ways() {
	peer := d.doc.Peer
	if len(peer.Paths)+len(d.doc.Heartbeat) == 0 {
		return
	}
	d.gap()
	d.first = d.pathWidth()
	state := say(Well, "up")
	switch {
	case !peer.Reachable:
		state = say(Wrong, "down")
	case slices.ContainsFunc(peer.Paths, func(p control.Path) bool { return !p.Heard || p.HearsUs != nil && !*p.HearsUs }):
		state = say(Attention, "up, but not on every path both ways")
	}
	d.para(say(Heading, "link         "), d.linkLine(state), d.most)
	for i, p := range peer.Paths {
		name := p.Address
		d.way(name, true, d.sent(i, p))
		d.way("", false, d.got(p))
	}
	if len(d.doc.Heartbeat) == 0 {
		return
	}
	d.put(say(Heading, "advertisements"))
	for _, p := range d.doc.Heartbeat {
		d.way(pathName(p), true, d.advertised(p))
		d.way("", false, d.heard(p))
	}
}

// pathWidth is the column of the paths' names.
func (d *drawing) pathWidth() int {
	longest := 0
	for _, p := range d.doc.Peer.Paths {
		longest = max(longest, width(plain(p.Address)))
	}
	for _, p := range d.doc.Heartbeat {
		longest = max(longest, width(plain(pathName(p))))
	}
	return min(longest, d.width*3/8)
}

func pathName(p control.HeartbeatPath) string {
	if p.Interface != "" {
		return p.Peer + " on " + p.Interface
	}
	return p.Peer
}

// way puts one direction.
func (d *drawing) way(name string, there bool, l Line) {
	arrow := "◄── "
	if there {
		arrow = "──► "
	}
	mood := Plain
	for _, s := range l {
		mood = max(mood, s.mood*Mood(btoi(s.mood == Wrong)))
	}
	lead := join(plain("  "), pad(fit(plain(name), d.first), d.first+2), say(Heading, d.doc.Node), plain(" "), say(mood, arrow), say(Heading, d.doc.Peer.Label), plain("  "))
	d.para(fit(lead, d.width*3/4), l, d.most)
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// sent is whether the peer hears what this node sends over the link.
func (d *drawing) sent(i int, p control.Path) Line {
	if p.PeerHeardMSAgo != nil {
		return d.heardLine(p.PeerHeardMSAgo, d.ms(p.PeerHeardMSAgo) < silentAfter+d.older)
	}
	if r := d.doc.Peer.Report; r != nil && i < len(r.Peer.Paths) && d.ms(d.doc.Peer.ReportAgeMS) < old {
		if back := r.Peer.Paths[i]; back.LastHeardMS != nil {
			ms := *back.LastHeardMS
			if d.doc.Peer.ReportAgeMS != nil {
				ms += *d.doc.Peer.ReportAgeMS
			}
			return d.heardLine(&ms, back.Heard)
		}
	}
	switch {
	case p.HearsUs == nil:
		return say(Faint, "unknown")
	case *p.HearsUs:
		return say(Well, "connected")
	}
	return list(say(Wrong, "no connection"), plain(word(p.Reason != "", p.Reason, p.Error)))
}

func (d *drawing) got(p control.Path) Line { return d.heardLine(p.LastHeardMS, p.Heard) }

func (d *drawing) heardLine(ms *int64, heard bool) Line {
	switch {
	case ms == nil:
		return say(Wrong, "never heard")
	case heard && d.ms(ms) < silentAfter+d.older:
		return join(say(Well, "heard "), plain(Age(d.ms(ms))+" ago"))
	}
	return say(Wrong, "silent for "+Age(d.ms(ms)))
}

// advertises reports whether a node in one of these states advertises: the silence of a
// standby is as it should be.
func advertises(states []string) bool {
	return slices.Contains(states, "active") || slices.Contains(states, "demoting")
}

func (d *drawing) advertised(p control.HeartbeatPath) Line {
	var states []string
	for _, in := range d.doc.Instances {
		states = append(states, in.State)
	}
	if !advertises(states) {
		return say(Faint, "a standby sends none")
	}
	r := d.doc.Peer.Report
	if r == nil || d.ms(d.doc.Peer.ReportAgeMS) >= old {
		return list(say(word2(p.Up, Well, Wrong), word(p.Up, "sent", "not sent")), plain(p.Error), say(Faint, "arrival unknown"))
	}
	at := slices.IndexFunc(r.Heartbeat, func(b control.HeartbeatPath) bool {
		return b.Peer == p.Local || p.Interface != "" && b.Interface != "" && b.Peer == p.Peer
	})
	if at < 0 {
		return say(Faint, "unknown")
	}
	return d.advertsHeard(r.Heartbeat[at], d.doc.Peer.ReportAgeMS)
}

func (d *drawing) heard(p control.HeartbeatPath) Line {
	var states []string
	for _, in := range d.doc.Peer.Instances {
		states = append(states, in.State)
	}
	if !advertises(states) {
		l := say(Faint, "a standby sends none")
		return list(l, say(Wrong, word(p.Up, "", p.Error)), flooded(p), say(Faint, counts("dropped", p.Dropped)))
	}
	return d.advertsHeard(p, nil)
}

func (d *drawing) advertsHeard(p control.HeartbeatPath, reported *int64) Line {
	var l Line
	ms := p.LastHeardMS
	if ms != nil && reported != nil {
		later := *ms + *reported
		ms = &later
	}
	switch {
	case !p.Up:
		l = list(say(Wrong, "cannot be heard"), plain(p.Error))
	case ms == nil:
		l = say(Wrong, "never heard")
	case d.ms(ms) < silentAfter+d.older:
		l = join(say(Well, "heard "), plain(Age(d.ms(ms))+" ago"))
	default: // up to an advertisement interval is as it should be
		l = say(Attention, "silent for "+Age(d.ms(ms)))
	}
	return list(l, flooded(p), say(Faint, counts("dropped", p.Dropped)))
}

// flooded says that somebody sends in the peer's name.
func flooded(p control.HeartbeatPath) Line {
	if !p.Flooded {
		return nil
	}
	return say(Attention, "flooded: 1 forgery of 256 is counted")
}
