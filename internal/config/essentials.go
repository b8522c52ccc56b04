package config

// What is left of a file for whoever has only to let go of the service: no plans,
// checks or accounts of others, so that nothing of them is kept a second time.

import (
	"fmt"
	"slices"

	"go.yaml.in/yaml/v4"
)

// Essentials returns the file with nothing but what naming this host, dropping the
// addresses and closing the databases needs. Parse reads it. The bytes must not be changed.
func (f *File) Essentials() ([]byte, error) { return f.src.essentials() }

func essentials(name string, tree *yaml.Node) ([]byte, error) {
	root := kept(tree, "nodes", "docker_socket", "instances")
	for _, in := range sequence(root, "instances") {
		*in = *kept(in, "name", "interface", "vrid", "vips", "lease", "heartbeat", "databases", "discover")
		for _, db := range slices.Concat(sequence(in, "databases"), sequence(in, "discover")) {
			*db = *lacking(db, "replicate_from", "heartbeat_table")
		}
	}
	b, err := yaml.Marshal(root)
	if err != nil {
		return nil, fmt.Errorf("write the essentials of %s: %w", name, err)
	}
	return b, nil
}

// kept is a copy of a tree with only these of its keys.
func kept(n *yaml.Node, keys ...string) *yaml.Node {
	return filtered(n, func(key string) bool { return slices.Contains(keys, key) })
}

func lacking(n *yaml.Node, keys ...string) *yaml.Node {
	return filtered(n, func(key string) bool { return !slices.Contains(keys, key) })
}

func filtered(n *yaml.Node, want func(key string) bool) *yaml.Node {
	to := *n
	to.Content = nil
	for i := 0; i+1 < len(n.Content); i += 2 {
		if want(n.Content[i].Value) {
			to.Content = append(to.Content, copied(n.Content[i]), copied(n.Content[i+1]))
		}
	}
	return &to
}

// copied is without comments, which can hold anything.
func copied(n *yaml.Node) *yaml.Node {
	to := *n
	to.HeadComment, to.LineComment, to.FootComment, to.Content = "", "", "", nil
	for _, c := range n.Content {
		to.Content = append(to.Content, copied(c))
	}
	return &to
}

// sequence returns the elements of the list that a mapping has under a key.
func sequence(n *yaml.Node, key string) []*yaml.Node {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key && n.Content[i+1].Kind == yaml.SequenceNode {
			return n.Content[i+1].Content
		}
	}
	return nil
}
