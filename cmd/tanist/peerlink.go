package main

// What the peer link proves, and what the operator is told where it does not.

import (
	"fmt"
	"maps"
	"slices"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/tanist-ha/tanist/internal/config"
	"github.com/tanist-ha/tanist/internal/control"
	"github.com/tanist-ha/tanist/internal/peer"
	"github.com/tanist-ha/tanist/vrrp/auth"
)

// linkKeys are the cluster's keys as the peer link takes them.
func linkKeys(keys []auth.Key) []peer.Key {
	var ks []peer.Key
	for _, k := range keys {
		ks = append(ks, k)
	}
	return ks
}

// rekeyLink gives the link the keys of a file that is in force. Unlike the
// heartbeat it has no setting beside them: without keys it proves nothing, as after
// a start.
func (d *daemon) rekeyLink(keys []auth.Key, c *change) error {
	if auth.Equal(keys, d.linkKeys) {
		return nil
	}
	if err := d.link.SetKeys(linkKeys(keys)); err != nil {
		return err
	}
	d.linkKeys = keys
	if !slices.Contains(c.others, keyChanged) {
		c.others = append(c.others, "the peer link's key")
	}
	d.warnUnprovedLink()
	return nil
}

// runs is what this node's heartbeat is now, for the peer to believe.
func (d *daemon) runs() []peer.Run {
	services, _ := d.now()
	runs := make([]peer.Run, 0, len(services))
	for _, s := range services {
		boot, sequence := d.heartbeat.Said(s.cfg.Name)
		runs = append(runs, peer.Run{Instance: s.cfg.Name, Boot: boot, Sequence: sequence})
	}
	return runs
}

// confirm believes the peer's. One that is older than it seems to be has lost its
// disk and its clock, which is worth a line.
func (d *daemon) confirm(runs []peer.Run) {
	for _, r := range runs {
		if d.heartbeat.Confirm(r.Instance, r.Boot, r.Sequence) {
			d.log.confirmed(r.Instance)
		}
	}
}

// confirmed is for a peer that starts now and then. Two that have one label, as a host
// and its clone, or one that lies, are confirmed in turn all the time.
func (l *logger) confirmed(instance string) {
	const doing = "another run of the peer's heartbeat is confirmed by the peer link"
	if skipped, due := l.due(instance, doing); due {
		l.info(doing, zap.String("instance", instance), zap.Int("times_untold", skipped))
	}
}

// warnUnproved says at the start what anybody on the network could forge.
func (d *daemon) warnUnproved() {
	d.warnUnprovedLink()
	for _, s := range d.services {
		if m := s.cfg.Heartbeat.Auth; m != config.AuthHMAC {
			d.log.event(kindInsecure, zapcore.WarnLevel, "advertisements are accepted without proof", zap.String("instance", s.cfg.Name), zap.Stringer("auth", m))
		}
	}
}

func (d *daemon) warnUnprovedLink() {
	if !d.link.Authenticated() {
		d.log.event(kindInsecure, zapcore.WarnLevel, "the peer link is not authenticated, whoever has the peer's address is believed: name a key_file, from `tanist keygen`")
	}
}

// unprovedLink notes a configuration without a key. It works, where nobody else is
// on the network.
func (h *hostCheck) unprovedLink() {
	me, other := h.file.Nodes[h.self].Label, h.file.Nodes[1-h.self].Label
	h.notice("nodes", "make a key with `tanist keygen`, copy it to the other node, and name it as key_file in the configuration of both",
		"the peer link is not authenticated: who takes the address of %s can tell %s what it likes", other, me)
}

// proofOf adds to a path of the status what was proved and what was refused. An
// error that is over explains nothing.
func proofOf(path *control.Path, p peer.Status) {
	path.Proved, path.SecondKey, path.Version = p.Proved, p.SecondKey, p.Version
	if refused := counted(maps.All(p.Refusals.ByName())); len(refused) > 0 {
		path.Refused = refused
	}
	last := p.SendError
	// What the peer cannot send is worth more than that its connections ended.
	if r := p.ReceiveError; r.Reason != 0 && r.Reason != peer.ReasonUnfinished && !p.Accepted && (p.Connected || last.Reason == 0) {
		last = r
	}
	if last.At <= p.Heard {
		return
	}
	path.Error = last.Text
	if last.Reason != 0 {
		path.Reason = fmt.Sprint(last.Reason)
	}
}
