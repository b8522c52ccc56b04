package failover

import (
	"fmt"
	"slices"

	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/replication"
)

// A promotion onto a database whose source is lost says what it may have left
// behind, in the journal and in status.

// losses returns what goes missing with a promotion now, for the databases whose
// source is lost: all of them, or those named.
func (o *Orchestrator) losses(named []string) []hooks.Loss {
	verdict := o.gate(replication.SourceLost, named)
	var ls []hooks.Loss
	for i, v := range verdict.Databases {
		if named != nil && !slices.Contains(named, v.Name) {
			continue
		}
		l := hooks.Loss{Database: v.Name}
		l.Proved, l.ProvedKnown = v.Missing.Get()
		l.AtMost, l.AtMostKnown = v.AtMost.Get()
		l.HeardAge, l.HeardAgeKnown = v.HeardAge.Get()
		if bound, ok := v.Bound.Get(); ok && bound.From == replication.BoundSemiSync {
			l.SemiSync, l.AtMost, l.AtMostKnown = true, l.Proved+bound.Transactions, true
		}
		if l.Proved > 0 {
			last, _ := o.databases[i].Heard.Last()
			if applied, ok := o.databases[i].Facts.Applied.Get(); ok {
				l.Transactions = lacking(applied, last)
			}
		}
		if l.ProvedKnown && l.Proved == 0 && l.AtMostKnown && l.AtMost == 0 && !l.SemiSync {
			continue
		}
		ls = append(ls, l)
	}
	for _, name := range o.unprotected() {
		if named == nil {
			ls = append(ls, hooks.Loss{Database: name})
		}
	}
	return ls
}

// lossText bounds the list of transactions in one report, in bytes.
const lossText = 2000

func lacking(applied, last replication.Position) string {
	ts, ok := applied.Lacking(last)
	if !ok {
		return ""
	}
	return cutTo(ts.String(), lossText)
}

// journalLosses notes the losses with the promotion of epoch.
func (o *Orchestrator) journalLosses(epoch Epoch, ls []hooks.Loss) {
	for _, l := range ls {
		o.emit(Append{Record: hooks.Record{
			Kind: hooks.Missed, Instance: o.cfg.Instance, Epoch: uint64(epoch), Role: hooks.Active, Loss: l,
		}})
		o.emit(Note{State: o.state, Epoch: epoch, Urgent: true, Why: Why{Reason: DataLost, Detail: lossWords(l)}})
	}
}

// lossWords says what one record of the journal says, without the list.
func lossWords(l hooks.Loss) string {
	words := l.Database + ": nothing is known, its source was never heard"
	if l.ProvedKnown {
		words = fmt.Sprintf("%s: %d transactions proved", l.Database, l.Proved)
	}
	if l.AtMostKnown {
		words += fmt.Sprintf(", at most about %d", l.AtMost)
	}
	return words
}
