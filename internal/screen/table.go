package screen

import (
	"strings"

	"github.com/tanist-ha/tanist/internal/control"
)

// nameWidth is the first column of the table of both nodes.
func nameWidth(pair [2]side, columns int) int {
	longest := len("advertisements")
	note := func(name string) { longest = max(longest, 2+width(plain(name))) }
	for _, s := range pair {
		if s.in == nil {
			continue
		}
		for _, x := range s.in.Databases {
			note(x.Name)
		}
		for _, x := range s.in.Health {
			note(x.Name)
		}
		for _, x := range s.in.Units {
			note(x.Name)
		}
		for _, x := range s.in.Labels {
			note(x.Key)
		}
	}
	return min(longest, columns*28/100)
}

// row puts a name and what each node has there. A row that neither has anything in is
// left out.
func (d *drawing) row(name string, cells [2]Line) {
	if len(cells[0]) == 0 && len(cells[1]) == 0 {
		return
	}
	first := d.first
	column := (d.width - first - 4) / 2
	var blocks [2][]Line
	for i, c := range cells {
		if len(c) == 0 {
			c = say(Faint, "—")
		}
		if d.dim[i] {
			c = say(Faint, text(c))
		}
		blocks[i] = wrap(c, column, d.most)
	}
	names := wrap(plain(name), first, 0)
	for i := range max(len(blocks[0]), len(blocks[1]), len(names)) {
		at := func(lines []Line) Line {
			if i < len(lines) {
				return lines[i]
			}
			return nil
		}
		d.put(join(pad(at(names), first), plain("  "), pad(at(blocks[0]), column), plain("  "), at(blocks[1])))
	}
}

// each makes the cells of a row from what is known of the nodes.
func each(pair [2]side, f func(side) Line) (cells [2]Line) {
	for i, s := range pair {
		if s.in != nil {
			cells[i] = f(s)
		}
	}
	return cells
}

func (d *drawing) table(pair [2]side) {
	d.first = nameWidth(pair, d.width)
	var head [2]Line
	for i, s := range pair {
		head[i] = say(Heading, s.label)
		switch {
		case s.here && !s.in.Stale:
			head[i] = append(head[i], plain(" (this node)")...)
		case s.in != nil && !s.current():
			head[i] = append(head[i], say(Attention, " as of "+Age(s.age)+" ago")...)
		}
	}
	d.row("", head)
	defer func() { d.dim = [2]bool{} }()
	for i, s := range pair {
		d.dim[i] = !s.current()
	}
	state := [2]Line{d.stateLine(pair[0]), d.stateLine(pair[1])}
	d.row("state", state)
	d.row("why", each(pair, func(s side) Line { return plain(d.because(s.in.Reason, s.in.Detail)) }))
	names, vips := named(pair, func(in *control.Instance) []control.VIP { return in.VIPs }, func(v control.VIP) string { return v.Address })
	for i, name := range names {
		d.row(word(i == 0, "address", ""), each(pair, func(s side) Line { return vipLine(s, vips[index(s, pair)], name) }))
	}
	d.row("gate", each(pair, gateLine))
	d.row("block", each(pair, func(s side) Line { return d.hold(s.in.Block) }))
	d.row("maintenance", each(pair, func(s side) Line { return d.hold(s.in.Maintenance) }))
	d.row("took writes", each(pair, wroteLine))
	d.row("witness", each(pair, d.witnessLine))
	d.row("advertisements", each(pair, d.advertLine))
	d.databases(pair)
	d.section(pair, "checks", "units", "labels")
}

func index(s side, pair [2]side) int {
	if s.here == pair[0].here {
		return 0
	}
	return 1
}

func vipLine(s side, has map[string]control.VIP, address string) Line {
	v, known := has[address]
	switch {
	case !known:
		return nil
	case v.Error != "":
		return join(plain(address+" "), say(Wrong, v.Error))
	case v.Held:
		return join(say(word2(s.active() || s.moving(), Well, Wrong), address), plain(" on "+v.Interface))
	case s.active():
		return join(plain(address), say(Wrong, " MISSING"))
	}
	return say(Faint, "not here")
}

func word2(yes bool, a, b Mood) Mood {
	if yes {
		return a
	}
	return b
}

