package main

// What a diagnosis sees of one host: by its daemon, by that of the peer for the
// peer's host, or by the command where no daemon runs.

import (
	"context"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/internal/config"
	"github.com/tanist-ha/tanist/internal/doctor"
	"github.com/tanist-ha/tanist/internal/doctor/host"
	"github.com/tanist-ha/tanist/internal/doctor/probe"
	"github.com/tanist-ha/tanist/internal/heartbeat"
	"github.com/tanist-ha/tanist/systemd"
	"github.com/tanist-ha/tanist/vrrp/auth"
)

// examiner looks at this host.
type examiner struct {
	common *common
	file   *config.File
	self   int
	keys   []auth.Key
	units  *systemd.Units
	beats  *heartbeat.Heartbeat // nil without a daemon
}

// examined is what it saw. It goes over the peer link.
type examined struct {
	Findings []doctor.Finding `json:"findings"`
	Running  doctor.Running   `json:"running"`
	Sights   []doctor.Sight   `json:"sights"`
	Claims   []doctor.Claim   `json:"claims"`
	// Groups is missing where the release, or the one that asks, does not know them.
	Groups []doctor.Group `json:"groups,omitzero"`
}

func (e examined) view() doctor.View { return doctor.View{Sights: e.Sights, Groups: e.Groups} }

func (x examiner) labels() [2]string {
	return [2]string{x.file.Nodes[x.self].Label, x.file.Nodes[1-x.self].Label}
}

// paths are the pairs of addresses of the two nodes.
func (x examiner) paths() []probe.Path {
	var all []probe.Path
	for i, local := range x.file.Nodes[x.self].Addresses {
		all = append(all, probe.Path{Local: local, Peer: x.file.Nodes[1-x.self].Addresses[i]})
	}
	return all
}

func (x examiner) virtuals() []doctor.Virtual {
	var all []doctor.Virtual
	for _, in := range x.file.Instances {
		all = append(all, doctor.Virtual{Instance: in.Name, Interface: in.Interface, VRID: in.VRID, Addresses: vips(in)})
	}
	return all
}

// look makes all examinations of this host at once, until ctx ends at the latest.
// exchange sends the probes and is nil where there is nobody to exchange any with; groups
// are those of groups, with the peer's addresses as far as they are known.
func (x examiner) look(ctx context.Context, exchange *probe.Exchange, groups []doctor.Group) examined {
	var mu sync.Mutex // guards parts
	parts := map[int][]doctor.Finding{}
	var work sync.WaitGroup
	part := func(order int, run func() []doctor.Finding) {
		work.Go(func() {
			found := run()
			mu.Lock()
			defer mu.Unlock()
			parts[order] = found
		})
	}
	root, ours := os.DirFS("/"), x.virtuals()
	out := examined{Running: x.running(), Findings: []doctor.Finding{}, Groups: slices.Clone(groups)}
	units, err := host.Units{Manager: x.units}.Reach(ctx)
	if err != nil {
		out.Findings = append(out.Findings, doctor.FromProblems(doctor.CheckFailed, doctor.Warning, "", "units were not looked at: "+err.Error(), ""))
	}
	part(0, func() []doctor.Finding { return x.configuration(ctx) })
	part(1, func() []doctor.Finding { return x.clock(ctx, units) })
	part(2, func() []doctor.Finding { return doctor.AtBoot(ctx, units, root, plannedUnits(x.file)) })
	part(3, func() []doctor.Finding {
		return append(doctor.Keepalived(ctx, units, root, ours), x.foreigners(ctx)...)
	})
	part(4, func() []doctor.Finding { return doctor.Network(ctx, units, root, ours) })
	part(5, func() []doctor.Finding { return doctor.KernelSettings(root, ours) })
	part(6, func() (found []doctor.Finding) {
		out.Sights, out.Claims, found = x.network(ctx, units, root, exchange, out.Groups)
		return found
	})
	work.Wait()
	for _, order := range slices.Sorted(keysOf(parts)) {
		out.Findings = append(out.Findings, parts[order]...)
	}
	for i := range out.Findings {
		if out.Findings[i].Node == "" {
			out.Findings[i].Node = x.labels()[0]
		}
	}
	return out
}

