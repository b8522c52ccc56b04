package control

import (
	"errors"
	"testing"

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
