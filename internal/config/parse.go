package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"

	"go.yaml.in/yaml/v4"
)

// Defaults of the top level.
const (
	DefaultKeyFile  = "/etc/tanist/cluster.key"
	DefaultPeerPort = 7511
)

// Load reads and parses a file. The error is Problems when the file could be
// read.
func Load(path string) (*File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, MaxSize+1))
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	return Parse(path, data)
}

// Parse turns the bytes of a file into a configuration. The error is Problems:
// all mistakes, or the first when it is one of YAML's syntax.
func Parse(name string, data []byte) (*File, error) {
	text, src, problem := normalise(name, data)
	if problem != nil {
		return nil, Problems{*problem}
	}
	d := newDecoder(src)
	root, problem := tree(text, src)
	if problem != nil {
		return nil, Problems{*problem}
	}
	src.essentials = sync.OnceValues(func() ([]byte, error) { return essentials(name, root) })
	f := d.file(d.value(root, ""))
	if len(d.problems) > 0 {
		all := d.problems.sorted()
		if d.dropped > 0 {
			all = append(all, Problem{File: name, Message: fmt.Sprintf("%d more mistakes are not shown", d.dropped), Hint: "correct those above first"})
		}
		return nil, all
	}
	f.Notices = d.notices.sorted()
	return f, nil
}

// tree is the root of the only document in text.
func tree(text []byte, src *source) (root *yaml.Node, problem *Problem) {
	// The parser is not ours; what it panics on is no configuration.
	defer func() {
		if r := recover(); r != nil {
			root, problem = nil, ptr(src.problem(position{1, 1}, "the file cannot be read as YAML", "look at what was changed last"))
		}
	}()
	loader, err := yaml.NewLoader(bytes.NewReader(text))
	if err != nil {
		return nil, ptr(syntax(err, src))
	}
	for {
		var doc yaml.Node
		switch err := loader.Load(&doc); {
		case errors.Is(err, io.EOF) && root == nil:
			return nil, ptr(src.problem(position{1, 1}, "the file has no configuration", "it needs nodes and instances at least"))
		case errors.Is(err, io.EOF):
			return root, nil
		case err != nil:
			return nil, ptr(syntax(err, src))
		case len(doc.Content) == 0:
		case root != nil:
			return nil, ptr(src.problem(start(doc.Content[0]), "a second document begins here", "one file is one document: remove the line ---"))
		default:
			root = doc.Content[0]
		}
	}
}

// syntax is the parser's error as a Problem.
func syntax(err error, src *source) Problem {
	e, ok := errors.AsType[*yaml.LoadError](err)
	if !ok {
		return src.problem(position{1, 1}, "the file cannot be read as YAML", "look at what was changed last")
	}
	at, message := position{e.Mark.Line, e.Mark.Column}, e.Message
	if open := e.ContextMark; open.Line > 0 && open.Line < e.Mark.Line {
		// What was never closed is found much later: point at its beginning.
		switch e.ContextMsg {
		case "while parsing a flow sequence":
			at, message = position{open.Line, open.Column}, "this [ is not closed with ]"
		case "while parsing a flow mapping":
			at, message = position{open.Line, open.Column}, "this { is not closed with }"
		case "while scanning a quoted scalar":
			at, message = position{open.Line, open.Column}, "this quote is not closed"
		case "while scanning a simple key":
			at, message = position{open.Line, open.Column}, "a colon and a value are missing"
		}
	}
	hint := "look at the indentation, the colons and the brackets here and on the line before"
	switch line := src.line(at.line); {
	case strings.Contains(line[:len(line)-len(strings.TrimLeft(line, " \t"))], "\t"):
		hint = "indent with spaces, not tabs"
	case strings.Contains(line, "{{"):
		hint = `put a template in quotes: "{{.Active}}"`
	}
	return src.problem(at, "not valid YAML: "+message, hint)
}

// file reads the top level.
func (d *decoder) file(v value) *File {
	f := &File{
		Name:     d.src.name,
		KeyFile:  DefaultKeyFile,
		PeerPort: DefaultPeerPort,
		Log:      Log{Level: LevelInfo, Format: FormatAuto},
		Engine:   DefaultEngine,
		src:      d.src, positions: d.positions,
	}
	var labels []string
	v.object("the file",
		need("nodes", func(v value) { f.Nodes, labels = v.nodes() }),
		allow("key_file", func(v value) { f.KeyFile = v.file() }),
		allow("peer_port", func(v value) { f.PeerPort = v.port() }),
		allow("http", func(v value) { f.HTTP = v.http() }),
		allow("log", func(v value) { f.Log = v.log() }),
		allow("docker_socket", func(v value) { f.Engine = v.file() }),
		need("instances", func(v value) { f.Instances = v.instances() }),
	)
	d.checkNodes(f)
	d.checkInstances(f, labels)
	return f
}

