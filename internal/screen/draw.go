package screen

// The order of the screen is that of the questions: who is active, is all well, if not
// what is wrong and what to do; then both nodes side by side, and how they hear each
// other; then what happened last.

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tanist-ha/tanist/internal/control"
)

// Words are the sentences that other commands share.
type Words struct {
	Reason func(name string) string       // empty for one that is not known
	Loss   func(loss control.Loss) string // what is known of it
}

// Options are how to draw.
type Options struct {
	Now   time.Time
	Got   time.Time // when the document came; its ages count from then
	Width int       // columns
	Whole bool      // nothing is cut: somebody keeps it, or searches it
	Words Words
}

// LeastWidth is what a screen needs; a narrower terminal breaks the lines itself.
const LeastWidth = 60

// summarized is how many instances are drawn one below the other; of more, each has a
// line first, and only those that are not well follow.
const summarized = 3

type drawing struct {
	doc   *control.Document
	now   time.Time
	older time.Duration // than the ages in the document say
	width int
	most  int // lines of a cell, 0 for all
	words Words
	lines []Line

	// Where an instance is in the peer's report, and in what the peer last said.
	reported, said map[string]int

	first int     // columns of the names in a table
	dim   [2]bool // what is known of that side is old
}

// Draw draws a document.
func Draw(doc control.Document, o Options) []Line {
	d := &drawing{doc: &doc, now: o.Now, older: max(0, o.Now.Sub(o.Got)), width: max(LeastWidth, o.Width), most: 3, words: o.Words}
	if o.Whole {
		d.most = 0
	}
	d.index()
	host := d.ofHost()
	var pairs [][2]side
	var about []findings
	for i := range doc.Instances {
		pair := d.sides(&doc.Instances[i])
		pairs, about = append(pairs, pair), append(about, d.of(pair))
	}
	switch {
	case len(pairs) == 0:
		d.put(say(Attention, "no instance is configured on "+doc.Node))
	case len(pairs) > summarized:
		d.summary(pairs, about, host)
	default:
		for i, pair := range pairs {
			d.para(nil, join(d.headline(pair), plain(": "), d.verdict(pair, append(about[i], host...))), 0)
		}
	}
	if len(pairs) == 1 {
		about[0], host = worst(append(host, about[0]...)), nil
	}
	d.list(worst(host))
	for i, pair := range pairs {
		if len(pairs) <= summarized || len(about[i]) > 0 {
			d.instance(pair, about[i], len(pairs) > 1)
		}
	}
	d.ways()
	d.foot()
	return d.lines
}

// index notes where the instances of the peer are: of hundreds, each is wanted once.
func (d *drawing) index() {
	d.said = make(map[string]int, len(d.doc.Peer.Instances))
	for i := range slices.Backward(d.doc.Peer.Instances) {
		d.said[d.doc.Peer.Instances[i].Name] = i
	}
	if r := d.doc.Peer.Report; r != nil {
		d.reported = make(map[string]int, len(r.Instances))
		for i := range slices.Backward(r.Instances) {
			d.reported[r.Instances[i].Name] = i
		}
	}
}

func (d *drawing) put(l Line) { d.lines = append(d.lines, fit(l, d.width)) }

// gap puts a blank line between two parts.
func (d *drawing) gap() {
	if n := len(d.lines); n > 0 && len(d.lines[n-1]) > 0 {
		d.put(nil)
	}
}

// para puts text behind a lead of the first line; the next ones are indented as much.
func (d *drawing) para(lead, text Line, most int) {
	lead = fit(lead, d.width*3/4)
	in := width(lead)
	for i, l := range wrap(text, d.width-in, most) {
		if i > 0 {
			lead = pad(nil, in)
		}
		d.put(join(lead, l))
	}
}

// list puts findings, each with what to do about it.
func (d *drawing) list(all findings) {
	for _, f := range all {
		d.para(say(f.mood, word(f.mood == Wrong, "! ", "- ")), say(f.mood, f.text), d.most+min(d.most, 1))
		if f.todo != "" {
			d.para(say(Faint, "  → "), plain(f.todo), d.most)
		}
	}
}