func gateLine(s side) Line {
	g := s.in.Gate
	if g.Open {
		return say(Well, "open")
	}
	mood := Wrong
	if s.active() {
		mood = Faint // it has the role already
	}
	l := say(mood, "closed")
	for i, r := range g.Reasons {
		if m := gateMood(r.Code); !s.active() {
			mood = m
		}
		if !s.active() { // what is wrong, above, has the rest
			r.Detail = ""
		}
		l = join(l, plain(word(i == 0, ": ", "; ")), say(mood, GateText(r)))
	}
	return l
}

func (d *drawing) hold(h *control.Hold) Line {
	if h == nil {
		return nil
	}
	return say(Attention, holdText(d, *h))
}

// advertLine says what the advertisements are like that a node hears of this instance.
func (d *drawing) advertLine(s side) Line {
	h := s.in.Heartbeat
	if h == nil {
		return nil
	}
	l := plain(h.Auth)
	if !s.active() {
		l = list(l, plain(d.ago(h.LastHeardMS)))
	}
	if h.Proved != nil {
		l = list(l, say(word2(*h.Proved, Well, Wrong), word(*h.Proved, "proved", "NOT PROVED: "+h.Doubt)))
	}
	if h.SecondKey {
		l = list(l, say(Attention, "the other node signs with the second key"))
	}
	return list(l, say(Faint, counts("dropped", h.Dropped)))
}

func (d *drawing) databases(pair [2]side) {
	names, dbs := named(pair, func(in *control.Instance) []control.Database { return in.Databases }, func(db control.Database) string { return db.Name })
	of := func(name string, f func(side, control.Database) Line) [2]Line {
		return each(pair, func(s side) Line {
			if db, has := dbs[index(s, pair)][name]; has {
				return f(s, db)
			}
			return nil
		})
	}
	for _, name := range names {
		d.row(name, of(name, func(s side, db control.Database) Line {
			l := databaseLine(db, s.active())
			if s.moving() {
				l = list(plain(db.Role), plain(known(db.ReadOnly, "read-only", "writable")))
			}
			if age := d.ms(db.AgeMS); db.AgeMS != nil && age > old {
				l = list(l, say(Attention, "seen "+Age(age)+" ago"))
			}
			return l
		}))
		d.row("  threads", of(name, func(_ side, db control.Database) Line { return threadLine(db) }))
		d.row("  lag", of(name, func(_ side, db control.Database) Line { return lagLine(db) }))
		d.row("  position", of(name, func(_ side, db control.Database) Line {
			if db.Position == nil {
				return nil
			}
			return plain(*db.Position)
		}))
		d.row("  error", of(name, func(_ side, db control.Database) Line { return say(Wrong, db.Error) }))
	}
}

func known(b *bool, yes, no string) string {
	if b == nil {
		return ""
	}
	return word(*b, yes, no)
}

// section puts checks, units and labels.
func (d *drawing) section(pair [2]side, checks, units, labels string) {
	names, hs := named(pair, func(in *control.Instance) []control.Health { return in.Health }, func(h control.Health) string { return h.Name })
	d.rows(checks, names, func(at int, name string) Line {
		if h, has := hs[at][name]; has {
			return d.checkLine(h)
		}
		return nil
	})
	names, us := named(pair, func(in *control.Instance) []control.Unit { return in.Units }, func(u control.Unit) string { return u.Name })
	d.rows(units, names, func(at int, name string) Line {
		if u, has := us[at][name]; has {
			return unitLine(u)
		}
		return nil
	})
	names, ls := named(pair, func(in *control.Instance) []control.Label { return in.Labels }, func(l control.Label) string { return l.File + "\x00" + l.Key })
	last := ""
	for _, n := range names {
		file, key, _ := strings.Cut(n, "\x00")
		if file != last {
			d.put(fit(join(plain(labels+" in "), say(Faint, file)), d.width))
			last = file
		}
		var cells [2]Line
		for i := range ls {
			if l, has := ls[i][n]; has {
				cells[i] = labelLine(l)
			}
		}
		d.named(key, cells)
	}
}

// rows puts a title and below it a row for each name.
func (d *drawing) rows(title string, names []string, cell func(at int, name string) Line) {
	if len(names) == 0 {
		return
	}
	d.put(plain(title))
	for _, n := range names {
		d.named(n, [2]Line{cell(0, n), cell(1, n)})
	}
}

// named puts a row of a section, also where neither node has anything to say.
func (d *drawing) named(name string, cells [2]Line) {
	if len(cells[0]) == 0 && len(cells[1]) == 0 {
		cells[0] = say(Faint, "—")
	}
	d.row("  "+name, cells)
}
