package sim

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/internal/failover"
)

// A transcript is a run in lines that a person reads: time, node, what happened,
// what the node did about it. Routine (heartbeats, renewals, gossip and
// measurements that change nothing) is left out unless asked for.

type transcript struct {
	out     io.Writer
	routine bool
}

func clock(d time.Duration) string { return fmt.Sprintf("%.6f", d.Seconds()) }

func (t *transcript) world(now time.Duration, node int, format string, args ...any) {
	who := "world"
	if node >= 0 {
		who = labels[node]
	}
	fmt.Fprintf(t.out, "%12s  %-8s * %s\n", clock(now), who, fmt.Sprintf(format, args...))
}

func (t *transcript) step(now time.Duration, who string, ev failover.Event, effects []failover.Effect) {
	var did []string
	for _, e := range effects {
		if s := t.effect(e); s != "" {
			did = append(did, s)
		}
	}
	what := t.event(ev)
	if !t.routine && len(did) == 0 {
		return
	}
	if what == "" {
		what = "tick"
	}
	fmt.Fprintf(t.out, "%12s  %-8s %s -> %s\n", clock(now), who, what, strings.Join(did, "; "))
}

func (t *transcript) event(ev failover.Event) string {
	switch ev := ev.(type) {
	case failover.Started:
		return fmt.Sprintf("started (epoch %d, last %s, finished %t, leftover %t)", ev.Memory.Epoch, ev.Memory.Role, ev.Memory.Finished, ev.Leftover)
	case failover.Tick:
		return "tick"
	case failover.Advertised:
		return fmt.Sprintf("advertised %d", ev.Advertisement.Priority)
	case failover.PeerSaid:
		return "peer said " + said(ev.State)
	case failover.Measured:
		return fmt.Sprintf("measured #%d", ev.ID)
	case failover.Probed:
		return fmt.Sprintf("probed %s ok=%t", ev.Check, ev.OK)
	case failover.StepEnded:
		return fmt.Sprintf("step #%d %s", ev.ID, strings.TrimSpace(ev.Outcome.String()+" "+ev.Detail))
	case failover.StepSaid:
		return fmt.Sprintf("step #%d says %s", ev.ID, ev.Detail)
	case failover.Hearing:
		return fmt.Sprintf("hearing %t", ev.Open)
	case failover.JournalChanged:
		return "journal" + errText(ev.Err)
	case failover.LinkChanged:
		return fmt.Sprintf("link up %t %s", ev.Up, ev.Detail)
	case failover.AddressLost:
		return "address lost: " + ev.Address
	case failover.AddressFound:
		return "address found: " + ev.Address
	case failover.Held:
		return fmt.Sprintf("held #%d%s", ev.ID, errText(ev.Err))
	case failover.Durable:
		return fmt.Sprintf("durable #%d%s", ev.ID, errText(ev.Err))
	case failover.Asked:
		return fmt.Sprintf("kernel of the peer: host %t, address %t", ev.Host, ev.Address)
	case failover.CaughtUp:
		return fmt.Sprintf("caught up #%d%s", ev.ID, errText(ev.Err))
	case failover.DatabaseFenced:
		return fmt.Sprintf("database fenced #%d%s", ev.ID, errText(ev.Err))
	case failover.Disturbed:
		return "a database is disturbed"
	case failover.Checked:
		return fmt.Sprintf("checked #%d, cannot %d", ev.ID, len(ev.Cannot))
	case failover.SwitchoverWanted:
		return fmt.Sprintf("operator wants %s (dry-run %t, force %t)", ev.Request.To, ev.Request.DryRun, ev.Request.Force)
	case failover.HoldWanted:
		return fmt.Sprintf("operator wants %s %t (for %s, force %t)", ev.Request.Kind, ev.Request.On, ev.Request.For, ev.Request.Force)
	case failover.Witnessed:
		return fmt.Sprintf("witness says %s", ev.Verdict)
	case failover.StopWanted:
		return "told to stop"
	}
	return fmt.Sprintf("%T", ev)
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return ": " + err.Error()
}

func said(s failover.PeerState) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s epoch %d/%d", s.State, s.Why.Reason, s.ActiveEpoch, s.Epoch)
	if s.Holds {
		b.WriteString(" holds")
	}
	if s.Give != nil {
		fmt.Fprintf(&b, " give:%s", s.Give.Stage)
	}
	if s.Take != nil {
		fmt.Fprintf(&b, " take:%s", s.Take.Stage)
	}
	return b.String()
}