// headline says who is active, and since when.
func (d *drawing) headline(pair [2]side) Line {
	name := say(Heading, pair[0].in.Name)
	gap := plain("  ")
	for _, s := range pair {
		if s.active() && s.current() {
			l := join(name, gap, say(Heading, s.label+" is active"))
			if !s.in.Since.IsZero() {
				l = append(l, plain(" for "+Age(d.since(s.in.Since)))...)
			}
			return append(l, plain(fmt.Sprintf(", epoch %d", s.in.Epoch))...)
		}
	}
	for _, s := range pair {
		if s.moving() && s.current() {
			return join(name, gap, say(Attention, s.label+" is "+s.in.State))
		}
	}
	for _, s := range pair {
		if s.active() {
			return join(name, gap, say(Wrong, "nobody can say who is active"), plain("; "+s.label+" was, "+Age(s.age)+" ago"))
		}
	}
	if me := pair[0]; me.here && !pair[1].current() {
		return join(name, gap, say(Wrong, "this node is not active"), plain(", and of "+pair[1].label+" nothing is known"))
	}
	return join(name, gap, say(Wrong, "nobody is active"))
}

// verdict says in one line whether all is well.
func (d *drawing) verdict(pair [2]side, f findings) Line {
	wrong := 0
	for _, x := range f {
		if x.mood == Wrong {
			wrong++
		}
	}
	switch {
	case wrong > 0:
		return say(Wrong, "NOT WELL")
	case len(f) > 0:
		return say(Attention, "works, with something to look at")
	case pair[0].moving() || pair[1].moving():
		return say(Attention, "under way")
	}
	for _, s := range pair {
		if !s.active() && s.in != nil && s.in.Gate.Open {
			return say(Well, "well, "+s.label+" can take over")
		}
	}
	return say(Well, "well")
}

// instance puts what there is to know of one; of several, each under its name.
func (d *drawing) instance(pair [2]side, f findings, several bool) {
	if several {
		d.gap()
		d.para(nil, d.headline(pair), 0)
	}
	d.list(f)
	if w := pair[0].in.Waiting; w != nil {
		text := "waiting for " + w.For
		if w.Left > 0 {
			text += fmt.Sprintf(": %d transactions left", w.Left)
		}
		d.para(say(Attention, "- "), say(Attention, text), d.most)
	}
	d.gap()
	d.table(pair)
	d.transitions(pair)
}

// summary has a line for each of many instances.
func (d *drawing) summary(pairs [][2]side, about []findings, host findings) {
	well, wrong := 0, 0
	for _, f := range about {
		switch {
		case len(f) == 0:
			well++
		case f[0].mood == Wrong:
			wrong++
		}
	}
	head := say(Heading, fmt.Sprintf("%d instances", len(pairs)))
	switch {
	case well == len(pairs) && len(host) > 0:
		head = join(head, plain(": "), d.verdict(pairs[0], host))
	case well == len(pairs):
		head = join(head, plain(": "), say(Well, "all are well"))
	default:
		head = join(head, plain(": "), list(say(Well, fmt.Sprintf("%d well", well)), count(Wrong, wrong, "not well"), count(Attention, len(pairs)-well-wrong, "with something to look at")))
	}
	d.put(head)
	d.gap()
	name, active := len("instance"), len("active")
	for _, p := range pairs {
		name = max(name, width(plain(p[0].in.Name)))
		for _, s := range p {
			active = max(active, width(plain(s.label)))
		}
	}
	name = min(name, d.width/3)
	row := func(cells ...Line) {
		d.put(fit(join(pad(fit(cells[0], name), name+2), pad(fit(cells[1], active), active+2), pad(cells[2], 9), cells[3]), d.width))
	}
	row(say(Heading, "instance"), say(Heading, "active"), say(Heading, "for"), say(Heading, "is"))
	for _, i := range worstFirst(about) {
		p := pairs[i]
		who, since := say(Wrong, "nobody"), Line(nil)
		for _, s := range p {
			if s.active() && s.current() {
				who = plain(s.label)
				if !s.in.Since.IsZero() {
					since = plain(Age(d.since(s.in.Since)))
				}
			}
		}
		is := d.verdict(p, about[i])
		if len(about[i]) > 0 {
			is = say(about[i][0].mood, about[i][0].text)
		}
		row(plain(p[0].in.Name), who, since, is)
	}
	d.gap()
}

