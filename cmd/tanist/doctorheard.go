package main

// What the heartbeat did not take while a diagnosis lasted.

import (
	"fmt"
	"slices"

	"github.com/tanist-ha/tanist/internal/doctor"
	"github.com/tanist-ha/tanist/internal/heartbeat"
	"github.com/tanist-ha/tanist/vrrp"
	"github.com/tanist-ha/tanist/vrrp/auth"
)

// dropped compares what the heartbeat counted before the examination and after it, which
// saw what came of probes.
func (x examiner) dropped(before, after heartbeat.Status, saw examined) []doctor.Dropped {
	var all []doctor.Dropped
	for _, in := range after.Instances {
		d := doctor.Dropped{Instance: in.Name, Heard: in.Heard && in.Silent < x.patience()}
		was := map[string]uint64{}
		if earlier := before.Of(in.Name); earlier != nil {
			was = earlier.Dropped.ByName()
		}
		all = append(all, grown(d, was, in.Dropped.ByName())...)
	}
	for _, p := range after.Paths {
		d := doctor.Dropped{Path: fmt.Sprintf("%v-%v", p.Local, p.Peer), Peer: p.Peer, Heard: p.Heard && p.Silent < x.patience() || saw.probed(p)}
		if p.Interface != "" {
			d.Path = fmt.Sprintf("%s %v", p.Interface, p.Peer)
		}
		at := slices.IndexFunc(before.Paths, func(o heartbeat.PathStatus) bool {
			return o.Interface == p.Interface && o.Local == p.Local && o.Peer == p.Peer
		})
		if at >= 0 {
			all = append(all, grown(d, before.Paths[at].Dropped, p.Dropped)...)
		}
	}
	return all
}

// probed reports whether the peer's probes came by a path of the heartbeat.
func (e examined) probed(p heartbeat.PathStatus) bool {
	return slices.ContainsFunc(e.Sights, func(s doctor.Sight) bool {
		return p.Interface == "" && s.Local == p.Local && s.Peer == p.Peer && s.Heard > 0
	}) || slices.ContainsFunc(e.Groups, func(g doctor.Group) bool {
		return p.Interface != "" && g.Interface == p.Interface && g.Group == p.Peer && g.Heard > 0
	})
}

// grown are the reasons whose counts grew.
func grown(d doctor.Dropped, before, after map[string]uint64) []doctor.Dropped {
	var all []doctor.Dropped
	for _, r := range vrrp.DropReasons() {
		if n := r.String(); after[n] > before[n] {
			one := d
			one.Packet, one.Lately = r, after[n]-before[n]
			all = append(all, one)
		}
	}
	for _, r := range auth.Reasons() {
		if n := r.String(); after[n] > before[n] {
			one := d
			one.Proof, one.Lately = r, after[n]-before[n]
			all = append(all, one)
		}
	}
	return all
}
