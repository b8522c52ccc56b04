package control

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tanist-ha/tanist/internal/failover"
)

func TestJudge(t *testing.T) {
	both, one, none := []VIP{{Held: true}, {Held: true}}, []VIP{{Held: true}, {}}, []VIP{{}, {}}
	for _, c := range []struct {
		state failover.State
		vips  []VIP
		want  Verdict
	}{
		{failover.Active, both, Verdict{WordActive, "elected: x"}},
		{failover.Active, one, Verdict{WordUnknown, "active, but the kernel has 1 of 2 addresses"}},
		{failover.Active, none, Verdict{WordUnknown, "active, but the kernel has 0 of 2 addresses"}},
		{failover.Promoting, both, Verdict{WordPromoting, "elected: x"}},
		{failover.Demoting, none, Verdict{WordDemoting, "elected: x"}},
		{failover.Backup, none, Verdict{WordStandby, "backup: elected: x"}},
		{failover.Backup, one, Verdict{WordUnknown, "backup, but the kernel has 1 of 2 addresses"}},
		{failover.Fault, none, Verdict{WordStandby, "fault: elected: x"}},
		{failover.Refused, none, Verdict{WordStandby, "refused: elected: x"}},
		{failover.Conflict, both, Verdict{WordUnknown, "conflict: elected: x"}},
		{failover.Initialize, none, Verdict{WordUnknown, "initialize: elected: x"}},
	} {
		got := Judge(Instance{State: c.state.String(), VIPs: c.vips, Reason: "elected", Detail: "x"})
		if got != c.want {
			t.Errorf("%s: got %+v, want %+v", c.state, got, c.want)
		}
	}
}

// Of a control loop that hangs, nobody knows what it made of the role since, unless it
// left the instance as it was; the kernel's word is asked for in any case.
func TestJudgeWithoutTheLoop(t *testing.T) {
	age := int64(3210)
	unknown := Verdict{WordUnknown, "the control loop does not answer; 3.2s before it was active: elected"}
	for name, c := range map[string]struct {
		in   Instance
		want Verdict
	}{
		"stale":             {Instance{State: "active", Stale: true, AgeMS: &age, VIPs: []VIP{{Held: true}}}, unknown},
		"certain":           {Instance{State: "active", Stale: true, Certain: true, AgeMS: &age, VIPs: []VIP{{Held: true}}}, Verdict{WordActive, "elected"}},
		"lease-over":        {Instance{State: "active", Stale: true, Certain: true, AgeMS: &age, VIPs: []VIP{{}}}, Verdict{WordUnknown, "active, but the kernel has 0 of 1 addresses"}},
		"standby":           {Instance{State: "backup", Stale: true, Certain: true, AgeMS: &age, VIPs: []VIP{{}}}, Verdict{WordStandby, "backup: elected"}},
		"never":             {Instance{State: "initialize", Stale: true}, Verdict{WordUnknown, "the control loop does not answer; nothing is known"}},
		"kernel-hangs":      {Instance{State: "active", VIPs: []VIP{{Address: "192.0.2.1/24", Error: "no answer"}}}, Verdict{WordUnknown, "192.0.2.1/24: no answer"}},
		"kernel-of-standby": {Instance{State: "backup", VIPs: []VIP{{Address: "192.0.2.1/24", Error: "no answer"}}}, Verdict{WordUnknown, "192.0.2.1/24: no answer"}},
	} {
		c.in.Reason = "elected"
		if got := Judge(c.in); got != c.want {
			t.Errorf("%s: got %+v, want %+v", name, got, c.want)
		}
	}
}

func TestOutdate(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	old := func(ms int64) *int64 { return &ms }
	in := Instance{
		Databases: []Database{{AgeMS: old(50)}, {}}, Health: []Health{{AgeMS: old(70)}, {}},
		Drift: []Drift{{SinceSeconds: new(3.0)}, {}},
	}
	want := Instance{
		Databases: []Database{{AgeMS: old(2050)}, {}}, Health: []Health{{AgeMS: old(2070)}, {}},
		Drift: []Drift{{SinceSeconds: new(5.0)}, {}}, Stale: true, Certain: true, AgeMS: old(2000),
	}
	if in.Outdate(at, at.Add(2*time.Second), true); !cmp.Equal(want, in) {
		t.Error(cmp.Diff(want, in))
	}
	never := Instance{Databases: []Database{{}}}
	if never.Outdate(time.Time{}, at, false); !cmp.Equal(Instance{Databases: []Database{{}}, Stale: true}, never) {
		t.Errorf("%+v", never)
	}
}

func TestPick(t *testing.T) {
	two := Document{Instances: []Instance{{Name: "a"}, {Name: "b"}}}
	if in, err := Pick(two, "b"); in.Name != "b" || err != nil {
		t.Errorf("b: %+v, %v", in, err)
	}
	if in, err := Pick(Document{Instances: two.Instances[:1]}, ""); in.Name != "a" || err != nil {
		t.Errorf("the only one: %+v, %v", in, err)
	}
	if _, err := Pick(two, ""); !errors.Is(err, ErrUnnamed) {
		t.Errorf("two, and no name: %v", err)
	}
	if _, err := Pick(two, "c"); !errors.Is(err, ErrNoInstance) {
		t.Errorf("c: %v", err)
	}
}
