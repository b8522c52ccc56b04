package config

import (
	"fmt"
	"net/netip"
	"slices"
)

// Node says which node of the file this host is, and which the other: the one
// with that label; without a label the one whose hostname or label is the
// host's name.
func (f *File) Node(label, hostname string) (self, peer int, err error) {
	labels := f.Nodes[0].Label + " and " + f.Nodes[1].Label
	for i, n := range f.Nodes {
		switch {
		case label != "" && n.Label == label,
			label == "" && hostname != "" && (n.Hostname == hostname || n.Label == hostname):
			return i, 1 - i, nil
		}
	}
	if label != "" {
		return 0, 0, fmt.Errorf("find node %q in %s: the nodes are %s", label, f.Name, labels)
	}
	return 0, 0, fmt.Errorf("find this host, %q, in %s: the nodes are %s; name one with --node, or add hostname: %s to its entry", hostname, f.Name, labels, hostname)
}

// At returns where the value of a path stands, such as instances[0].vips[1],
// nodes.primary.addresses[0] or instances[0].promote[2].unit.start, both from
// 1. For a value that the file leaves to its default it is the nearest mapping
// around it.
func (f *File) At(path string) (line, column int) {
	at := f.src.settle(locate(f.positions, path))
	return at.line, at.column
}

// Given reports whether the file itself has a value at the path.
func (f *File) Given(path string) bool {
	_, ok := f.positions[path]
	return ok
}

// Problem makes a problem found outside, on this host, one at a place of the
// file; see At for the path. In a File that was not parsed it has no place.
func (f *File) Problem(path, message, hint string) Problem {
	if f.src == nil {
		return Problem{File: f.Name, Message: message, Hint: hint}
	}
	return f.src.problem(locate(f.positions, path), message, hint)
}

// CheckSubnets wants each virtual address of an instance inside a subnet of its
// interface. Prefixes are the interface's addresses with their prefix lengths;
// a virtual address among them, held or left behind, is no evidence and is
// passed over.
func (f *File) CheckSubnets(instance int, prefixes []netip.Prefix) Problems {
	in := f.Instances[instance]
	var own []netip.Prefix
	for _, p := range prefixes {
		virtual := func(v netip.Prefix) bool { return v.Addr() == p.Addr() }
		if !slices.ContainsFunc(in.VIPs, virtual) {
			own = append(own, p)
		}
	}
	var problems Problems
	for i, v := range in.VIPs {
		if slices.ContainsFunc(own, func(p netip.Prefix) bool { return p.Masked().Contains(v.Addr()) }) {
			continue
		}
		var subnets []string
		for _, p := range own {
			if p.Addr().Is4() == v.Addr().Is4() {
				subnets = append(subnets, p.Masked().String())
			}
		}
		hint := in.Interface + " has no address of its own: give it one, or name another interface"
		if len(subnets) > 0 {
			hint = fmt.Sprintf("%s is in %s: correct the address or the interface", in.Interface, and(subnets))
		}
		problems = append(problems, f.Problem(fmt.Sprintf("instances[%d].vips[%d]", instance, i),
			fmt.Sprintf("%s is outside every subnet of %s", v.Addr(), in.Interface), hint))
	}
	return problems
}