// nodes reads the two hosts. Labels are those of the file, right or wrong in
// number.
func (v value) nodes() (nodes [2]Node, labels []string) {
	const hint = "nodes: {primary: {addresses: [192.0.2.11]}, reserve: {addresses: [192.0.2.12]}}"
	list, ok := v.entries("a mapping of labels", hint)
	if !ok {
		return nodes, nil
	}
	for i, e := range list {
		n := Node{Label: e.key}
		if !validName(e.key) {
			v.d.problem(e.pos, fmt.Sprintf("a node cannot be labelled %s", quote(e.key)), nameHint)
		}
		if e.val.missing() {
			v.d.problem(e.pos, fmt.Sprintf("the node %s lacks the key \"addresses\"", quote(e.key)), "write "+e.key+": {addresses: [192.0.2.11]}")
		} else {
			e.val.host(&n)
		}
		if i < len(nodes) {
			nodes[i] = n
		}
		if !slices.Contains(labels, e.key) {
			labels = append(labels, e.key)
		}
	}
	if len(labels) != 2 {
		v.problem(fmt.Sprintf("a pair has exactly two nodes, not %d", len(labels)), hint)
	}
	return nodes, labels
}

// maxPaths bounds the heartbeat paths between two nodes.
const maxPaths = 8

// host reads one host.
func (v value) host(n *Node) {
	v.object("a node",
		need("addresses", func(v value) { n.Addresses = v.addresses() }),
		allow("hostname", func(v value) {
			if s, ok := v.text(); ok && !validHost(s) {
				v.problem(fmt.Sprintf("%s is not a host name", quote(s)), "write what hostname prints on that node")
			} else {
				n.Hostname = s
			}
		}),
	)
}

// addresses reads the paths to one node. A mistaken address keeps its place, as
// the zero Addr, so that counts still compare.
func (v value) addresses() []netip.Addr {
	list, ok := v.list("write addresses: [192.0.2.11]")
	if ok && len(list) == 0 {
		v.problem("a node needs an address", "write addresses: [192.0.2.11]")
	}
	if len(list) > maxPaths {
		list[maxPaths].problem(fmt.Sprintf("a node has at most %d addresses", maxPaths), "keep those on separate networks")
	}
	addrs := make([]netip.Addr, 0, len(list))
	for _, el := range list {
		a, ok := el.address()
		if ok && a.Is6() && a.IsLinkLocalUnicast() {
			el.problem(fmt.Sprintf("%s is link-local: it does not say on which link", a), "use a global or unique local address of the node, or an IPv4 one")
			a = netip.Addr{}
		}
		addrs = append(addrs, a)
	}
	return addrs
}

func (v value) http() *HTTP {
	h := &HTTP{}
	v.object("http", need("listen", func(v value) {
		s, ok := v.text()
		if !ok {
			return
		}
		a, err := netip.ParseAddrPort(s)
		if err != nil || a.Port() == 0 {
			v.problem(fmt.Sprintf("listen must be an address and a port, not %s", quote(s)), "write 127.0.0.1:7512, or 0.0.0.0:7512 for every address")
			return
		}
		h.Listen = a
	}))
	return h
}

func (v value) log() Log {
	l := Log{Level: LevelInfo, Format: FormatAuto}
	v.object("log",
		allow("level", func(v value) { oneOf(v, logLevels(), &l.Level) }),
		allow("format", func(v value) { oneOf(v, logFormats(), &l.Format) }),
	)
	return l
}

// checkNodes compares the two nodes.
func (d *decoder) checkNodes(f *File) {
	paths := [2]string{"nodes." + f.Nodes[0].Label, "nodes." + f.Nodes[1].Label}
	if f.Nodes[1].Label == "" {
		return
	}
	holder := map[netip.Addr]string{}
	for i, n := range f.Nodes {
		for j, a := range n.Addresses {
			at := fmt.Sprintf("%s.addresses[%d]", paths[i], j)
			if first, taken := holder[a]; taken && a.IsValid() {
				d.problem(d.at(at), fmt.Sprintf("the address %s stands twice", a), fmt.Sprintf("first under node %s: every address belongs to one node, once", first))
			}
			holder[a] = n.Label
		}
	}
	a, b := len(f.Nodes[0].Addresses), len(f.Nodes[1].Addresses)
	if a != b && a > 0 && b > 0 {
		d.problem(d.at(paths[1]+".addresses"), fmt.Sprintf("node %s has %d, node %s has %d addresses", f.Nodes[0].Label, a, f.Nodes[1].Label, b),
			"the addresses pair up by position, one pair a path: give both nodes as many")
	}
	for i := range min(a, b) {
		one, two := f.Nodes[0].Addresses[i], f.Nodes[1].Addresses[i]
		if one.IsValid() && two.IsValid() && one.Is4() != two.Is4() {
			d.problem(d.at(fmt.Sprintf("%s.addresses[%d]", paths[1], i)), fmt.Sprintf("%s cannot reach %s, its pair under node %s", two, one, f.Nodes[0].Label),
				"the addresses pair up by position, one pair a path: put them in the same order of families")
		}
	}
	one, two := f.Nodes[0], f.Nodes[1]
	switch {
	case two.Hostname != "" && two.Hostname == one.Hostname:
		d.problem(d.at(paths[1]+".hostname"), fmt.Sprintf("both nodes have the host name %s", quote(two.Hostname)), "write what hostname prints on each")
	case two.Hostname != "" && two.Hostname == one.Label:
		d.problem(d.at(paths[1]+".hostname"), fmt.Sprintf("%s is the other node's label", quote(two.Hostname)), "label the node after its own host, or choose labels that are no host names")
	case one.Hostname != "" && one.Hostname == two.Label:
		d.problem(d.at(paths[0]+".hostname"), fmt.Sprintf("%s is the other node's label", quote(one.Hostname)), "label the node after its own host, or choose labels that are no host names")
	}
}
