package config

import (
	"github.com/tanist-ha/tanist/hooks"
)

// drift reads what follows when the world is no longer as a step left it.
func (v value) drift() hooks.OnDrift {
	var word uint8
	if !oneOf(v, []string{hooks.ReportDrift.String(), hooks.RepairDrift.String()}, &word) {
		return hooks.DriftDefault
	}
	return hooks.ReportDrift + hooks.OnDrift(word)
}

// checkDrift refuses a drift that nobody could see, or nobody may leave.
func (v value) checkDrift(s hooks.Step, p purpose) {
	if s.Drift == hooks.DriftDefault || s.Action == nil {
		return
	}
	at := v.d.at(v.child("drift"))
	if p == fencing {
		v.d.problem(at, "a step of fence has no drift", "it runs once, before a promotion: leave drift out")
		return
	}
	switch a := s.Action.(type) {
	case hooks.VIP:
		v.keepsRepairing(s, at, "the virtual address is always kept as the role wants it")
	case hooks.Writes:
		if !a.Open {
			v.keepsRepairing(s, at, "writes that are to be closed are always closed again: two nodes would take them")
		}
	case hooks.Replication:
	default:
		if !hooks.Standing(a) {
			hint := "leave drift out"
			if _, ok := a.(hooks.Exec); ok {
				hint = "add verify, a program whose exit status says whether it still is so, or leave drift out"
			}
			v.d.problem(at, "this step leaves nothing that could drift", hint)
		}
	}
}

func (v value) keepsRepairing(s hooks.Step, at position, why string) {
	if s.Drift == hooks.ReportDrift {
		v.d.problem(at, why, "leave drift out")
	}
}
