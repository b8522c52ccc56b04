package keepalived

import (
	"slices"
	"strconv"
	"strings"
	"time"
)

func (m *maker) script(d directive) check {
	c := check{at: d.at, name: d.value(), interval: time.Second, rise: 1, fall: 1, user: m.global.user}
	timeout := time.Duration(0)
	for _, d := range d.inner {
		switch d.keyword() {
		case "script":
			c.command = quotedWords(d.value(), true)
			if len(d.words) > 2 {
				m.note(d.at, "script: keepalived passes over what stands behind the first word without quotes: %s", strings.Join(d.words[2:], " "))
			}
		case "interval":
			c.interval = m.seconds(d, time.Second)
		case "timeout":
			timeout = m.seconds(d, 0)
		case "rise":
			c.rise = m.number(d, 1, 1000, 1)
		case "fall":
			c.fall = m.number(d, 1, 1000, 1)
		case "weight":
			c.weight, c.reverse = m.weight(d.at, d.words[1:])
		case "user":
			c.user = d.value()
		case "init_fail":
			m.note(d.at, "init_fail: the first sample after the start decides")
		default:
			m.note(d.at, "%s: not carried over", d.text())
		}
	}
	if c.interval < 10*time.Millisecond {
		c.interval = time.Second
	}
	if c.timeout = c.interval; timeout > 0 {
		c.timeout = timeout
	}
	return c
}

func (m *maker) trackProcess(d directive) check {
	c := check{at: d.at, name: d.value(), interval: time.Second, timeout: time.Second, rise: 1, fall: 1}
	for _, d := range d.inner {
		switch d.keyword() {
		case "process":
			words := quotedWords(strings.Join(d.words[1:], " "), true)
			if len(words) > 0 {
				c.process = words[0][strings.LastIndexByte(words[0], '/')+1:]
			}
			if len(words) > 1 {
				m.note(d.at, "process %s: only the name is looked for, not its parameters", words[0])
			}
		case "weight":
			c.weight, c.reverse = m.weight(d.at, d.words[1:])
		case "quorum":
			if d.value() != "1" {
				m.note(d.at, "%s: one process of that name is enough", d.text())
			}
		default:
			m.note(d.at, "%s: not carried over", d.text())
		}
	}
	return c
}

// weight reads a number and the word reverse.
func (m *maker) weight(at place, words []string) (n int, reverse bool) {
	if len(words) > 0 {
		var err error
		if n, err = strconv.Atoi(words[0]); err != nil {
			m.note(at, "weight %s: not a number; 0 is assumed", strings.Join(words, " "))
		}
	}
	return n, slices.Contains(words, "reverse")
}

// tracking reads what an instance or a group tracks.
func (m *maker) tracking(in *instance, group int, d directive) bool {
	switch d.keyword() {
	case "track_interface":
		for _, l := range d.inner {
			c := check{at: l.at, name: "link-" + l.keyword(), link: l.keyword(), interval: time.Second, timeout: time.Second, rise: 1, fall: 1}
			if i := slices.Index(l.words, "weight"); i >= 0 {
				c.weight, c.reverse = m.weight(l.at, l.words[i+1:])
			}
			m.tracks = append(m.tracks, tracked{at: l.at, instance: in, group: group, name: c.name})
			m.scripts[c.name] = c
		}
	case "track_script", "track_process":
		for _, l := range d.inner {
			t := tracked{at: l.at, instance: in, group: group, name: l.keyword(), process: d.keyword() == "track_process"}
			if i := slices.Index(l.words, "weight"); i >= 0 {
				n, reverse := m.weight(l.at, l.words[i+1:])
				t.weight, t.reverse = &n, reverse
			}
			m.tracks = append(m.tracks, t)
		}
	case "track_file", "track_bfd":
		m.note(d.at, "%s: not carried over: use `tanist switchover`, or a health check of kind file", d.text())
	default:
		return false
	}
	return true
}

// resolve finds what is tracked by name.
func (m *maker) resolve() {
	used := map[string]bool{}
	for _, t := range m.tracks {
		checks := m.scripts
		if t.process {
			checks = m.processes
		}
		c, ok := checks[t.name]
		used[t.name] = true
		note := m.note
		if t.instance != nil {
			note = t.instance.note
		}
		if !ok {
			note(t.at, "%s is tracked and defined nowhere", t.name)
			continue
		}
		if t.weight != nil {
			c.weight, c.reverse = *t.weight, t.reverse
		}
		if c.reverse {
			note(t.at, "%s counts in reverse: write a program that exits with 0 when all is well", t.name)
			continue
		}
		if t.instance != nil {
			t.instance.checks = append(t.instance.checks, c)
		} else {
			m.groups[t.group].checks = append(m.groups[t.group].checks, c)
		}
	}
	for _, all := range []map[string]check{m.scripts, m.processes} {
		for _, name := range sortedKeys(all) {
			if !used[name] {
				m.note(all[name].at, "%s is tracked by nobody and left out", name)
			}
		}
	}
}