func keysOf(m map[int][]doctor.Finding) func(yield func(int) bool) {
	return func(yield func(int) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

func (x examiner) running() doctor.Running {
	r := doctor.Running{Version: version, File: x.common.config, Sections: x.file.Sections(), KeyFile: x.file.KeyFile}
	for _, k := range x.keys {
		if id, err := k.ID(); err == nil {
			r.Keys = append(r.Keys, id)
		}
	}
	return r
}

// configuration looks at the file as it is now, and at what it names on this host.
func (x examiner) configuration(ctx context.Context) []doctor.Finding {
	found := x.onDisk()
	h := &hostCheck{file: x.file, self: x.self, units: x.units}
	h.keyFile()
	for i, in := range x.file.Instances {
		at := fmt.Sprintf("instances[%d]", i)
		h.network(i, at, in)
		h.databases(ctx, at, in)
		h.discovered(ctx, at, in)
		h.plan(ctx, at+".promote", in.Name, in.Promote.Unwaiting())
		h.plan(ctx, at+".demote", in.Name, in.Demote.Unwaiting())
	}
	h.stateDir(ctx, x.common)
	for _, p := range h.problems {
		if !slices.Contains(h.lacking, p) {
			found = append(found, problemFindings(config.Problems{p}, doctor.ConfigurationWrong)...)
			continue
		}
		f := problemFindings(config.Problems{p}, doctor.MissingGrant)[0]
		f.Fix = []string{strings.TrimSuffix(p.Hint, onTheSource) + ";", "# as an administrator of the server, " + strings.Trim(onTheSource, " ()")}
		found = append(found, f)
	}
	if len(h.problems) == 0 {
		found = append(found, doctor.Finding{Code: doctor.ConfigurationWrong, What: "what " + x.common.config + " names is there, with database accounts and their grants"})
	}
	return found
}

// onDisk holds the file against what the daemon runs.
func (x examiner) onDisk() []doctor.Finding {
	if x.beats == nil {
		return nil // it was read just now
	}
	file, err := config.Load(x.common.config)
	switch problems, ok := err.(config.Problems); { //nolint:errorlint // Load returns them as they are
	case ok:
		return problemFindings(problems, doctor.ConfigurationWrong)
	case err != nil:
		return []doctor.Finding{doctor.FromProblems(doctor.ConfigurationWrong, doctor.Problem, x.common.config, err.Error(), "")}
	}
	return []doctor.Finding{doctor.Loaded(x.common.config, x.file.Sections(), file.Sections())}
}

func (x examiner) clock(ctx context.Context, units doctor.Units) []doctor.Finding {
	c, err := host.Clock(ctx, units)
	if err != nil {
		return []doctor.Finding{doctor.FromProblems(doctor.CheckFailed, doctor.Warning, "", err.Error(), "")}
	}
	return []doctor.Finding{doctor.Synchronised(c)}
}

// foreigners listens to the VRRP groups of the instances that advertise to the peer
// alone: what is heard there is not the peer's.
func (x examiner) foreigners(ctx context.Context) []doctor.Finding {
	var mu sync.Mutex // guards heard
	var heard []doctor.Overheard
	var ours []doctor.Virtual
	var work sync.WaitGroup
	for _, v := range x.virtuals() {
		in := x.file.Instances[slices.IndexFunc(x.file.Instances, func(in config.Instance) bool { return in.Name == v.Instance })]
		if group(in) != "" || len(ours) == doctor.MostGroups {
			continue
		}
		ours = append(ours, v)
		work.Go(func() {
			some, err := probe.Overhear(ctx, v.Interface, v.Addresses[0].Is6(), x.allVirtual(), []uint8{v.VRID})
			if err != nil {
				return // the examination of the paths says what is wrong with the interface
			}
			mu.Lock()
			defer mu.Unlock()
			heard = append(heard, some...)
		})
	}
	work.Wait()
	return doctor.Foreigners(heard, ours, nil, probe.OverhearFor.String())
}

func (x examiner) allVirtual() []netip.Addr {
	var all []netip.Addr
	for _, in := range x.file.Instances {
		all = append(all, vips(in)...)
	}
	return all
}

// plannedUnits are those that the plans start and stop, but do not enable themselves.
func plannedUnits(file *config.File) []string {
	var names, enabled []string
	for _, in := range file.Instances {
		for _, s := range slices.Concat(in.Promote, in.Demote) {
			u, ok := s.Action.(hooks.Unit)
			switch {
			case !ok:
			case u.Verb == hooks.EnableUnit || u.Verb == hooks.DisableUnit:
				enabled = append(enabled, u.Name)
			case u.Verb == hooks.StartUnit || u.Verb == hooks.StopUnit:
				names = append(names, u.Name)
			}
		}
	}
	slices.Sort(names)
	return slices.DeleteFunc(slices.Compact(names), func(n string) bool { return slices.Contains(enabled, n) })
}

// network looks at the paths and at the virtual addresses, and fills in what is to be seen
// of the groups.
func (x examiner) network(ctx context.Context, units doctor.Units, root fs.FS, exchange *probe.Exchange, groups []doctor.Group) ([]doctor.Sight, []doctor.Claim, []doctor.Finding) {
	interfaces, err := host.ReadInterfaces()
	if err != nil {
		return nil, nil, []doctor.Finding{doctor.FromProblems(doctor.CheckFailed, doctor.Problem, "", err.Error(), "")}
	}
	sights, claims := x.sights(interfaces), x.claims(interfaces)
	var work sync.WaitGroup
	var firewall doctor.Firewall
	work.Go(func() { firewall = host.Firewall(ctx, units, root) })
	work.Go(func() {
		interfaces.Ask(ctx, sights, claims) // other fields than what follows fills in
		err = interfaces.Neighbours(claims)
	})
	for i := range sights {
		work.Go(func() { tryPath(ctx, &sights[i]) })
	}
	for i := range groups {
		work.Go(func() { tryGroup(ctx, &groups[i]) })
	}
	if exchange != nil {
		work.Go(func() { _ = exchange.Send(ctx) })
	}
	work.Wait()
	var found []doctor.Finding
	for i := range sights {
		sights[i].Filtered(firewall)
	}
	for i := range groups {
		groups[i].Filtered(firewall)
	}
	if firewall.Err != nil {
		found = append(found, doctor.FromProblems(doctor.CheckFailed, doctor.Warning, "", "the rules of the packet filter could not be read: "+firewall.Err.Error(), ""))
	}
	if err != nil {
		found = append(found, doctor.FromProblems(doctor.CheckFailed, doctor.Warning, "", err.Error(), ""))
	}
	return sights, claims, found
}

// tryPath connects and sends an echo.
func tryPath(ctx context.Context, s *doctor.Sight) {
	p := probe.Path{Local: s.Local, Peer: s.Peer}
	if s.Interface == "" {
		return
	}
	var err error
	if s.TCP, err = probe.TCP(ctx, p, s.Port); err != nil {
		s.TCPError = err.Error()
	}
	if took, ok := probe.Echo(ctx, p); ok {
		us := took.Microseconds()
		s.EchoUS = &us
	}
}

func (x examiner) sights(interfaces host.Interfaces) []doctor.Sight {
	var all []doctor.Sight
	for _, p := range x.paths() {
		s := doctor.Sight{Local: p.Local, Peer: p.Peer, Port: x.file.PeerPort, Unused: !x.advertises(p.Local.Is4())}
		interfaces.Describe(&s)
		x.beaten(&s)
		all = append(all, s)
	}
	return all
}

// advertises reports whether an instance does so between the nodes' addresses of a family.
func (x examiner) advertises(ipv4 bool) bool {
	return slices.ContainsFunc(x.file.Instances, func(in config.Instance) bool {
		return group(in) == "" && in.VIPs[0].Addr().Is4() == ipv4
	})
}

// beaten fills in what the heartbeat knows of a path or a group.
func (x examiner) beaten(s *doctor.Sight) {
	if x.beats == nil {
		return
	}
	for _, p := range x.beats.Status().Paths {
		if onGroup := p.Interface != "" && p.Interface == s.Interface && p.Peer == s.Group; !onGroup &&
			(p.Interface != "" || s.Group.IsValid() || p.Local != s.Local || p.Peer != s.Peer) {
			continue
		}
		s.PatienceMS = x.patience().Milliseconds()
		s.HeardMS = agoMS(p.Heard, p.Silent)
		if p.Err != nil && s.Interface != "" {
			s.SocketError = p.Err.Error()
		}
	}
}

// patience is after which silence the peer is not heard on a path: three of the
// longest intervals and a second, for a host that is short of time.
func (x examiner) patience() time.Duration {
	longest := time.Duration(0)
	for _, in := range x.file.Instances {
		longest = max(longest, in.Heartbeat.AdvertInterval)
	}
	return 3*longest + time.Second
}

func (x examiner) claims(interfaces host.Interfaces) []doctor.Claim {
	var all []doctor.Claim
	hardware := interfaces.Hardware()
	for _, in := range x.file.Instances {
		for _, a := range vips(in) {
			all = append(all, doctor.Claim{Instance: in.Name, Interface: in.Interface, Address: a, Held: interfaces.Has(in.Interface, a), Hardware: hardware})
		}
	}
	return all
}
