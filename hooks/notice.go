package hooks

// What becomes of a notice is a record of its own, because the plan that it came
// from does not wait for it.

import "strings"

// Outcome of a notice, in Record.Step: Changed: it was delivered. Failed or
// TimedOut: it was tried and was not. Cancelled: it was dropped. Lost: the daemon
// ended without a word about it.

// NoticeOf returns the record of a notice, to which its outcome is to be added.
func NoticeOf(s Step, n Notify) Record {
	r := Record{
		Kind: Notified, Instance: n.Vars.Instance, Epoch: n.Vars.Epoch, Role: Standby,
		Step: Result{Name: s.Name, Title: Title(n)},
	}
	if n.Vars.Event == OnPromote {
		r.Role = Active
	}
	return r
}

// Unnotified returns a Notified record, as Lost, for each notice of which the
// records, a whole journal in its order, do not say what became.
func Unnotified(records []Record) []Record {
	type notice struct {
		instance, name string
		epoch          uint64
		role           Role
	}
	key := func(r Record) notice { return notice{r.Instance, r.Step.Name, r.Epoch, r.Role} }
	open := map[notice]int{} // one can be delivered before its step is journaled
	for _, r := range records {
		switch {
		case r.Kind == Notified:
			open[key(r)]--
		case queued(r):
			open[key(r)]++
		}
	}
	var lost []Record
	for i := len(records) - 1; i >= 0; i-- {
		r := records[i]
		if !queued(r) || open[key(r)] <= 0 {
			continue
		}
		open[key(r)]--
		lost = append(lost, Record{
			Kind: Notified, Instance: r.Instance, Epoch: r.Epoch, Role: r.Role,
			Step: Result{Name: r.Step.Name, Title: r.Step.Title, Outcome: Lost, Detail: "the daemon ended before it said what became of it"},
		})
	}
	for i, j := 0, len(lost)-1; i < j; i, j = i+1, j-1 {
		lost[i], lost[j] = lost[j], lost[i]
	}
	return lost
}

// queued reports the record of a notify step that handed its notice over.
func queued(r Record) bool {
	return r.Kind == Stepped && r.Step.Outcome.OK() && strings.HasPrefix(r.Step.Title, Notify{}.Kind()+" ")
}