func (t *transcript) effect(e failover.Effect) string {
	switch e := e.(type) {
	case failover.Send:
		if e.Advertisement.Priority == 0 {
			return "SEND PRIORITY 0"
		}
		return t.also("advertise")
	case failover.Hold:
		if e.ID == 0 {
			return t.also("renew")
		}
		return fmt.Sprintf("ACQUIRE #%d", e.ID)
	case failover.Drop:
		return "DROP"
	case failover.Announce:
		return t.also("announce")
	case failover.CloseWrites:
		return "CLOSE WRITES"
	case failover.Append:
		return record(e)
	case failover.StartStep:
		return fmt.Sprintf("start #%d %s", e.Order.ID, hooks.Title(e.Order.Step.Action))
	case failover.CancelStep:
		return fmt.Sprintf("cancel #%d", e.ID)
	case failover.Measure:
		return t.also(fmt.Sprintf("measure #%d", e.ID))
	case failover.CatchUp:
		return fmt.Sprintf("catch up #%d", e.ID)
	case failover.CheckSteps:
		if e.Each > 0 {
			return t.also("look")
		}
		return fmt.Sprintf("check steps #%d", e.ID)
	case failover.CancelCheck:
		return t.also("look no more")
	case failover.FenceDatabase:
		return "FENCE DATABASE " + e.Database
	case failover.Remember:
		return t.also("remember")
	case failover.AskKernel:
		return "ask the peer's kernel"
	case failover.AskWitness:
		return t.also("ask the witness to " + e.Purpose.String())
	case failover.Tell:
		return t.also("tell " + said(e.State))
	case failover.Answer:
		return fmt.Sprintf("ANSWER %s: %s", e.Outcome, why(e.Why))
	case failover.Note:
		if e.Steps != nil {
			return fmt.Sprintf("(over: epoch %d, %s)", e.Epoch, why(e.Why))
		}
		return fmt.Sprintf("[%s: %s]", strings.ToUpper(e.State.String()), why(e.Why))
	case failover.Stopped:
		return "STOPPED"
	}
	return fmt.Sprintf("%T", e)
}

func (t *transcript) also(s string) string {
	if t.routine {
		return s
	}
	return ""
}

func record(e failover.Append) string {
	r := e.Record
	s := fmt.Sprintf("journal %s epoch %d", r.Kind, r.Epoch)
	switch r.Kind {
	case hooks.Began:
		s += fmt.Sprintf(" %s %s", r.Role, r.Reason)
	case hooks.Stepped:
		s += fmt.Sprintf(" %s %s", r.Step.Title, r.Step.Outcome)
	case hooks.Strayed, hooks.Mended:
		s += " " + r.Step.Title
	case hooks.Ended:
		s += fmt.Sprintf(" %s %s", r.Role, r.Ending)
	case hooks.Override:
		s += fmt.Sprintf(" %q", r.Reason)
	case hooks.Missed:
		s += fmt.Sprintf(" of %s: %d proved (%t), at most %d (%t) %s", r.Loss.Database, r.Loss.Proved, r.Loss.ProvedKnown, r.Loss.AtMost, r.Loss.AtMostKnown, r.Loss.Transactions)
	case hooks.Blocking, hooks.Maintaining, hooks.Leasing:
		s += fmt.Sprintf(" on %t version %d by %s promised %t settled %t", r.Hold.On, r.Hold.Version, r.Hold.By, r.Hold.Promised, r.Hold.Settled)
	case hooks.Diverged:
		s += fmt.Sprintf(" %s: %d, %s", r.Loss.Database, r.Loss.Proved, r.Loss.Transactions)
	case hooks.Reverted, hooks.Learned, hooks.Acquired, hooks.Notified, hooks.Parted, hooks.Adopted, hooks.Commanded, hooks.Reconciled:
	}
	if e.ID != 0 {
		s += fmt.Sprintf(" durably #%d", e.ID)
	}
	return s
}

func why(w failover.Why) string {
	s := w.Reason.String()
	if w.Detail != "" {
		s += " (" + w.Detail + ")"
	}
	for _, r := range w.Gate {
		s += " {" + r.String() + "}"
	}
	return s
}
