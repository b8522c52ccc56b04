package screen

// Values of the document in words.

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/tanist-ha/tanist/internal/control"
)

// Age rounds a time to what a person reads at a glance.
func Age(d time.Duration) string {
	d = max(0, d)
	day := 24 * time.Hour
	switch {
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case d < 10*time.Second:
		return fmt.Sprintf("%.1f s", d.Truncate(100*time.Millisecond).Seconds())
	case d < time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm %ds", int(d.Minutes()), int(d.Seconds())%60)
	case d < day:
		return fmt.Sprintf("%dh %dm", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%dd %dh", int(d/day), int(d.Hours())%24)
}

// ms is an age of the document as of now.
func (d *drawing) ms(ms *int64) time.Duration {
	if ms == nil {
		return 0
	}
	return time.Duration(*ms)*time.Millisecond + d.older
}

// since is how long ago a date was.
func (d *drawing) since(at time.Time) time.Duration { return max(0, d.now.Sub(at)) }

func (d *drawing) ago(ms *int64) string {
	if ms == nil {
		return "never heard"
	}
	return "heard " + Age(d.ms(ms)) + " ago"
}

// because says why, in words where there are some.
func (d *drawing) because(reason, detail string) string {
	text := d.words.Reason(reason)
	if text == "" {
		text = reason
	}
	if detail != "" {
		text += ": " + detail
	}
	return text
}

func word(yes bool, a, b string) string {
	if yes {
		return a
	}
	return b
}

func counts(what string, by map[string]uint64) string {
	var all []string
	for _, reason := range slices.Sorted(maps.Keys(by)) {
		all = append(all, fmt.Sprintf("%s %d %s", what, by[reason], reason))
	}
	return strings.Join(all, ", ")
}

// stateMood says whether a state is one to be content with.
func stateMood(state string) Mood {
	switch state {
	case "active", "backup":
		return Well
	case "promoting", "demoting", "initialize":
		return Attention
	case "":
		return Faint
	}
	return Wrong
}

func (d *drawing) stateLine(s side) Line {
	if s.in == nil {
		return say(Faint, "nothing is known")
	}
	l := say(stateMood(s.in.State), s.in.State)
	if !s.in.Since.IsZero() {
		l = append(l, plain(", for "+Age(d.since(s.in.Since)))...)
	}
	if !s.current() {
		return join(say(Faint, s.in.State+", "), say(Attention, Age(s.age)+" ago"))
	}
	return l
}

func databaseLine(db control.Database, active bool) Line {
	if db.ReadOnly == nil {
		return list(plain(db.Role), say(Attention, "writable or not: unknown"))
	}
	mood := Well
	if *db.ReadOnly == active {
		mood = Wrong
	}
	return list(plain(db.Role), say(mood, word(*db.ReadOnly, "read-only", "writable")))
}

func threadLine(db control.Database) Line {
	if db.IORunning == nil || db.SQLRunning == nil {
		return nil
	}
	thread := func(name string, runs bool) Line {
		if runs {
			return say(Well, name+" running")
		}
		return say(Wrong, name+" stopped")
	}
	return list(thread("IO", *db.IORunning), thread("SQL", *db.SQLRunning))
}

func lagLine(db control.Database) Line {
	var l Line
	if db.LagSeconds != nil {
		l = plain(fmt.Sprintf("%.1f s", *db.LagSeconds))
		if db.LagFrom != "" {
			l = append(l, say(Faint, " by "+db.LagFrom)...)
		}
	}
	if n := db.MissingTransactions; n != nil && *n > 0 {
		l = list(l, say(Attention, fmt.Sprintf("%d %s missing", *n, word(*n == 1, "transaction", "transactions"))))
	}
	return l
}

func (d *drawing) checkLine(h control.Health) Line {
	var l Line
	switch {
	case h.OK == nil:
		l = say(Faint, word(h.AgeMS == nil, "no sample yet", "unknown"))
	case !h.Until.IsZero():
		l = say(Attention, h.Verdict+", counts as failing for "+Age(h.Until.Sub(d.now)))
	case *h.OK:
		l = say(Well, "well")
	default:
		l = say(Wrong, "failing")
	}
	if h.OK == nil || !*h.OK {
		l = list(l, plain(h.Detail))
		if h.AgeMS != nil {
			l = list(l, say(Faint, Age(d.ms(h.AgeMS))+" ago"))
		}
	}
	return l
}

func unitLine(u control.Unit) Line {
	if u.Error != "" {
		return say(Attention, u.Error)
	}
	return list(plain(word(u.Running, "running", "stopped")), say(Attention, word(u.Running == (u.Active == "active"), "", "systemd says "+u.Active)))
}

func labelLine(l control.Label) Line {
	switch {
	case l.Error != "":
		return list(plain(l.Value), say(Attention, l.Error))
	case l.Wanted != nil && *l.Wanted != l.Value:
		return list(say(Attention, l.Value), say(Attention, "should be "+*l.Wanted))
	}
	return plain(l.Value)
}

// driftName is what drifted. A step without a name of its own begins with its kind.
func driftName(x control.Drift) string {
	if x.Step == x.Kind || strings.HasPrefix(x.Step, x.Kind+" ") {
		return x.Step
	}
	return x.Kind + " " + x.Step
}

func driftText(x control.Drift) string {
	text := x.Detail
	if x.State == "cannot" {
		text = "cannot be checked: " + text
	}
	switch x.Repair {
	case "repair":
		text += ": Tanist repairs it"
	case "waiting":
		text += ": repaired once the other node says that it stopped it"
	case "contested":
		text += ": somebody keeps changing it back; repaired ever later"
	}
	return text
}

func holdText(d *drawing, h control.Hold) string {
	text := h.Reason
	if !h.Until.IsZero() {
		text += ", for another " + Age(h.Until.Sub(d.now))
	}
	return text
}
