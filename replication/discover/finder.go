package discover

// What the files say now, and what they said before where they say nothing now,
// become one list without two databases of one name or one address.

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Finder looks for databases again and again. Its methods are not for concurrent
// use.
type Finder struct {
	rules  []rule
	vars   Vars
	others []Found
	now    func() time.Time
}

// rule is a Rule and what was found by it.
type rule struct {
	Rule
	known  map[string]Found // by file
	device uint64           // where the files were, 0 before there were any
}

// Config is what a Finder needs.
type Config struct {
	Rules []Rule
	Vars  Vars
	// Others are the databases that are not found by rules: their names and
	// addresses are taken.
	Others []Found
	Now    func() time.Time // for the age of files; time.Now when nil
}

// New returns a finder that has not looked yet.
func New(c Config) *Finder {
	f := &Finder{vars: c.Vars, others: c.Others, now: c.Now}
	if f.now == nil {
		f.now = time.Now
	}
	for _, r := range c.Rules {
		f.rules = append(f.rules, rule{Rule: r, known: map[string]Found{}})
	}
	return f
}

// Result is what one look found. Found is in the order of the rules, of one rule
// in that of the files' names.
type Result struct {
	Found    []Found
	Problems []Problem
	Files    []int // that match each rule
}

// Look reads all files. It ends soon after ctx, with what was not read then as a
// problem; a file system that hangs can hold it up for longer.
func (f *Finder) Look(ctx context.Context) Result {
	var res Result
	var found []candidate
	for i := range f.rules {
		list, problems, files := f.rules[i].look(ctx, f.vars, f.now())
		for _, p := range problems {
			p.Rule = i
			res.Problems = append(res.Problems, p)
		}
		for _, c := range list {
			c.Rule = i
			found = append(found, c)
		}
		res.Files = append(res.Files, files)
	}
	kept, problems := distinct(f.others, found)
	res.Problems = append(res.Problems, problems...)
	for i := range f.rules {
		f.rules[i].known = map[string]Found{}
	}
	for _, k := range kept {
		f.rules[k.Rule].known[k.File] = k.Found
		res.Found = append(res.Found, k.Found)
	}
	return res
}

// candidate is a database that a file tells of. One that it told of before goes
// first where two want the same name or address.
type candidate struct {
	Found
	before bool
}

func (r *rule) look(ctx context.Context, vars Vars, now time.Time) (found []candidate, problems []Problem, files int) {
	l := list(ctx, r.Files)
	if len(l.files) == 0 && len(l.problems) == 0 && r.device != 0 && l.device != r.device {
		base, _ := split(r.Files)
		l.problem(base, "is on another file system than before, and nothing in it matches")
	}
	if len(l.files) > 0 {
		r.device = l.device
	}
	for _, file := range l.files {
		was, known := r.known[file]
		is, ok, err := r.look1(ctx, file, vars, now)
		switch {
		case errors.Is(err, errGone) && l.device != 0: // since it was listed
		case err != nil:
			problems = append(problems, problemOf(file, err, known))
			if known {
				found = append(found, candidate{was, true})
			}
		case ok:
			found = append(found, candidate{is, known && was.Name == is.Name && was.Address == is.Address})
		}
	}
	if len(l.problems) > 0 {
		found = append(found, r.unlisted(l.files)...)
	}
	return found, append(l.problems, problems...), len(l.files)
}

// look1 looks at one file.
func (r *rule) look1(ctx context.Context, file string, vars Vars, now time.Time) (Found, bool, error) {
	if err := ctx.Err(); err != nil {
		return Found{}, false, fmt.Errorf("was not read: %w", err)
	}
	b, modified, err := content(file)
	if err != nil {
		return Found{}, false, err
	}
	if age := now.Sub(modified); r.format(file) == YAML && age >= 0 && age < rest {
		return Found{}, false, errWriting
	}
	return r.read(file, b, vars)
}

// unlisted are the databases of files that a listing lacks which is not all.
func (r *rule) unlisted(listed []string) []candidate {
	var cs []candidate
	for _, file := range slices.Sorted(maps.Keys(r.known)) {
		if _, is := slices.BinarySearch(listed, file); !is {
			cs = append(cs, candidate{r.known[file], true})
		}
	}
	return cs
}

func problemOf(file string, err error, kept bool) Problem {
	p := Problem{File: file, Message: errnoText(err), Kept: kept}
	if e, ok := errors.AsType[*fieldError](err); ok {
		p.Field, p.Message = e.field, e.message
	}
	return p
}

// distinct leaves out what has the name or the address of another database.
func distinct(others []Found, found []candidate) (kept []candidate, problems []Problem) {
	slices.SortStableFunc(found, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(a.Rule, b.Rule), strings.Compare(a.File, b.File))
	})
	names, addresses := map[string]string{}, map[Address]string{}
	for _, o := range others {
		names[o.Name], addresses[o.Address] = "the database "+o.Name, "the database "+o.Name
	}
	room := MaxDatabases - len(others)
	take := func(c *candidate) {
		p := Problem{Rule: c.Rule, File: c.File}
		if first, taken := names[c.Name]; taken {
			p.Message = fmt.Sprintf("gives the name %s, which %s has", c.Name, first)
		} else if first, taken := addresses[c.Address]; taken {
			p.Message = fmt.Sprintf("gives the address %s, which %s has", c.Address, first)
		} else if room == 0 {
			p.Message = fmt.Sprintf("is one too many: an instance has at most %d databases", MaxDatabases)
		}
		if p.Message != "" {
			problems = append(problems, p)
			return
		}
		room--
		names[c.Name], addresses[c.Address] = c.File, c.File
		kept = append(kept, *c)
	}
	for _, before := range []bool{true, false} {
		for i := range found {
			if found[i].before == before {
				take(&found[i])
			}
		}
	}
	slices.SortStableFunc(kept, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(a.Rule, b.Rule), strings.Compare(a.File, b.File))
	})
	return kept, problems
}
