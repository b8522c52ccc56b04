package pair

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tanist-ha/tanist/internal/control"
	"github.com/tanist-ha/tanist/test/lab"
	"github.com/tanist-ha/tanist/test/site"
)

// witnessed is a configuration in which the switch is the gateway of both hosts.
func witnessed() string {
	return site.ManyConfig(1, "max_lag: 5s", true) + `
    witness: {kind: gateway, addresses: [10.77.0.1]}
    on_isolation: release
`
}

// frames are those that do not arrive from one end at the other.
type frames struct {
	from, to lab.End
	paths    []lab.Path
}

func severs(t *testing.T, s *site.Site, all ...frames) {
	t.Helper()
	for _, f := range all {
		if err := s.CutOneWay(within(t), f.from, f.to, f.paths...); err != nil {
			t.Fatal(err)
		}
	}
}

// apart are both directions between two ends.
func apart(a, b lab.End, paths ...lab.Path) []frames {
	return []frames{{a, b, paths}, {b, a, paths}}
}

func instance(t *testing.T, s *site.Site, n *lab.Node) control.Instance {
	t.Helper()
	doc, err := s.Status(within(t), n)
	if err != nil {
		t.Fatal(err)
	}
	return doc.Instances[0]
}

// shows waits until the status of a host is as wanted.
func shows(t *testing.T, s *site.Site, n *lab.Node, what string, is func(control.Instance) bool) {
	t.Helper()
	err := site.Await(within(t), n.Hostname+" shows "+what, func(ctx context.Context) error {
		doc, err := s.Status(ctx, n)
		if err != nil {
			return err
		}
		if in := doc.Instances[0]; !is(in) {
			return fmt.Errorf("it shows %s", brief(in))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// brief is what these tests look at.
func brief(in control.Instance) string {
	words := []string{in.State, in.Reason, in.Detail}
	for _, x := range in.OneWay {
		words = append(words, "one_way:"+x.Witness+":"+x.Direction)
	}
	for _, d := range in.Divergence {
		words = append(words, fmt.Sprintf("divergence:%s:%d:%s", d.Database, d.Count, d.Transactions))
	}
	if w := in.Witness; w != nil && w.OK != nil {
		words = append(words, fmt.Sprintf("witness:%t", *w.OK))
	}
	if in.Isolation.Isolated {
		words = append(words, "isolated")
	}
	return strings.Join(words, " ")
}

func state(want string) func(control.Instance) bool {
	return func(in control.Instance) bool { return in.State == want }
}

func refuses(want, why string) func(control.Instance) bool {
	return func(in control.Instance) bool { return in.State == want && in.Reason == why }
}

func oneWay(witness, direction string) func(control.Instance) bool {
	return func(in control.Instance) bool {
		return slices.ContainsFunc(in.OneWay, func(x control.OneWay) bool { return x.Witness == witness && x.Direction == direction })
	}
}

func witness(ok bool) func(control.Instance) bool {
	return func(in control.Instance) bool {
		return in.Witness != nil && in.Witness.OK != nil && *in.Witness.OK == ok
	}
}

// said logs what an operator reads on both hosts.
func said(t *testing.T, s *site.Site, when string) {
	t.Helper()
	for _, n := range s.Nodes() {
		t.Logf("%s, on %s: %s\n%s", when, n.Hostname, brief(instance(t, s, n)), tanist(t, s, n, "status").Stdout)
	}
}

// afterHeal is how long two hosts may both have the address once a cut is healed.
const afterHeal = 5 * time.Second

// heal ends all cuts and waits for one holder.
func heal(t *testing.T, s *site.Site, holder *lab.Node) {
	t.Helper()
	healed := time.Now()
	if err := s.Heal(within(t)); err != nil {
		t.Fatal(err)
	}
	err := site.Await(within(t), "one holder", func(context.Context) error {
		mine, err := s.HoldsVIP(holder)
		theirs, err2 := s.HoldsVIP(s.Peer(holder))
		if err := errors.Join(err, err2); err != nil || !mine || theirs {
			return errors.Join(err, fmt.Errorf("%s has the address: %t, its peer: %t", holder.Hostname, mine, theirs))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	took := time.Since(healed)
	t.Logf("one holder %s after the cut was healed", took.Round(time.Millisecond))
	if took > afterHeal {
		t.Errorf("that is more than %s", afterHeal)
	}
}

// TestCuts cuts one thing after the other, and looks at what both hosts say of it.
func TestCuts(t *testing.T) {
	t.Parallel()
	s := up(t, site.Options{Databases: 1, Config: witnessed()}, true)
	active, standby := s.Primary, s.Reserve
	stays := func(t *testing.T, sampler *site.Sampler) {
		t.Helper()
		holders := sampler.Stop()
		t.Logf("holders: %s", holders)
		if holders.Both > 0 || holders.None > 0 || len(holders.Moves) != 1 {
			t.Errorf("the address moved: %s", holders)
		}
		closed(t, s, standby)
	}
	for _, tt := range []struct {
		name             string
		frames           []frames
		active, standby  func(control.Instance) bool
		onActive, onWait string
	}{
		{"eth1, both ways", apart(active, standby, lab.Eth1), state("active"), state("backup"), "active", "backup"},
		{"eth0, both ways", apart(active, standby, lab.Eth0), state("active"), state("backup"), "active", "backup"},
		{"eth0, from the active host", []frames{{active, standby, []lab.Path{lab.Eth0}}}, state("active"), state("backup"), "active", "backup"},
		{
			"the standby is not heard on any path",
			[]frames{{standby, active, nil}},
			state("active"), oneWay("link", "from_peer"), "active", "a link that is lost",
		},
		{
			"the gateway", slices.Concat(apart(s.Switch, active), apart(s.Switch, standby)),
			witness(false), witness(false), "a witness that is silent", "a witness that is silent",
		},
		{
			"the standby from everything", slices.Concat(apart(active, standby), apart(s.Switch, standby)),
			state("active"), refuses("fault", "isolated"), "active", "that it is isolated",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			sampler := s.StartSampler(t.Context())
			severs(t, s, tt.frames...)
			// Longer than any silence is waited for.
			outlast(t, s, active, 3*site.Lease)
			shows(t, s, active, tt.onActive, tt.active)
			shows(t, s, standby, tt.onWait, tt.standby)
			said(t, s, tt.name)
			heal(t, s, active)
			stays(t, sampler)
			settled(t, s, active)
		})
	}

	t.Run("the active host is not heard on any path", func(t *testing.T) {
		sampler := s.StartSampler(t.Context())
		severs(t, s, frames{active, standby, nil})
		shows(t, s, standby, "active", state("active"))
		shows(t, s, active, "that it yielded", func(in control.Instance) bool { return in.State == "backup" || in.State == "conflict" })
		said(t, s, "cut from the active host")
		heal(t, s, standby)
		holders := sampler.Stop()
		t.Logf("holders: %s", holders)
		if holders.Both > afterHeal {
			t.Errorf("both had the address for %s though one heard the other", holders.Both)
		}
		closed(t, s, active)
		active, standby = standby, active
		settled(t, s, active)
	})

	t.Run("the active host from everything", func(t *testing.T) {
		sampler := s.StartSampler(t.Context())
		severs(t, s, slices.Concat(apart(active, standby), apart(s.Switch, active))...)
		shows(t, s, active, "that it is isolated", refuses("fault", "isolated"))
		shows(t, s, standby, "active", state("active"))
		closed(t, s, active)
		said(t, s, "the active host is cut off")
		heal(t, s, standby)
		holders := sampler.Stop()
		t.Logf("holders: %s", holders)
		if most := site.Lease + afterHeal; holders.Both > most {
			t.Errorf("both had the address for %s, more than %s", holders.Both, most)
		}
		active, standby = standby, active
		settled(t, s, active)
	})

	t.Run("both hosts write", func(t *testing.T) {
		d := s.Databases[0]
		// What both have in common, or nothing could be told apart from it.
		if _, err := d.SQL(within(t), active, "INSERT INTO app.writes (id) VALUES (1)"); err != nil {
			t.Fatal(err)
		}
		if err := s.AwaitEqual(within(t), active); err != nil {
			t.Fatal(err)
		}
		sampler := s.StartSampler(t.Context())
		severs(t, s, apart(active, standby)...)
		shows(t, s, standby, "active", state("active"))
		shows(t, s, active, "active", state("active"))
		write := func(n *lab.Node, rows, first int) {
			for i := range rows {
				if _, err := d.SQL(within(t), n, fmt.Sprintf("INSERT INTO app.writes (id) VALUES (%d)", first+i)); err != nil {
					t.Fatal(err)
				}
			}
		}
		const here, there = 3, 2
		write(active, here, 1000)
		write(standby, there, 2000)
		said(t, s, "cut in two halves")
		heal(t, s, standby)
		holders := sampler.Stop()
		t.Logf("holders: %s", holders)
		old := active
		shows(t, s, old, "its conflict", func(in control.Instance) bool {
			return in.State == "conflict" && in.Reason == "diverged" && len(in.Divergence) == 1 && in.Divergence[0].Count == here
		})
		said(t, s, "healed")
		closed(t, s, old)
		if in := instance(t, s, old); in.Gate.Open {
			t.Error("the gate of a host in conflict is open")
		}
		if r := tanist(t, s, old, "check-master"); r.Code != 1 {
			t.Errorf("check-master on a host in conflict: %d %s%s", r.Code, r.Stdout, r.Stderr)
		}
		if r := tanist(t, s, old, "history"); !strings.Contains(r.Stdout, "conflict") || !strings.Contains(r.Stdout, "3 transactions") {
			t.Errorf("the history says nothing of it:\n%s", r.Stdout)
		}
		back, err := s.Rejoin(within(t), old, true)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("the way back: %s", back)
		if back.Discarded != 1 {
			t.Errorf("nothing was discarded")
		}
		shows(t, s, old, "that the conflict is over", func(in control.Instance) bool { return in.State == "backup" && in.Divergence == nil })
	})
}

// outlast lets the other host's patience run out: an active host renews its lease all
// the while.
func outlast(t *testing.T, s *site.Site, active *lab.Node, d time.Duration) {
	t.Helper()
	end := time.Now().Add(d)
	err := site.Await(within(t), "time goes by", func(context.Context) error {
		held, err := s.HoldsVIP(active)
		switch {
		case err != nil:
			return err
		case time.Now().Before(end):
			return fmt.Errorf("the address is there: %t", held)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// closed is I5: the databases of a host that is not active take no writes.
func closed(t *testing.T, s *site.Site, n *lab.Node) {
	t.Helper()
	for _, d := range s.Databases {
		is(t, n, d, "@@GLOBAL.read_only", "1")
	}
}

// settled brings the databases of the standby back, whatever the cut has left behind.
func settled(t *testing.T, s *site.Site, active *lab.Node) {
	t.Helper()
	if _, err := s.Rejoin(within(t), s.Peer(active), true); err != nil {
		t.Fatal(err)
	}
	if err := s.AwaitSettled(within(t), active); err != nil {
		t.Fatal(err)
	}
}
