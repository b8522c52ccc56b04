package config

// What lies between the configuration that a daemon runs and the one that it is
// to run, and what of it no running daemon may do: the two nodes never read a file
// at the same instant, so whatever both can reach must not change hands meanwhile.

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"
)

// Diff says which instances a new file adds, changes and removes. One that is in
// none of the lists is the same in both files, wherever it stands.
type Diff struct {
	Added    []int  // in the new file's Instances
	Changed  []Pair // instances of one name
	Removed  []int  // in the old file's Instances
	LogLevel bool
	KeyFile  bool
	HTTP     bool
}

// Pair is one instance in both files.
type Pair struct{ Old, New int }

// Empty reports whether the files say the same.
func (d Diff) Empty() bool { return reflect.DeepEqual(d, Diff{}) }

// Compare returns what turns the running old into the new one. The error is
// Problems: everything that only a restart can change, and everything that cannot
// be done safely in one reload, each at its place in the new file.
func Compare(old, next *File) (Diff, error) {
	d := Diff{LogLevel: old.Log.Level != next.Log.Level, KeyFile: old.KeyFile != next.KeyFile, HTTP: !reflect.DeepEqual(old.HTTP, next.HTTP)}
	for j, in := range next.Instances {
		i := slices.IndexFunc(old.Instances, named(in.Name))
		switch {
		case i < 0:
			d.Added = append(d.Added, j)
		case !reflect.DeepEqual(old.Instances[i], in):
			d.Changed = append(d.Changed, Pair{i, j})
		}
	}
	for i, in := range old.Instances {
		if !slices.ContainsFunc(next.Instances, named(in.Name)) {
			d.Removed = append(d.Removed, i)
		}
	}
	problems := fixed(old, next)
	for _, j := range d.Added {
		if from, renamed := renamed(old, next, d.Removed, j); renamed {
			problems = append(problems, next.Problem(fmt.Sprintf("instances[%d].name", j),
				fmt.Sprintf("instance %s is renamed to %s, which no reload can do", from, next.Instances[j].Name),
				"the journal and the peer know it by its name: keep it, or stop both daemons before the change"))
			continue
		}
		problems = append(problems, moved(old, next, j)...)
	}
	for _, p := range d.Changed {
		problems = append(problems, moved(old, next, p.New)...)
	}
	if len(problems) > 0 {
		return d, problems.sorted()
	}
	return d, nil
}

func named(name string) func(Instance) bool {
	return func(in Instance) bool { return in.Name == name }
}

// has reports whether an instance has a virtual address, whatever its prefix.
func has(in Instance, a netip.Addr) bool {
	return slices.ContainsFunc(in.VIPs, func(v netip.Prefix) bool { return v.Addr() == a })
}

// fixed finds the settings of the node itself that differ.
func fixed(old, next *File) Problems {
	var problems Problems
	for _, s := range []struct {
		path    string
		changed bool
	}{
		{"nodes", !reflect.DeepEqual(old.Nodes, next.Nodes)},
		{"peer_port", old.PeerPort != next.PeerPort},
		{"log.format", old.Log.Format != next.Log.Format},
	} {
		if s.changed {
			problems = append(problems, next.Problem(s.path, s.path+" is not what the daemon runs with, and it cannot change while it runs",
				"put it back and reload, or restart the daemon: first on the standby, then on the other node"))
		}
	}
	return problems
}

// renamed reports whether an added instance is a removed one under another name:
// its VRID and an address of it.
func renamed(old, next *File, removed []int, j int) (from string, ok bool) {
	in := next.Instances[j]
	for _, i := range removed {
		was := old.Instances[i]
		if was.VRID != in.VRID {
			continue
		}
		for _, v := range in.VIPs {
			if has(was, v.Addr()) {
				return was.Name, true
			}
		}
	}
	return "", false
}

// moved finds what an instance of the new file takes from another one of the old.
// Until the other node has read the file too, it may have the same thing active
// under its old name there while this node has it under the new one.
func moved(old, next *File, j int) Problems {
	var problems Problems
	in, at := next.Instances[j], fmt.Sprintf("instances[%d]", j)
	problem := func(path, what, from string) {
		problems = append(problems, next.Problem(at+path, fmt.Sprintf("%s moves from instance %s to %s in one reload", what, from, in.Name),
			fmt.Sprintf("first remove it from %s and reload both nodes, then add it here: in between both could have it", from)))
	}
	for _, was := range old.Instances {
		if was.Name == in.Name {
			continue
		}
		for k, v := range in.VIPs {
			if has(was, v.Addr()) {
				problem(fmt.Sprintf(".vips[%d]", k), "the virtual address "+v.Addr().String(), was.Name)
			}
		}
		if was.VRID == in.VRID && !apart(was, in) {
			problem(".vrid", fmt.Sprintf("the vrid %d", in.VRID), was.Name)
		}
		for k, db := range in.Databases {
			if slices.ContainsFunc(was.Databases, func(d Database) bool { return d.Address == db.Address }) {
				problem(fmt.Sprintf(".databases[%d].address", k), "the database at "+db.Address.String(), was.Name)
			}
		}
		for k, d := range in.Discover {
			if slices.ContainsFunc(was.Discover, func(o Discovery) bool { return o.Rule.Files == d.Rule.Files }) {
				problem(fmt.Sprintf(".discover[%d].files", k), "the discovery in "+d.Rule.Files, was.Name)
			}
		}
	}
	return problems
}