// worst puts the worst findings first, and leaves them in their order otherwise.
func worst(f findings) findings {
	slices.SortStableFunc(f, func(a, b finding) int { return int(b.mood) - int(a.mood) })
	return f
}

// worstFirst orders instances by their worst finding, and as configured.
func worstFirst(about []findings) []int {
	order := make([]int, len(about))
	for i := range order {
		order[i] = i
	}
	mood := func(i int) int {
		if len(about[i]) == 0 {
			return 0
		}
		return int(about[i][0].mood)
	}
	slices.SortStableFunc(order, func(a, b int) int { return mood(b) - mood(a) })
	return order
}

func count(m Mood, n int, what string) Line {
	if n == 0 {
		return nil
	}
	return say(m, fmt.Sprintf("%d %s", n, what))
}

// transitions puts the last transition of either node.
func (d *drawing) transitions(pair [2]side) {
	for _, s := range pair {
		if s.in == nil || s.in.LastTransition == nil {
			continue
		}
		x := *s.in.LastTransition
		d.gap()
		mood := Well
		switch x.Result {
		case "running":
			mood = Attention
		case "aborted", "interrupted":
			mood = Wrong
		}
		text := join(plain(fmt.Sprintf("%s of %s, epoch %d, %s: ", word(x.Kind == "promote", "promotion", "demotion"), s.label, x.Epoch, word(x.Planned, "planned", "not planned"))),
			plain(d.because(x.Reason, "")+"; "), say(mood, x.Result), plain(fmt.Sprintf(word(x.Result == "running", " for %s", " in %s"), took(x.DurationMS))))
		d.para(say(Heading, word(x.Result == "running", "now          ", "last change  ")), text, d.most)
		name := 0
		for _, st := range x.Steps {
			name = max(name, width(plain(st.Name)))
		}
		name = min(name, d.width/3)
		for _, st := range x.Steps {
			lead := join(plain("  "), pad(fit(plain(st.Name), name), name+2), pad(fit(say(stepMood(st), st.Result), 10), 11), pad(plain(word(st.Result == "pending", "", took(st.DurationMS))), 9))
			d.para(lead, plain(st.Detail), d.most)
		}
		for _, l := range x.Losses {
			d.para(say(Wrong, "  may have lost  "), plain(l.Database+": "+d.words.Loss(l)), d.most)
		}
	}
}

func took(ms float64) string {
	switch {
	case ms >= 1000:
		return Age(time.Duration(ms) * time.Millisecond)
	case ms >= 100:
		return fmt.Sprintf("%.0f ms", ms)
	}
	return fmt.Sprintf("%.1f ms", ms)
}

func stepMood(st control.Step) Mood {
	switch {
	case failed(st):
		return Wrong
	case st.Result == "unchanged" || st.Result == "changed":
		return Well
	case st.Result == "running":
		return Attention
	}
	return Faint
}

// foot is what concerns neither an instance nor the way between the nodes.
func (d *drawing) foot() {
	if r := d.doc.Reload; r != nil {
		d.gap()
		d.para(say(Heading, "last reload  "), plain(strings.TrimRight(fmt.Sprintf("%s, %s ago: %s%s", r.Result, Age(d.since(r.At)), r.Detail, r.Error), ": ")), d.most)
	}
}

// named returns what both sides have under a name, this node's order first.
func named[T any](pair [2]side, of func(*control.Instance) []T, name func(T) string) (names []string, has [2]map[string]T) {
	for i, s := range pair {
		has[i] = map[string]T{}
		if s.in == nil {
			continue
		}
		for _, x := range of(s.in) {
			n := name(x)
			if has[i][n] = x; !slices.Contains(names, n) {
				names = append(names, n)
			}
		}
	}
	return names, has
}
