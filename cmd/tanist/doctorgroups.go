package main

// What a diagnosis sees of the VRRP groups that instances advertise to.

import (
	"context"
	"fmt"
	"slices"

	"github.com/tanist-ha/tanist/internal/config"
	"github.com/tanist-ha/tanist/internal/doctor"
	"github.com/tanist-ha/tanist/internal/doctor/host"
	"github.com/tanist-ha/tanist/internal/doctor/probe"
	"github.com/tanist-ha/tanist/vrrp"
)

// groups are those that instances advertise to, as they are on this host: as many as are
// looked at at once. What is left out, or went wrong, is a finding.
func (x examiner) groups() ([]doctor.Group, []doctor.Finding) {
	if !slices.ContainsFunc(x.file.Instances, func(in config.Instance) bool { return group(in) != "" }) {
		return nil, nil
	}
	interfaces, err := host.ReadInterfaces()
	if err != nil {
		return nil, []doctor.Finding{doctor.FromProblems(doctor.CheckFailed, doctor.Problem, "", err.Error(), "")}
	}
	var all []doctor.Group
	left := 0
	for _, in := range x.file.Instances {
		if group(in) == "" {
			continue
		}
		to := vrrp.Group(in.VIPs[0].Addr())
		at := slices.IndexFunc(all, func(g doctor.Group) bool { return g.Interface == in.Interface && g.Group == to })
		switch {
		case at < 0 && len(all) == doctor.MostGroups:
			left++
			continue
		case at < 0:
			at = len(all)
			g := doctor.Group{Sight: doctor.Sight{Interface: in.Interface, Group: to}}
			interfaces.DescribeGroup(&g, x.file.Nodes[x.self].Addresses, x.allVirtual())
			x.beaten(&g.Sight)
			all = append(all, g)
		}
		all[at].Instances, all[at].VRIDs = append(all[at].Instances, in.Name), append(all[at].VRIDs, in.VRID)
	}
	if left == 0 {
		return all, nil
	}
	return all, []doctor.Finding{doctor.FromProblems(doctor.CheckFailed, doctor.Warning, "",
		fmt.Sprintf("the groups of %d instances were not looked at: %d are the most", left, doctor.MostGroups), "")}
}

// withGroups are the paths of an exchange: the pairs of addresses, and then the groups.
func (x examiner) withGroups(groups []doctor.Group) []probe.Path {
	all := x.paths()
	for _, g := range groups {
		all = append(all, probe.Path{Interface: g.Interface, Local: g.Local, Peer: g.Peer})
	}
	return all
}

// met fills in what the peer says of its ends of the groups, and has its probes counted.
func (x examiner) met(exchange *probe.Exchange, groups []doctor.Group, ends []doctor.GroupEnd) {
	doctor.Meet(groups, ends)
	for i, g := range groups {
		if exchange != nil && g.Peer.IsValid() {
			exchange.Expect(len(x.paths())+i, g.Peer)
		}
	}
}

// peer is what is known of the peer by the addresses that it answers for.
func (x examiner) peer(lives bool, claims []doctor.Claim) doctor.Peer {
	p := doctor.Peer{Lives: lives}
	for _, c := range claims {
		held := slices.ContainsFunc(c.Answers, func(hw string) bool { return slices.Contains(c.Peer, hw) })
		if c.Held || !held || slices.Contains(p.Holds, c.Instance) {
			continue
		}
		p.Holds = append(p.Holds, c.Instance)
		p.Advertises = p.Advertises || slices.ContainsFunc(x.file.Instances, func(in config.Instance) bool { return in.Name == c.Instance && group(in) == "" })
	}
	return p
}

// tryGroup asks the peer's address on a group for an echo: whether the two hosts reach
// each other there at all.
func tryGroup(ctx context.Context, g *doctor.Group) {
	if !g.Peer.IsValid() || !g.Local.IsValid() {
		return
	}
	p := probe.Path{Local: g.Local, Peer: g.Peer}
	if p.Peer.IsLinkLocalUnicast() && p.Peer.Is6() {
		p.Local, p.Peer = p.Local.WithZone(g.Interface), p.Peer.WithZone(g.Interface)
	}
	if took, ok := probe.Echo(ctx, p); ok {
		us := took.Microseconds()
		g.EchoUS = &us
	}
}
