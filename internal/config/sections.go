package config

// The parts of a configuration one by one, so that two nodes can tell in what
// theirs differ.

import (
	"crypto/sha256"
	"fmt"
	"reflect"
	"strings"
	"unicode"
)

// Sections returns the digest of each part of the file by its place: nodes,
// peer_port, and instances[NAME].KEY for every key that is not at its zero value.
func (f *File) Sections() map[string]string {
	sections := map[string]string{"nodes": digestOf(reflect.ValueOf(f.Nodes)), "peer_port": digestOf(reflect.ValueOf(f.PeerPort))}
	for _, in := range f.Instances {
		v := reflect.ValueOf(in)
		for i := range v.NumField() {
			name := v.Type().Field(i).Name
			if !own(v.Type(), name) && name != "Name" && !v.Field(i).IsZero() {
				sections[fmt.Sprintf("instances[%s].%s", in.Name, keyOf(name))] = digestOf(v.Field(i))
			}
		}
	}
	return sections
}

func digestOf(v reflect.Value) string {
	d := digest{sha256.New()}
	d.write(v)
	return d.sum()
}

// keyOf is the key of the file that a field is read from: PreemptDelay is
// preempt_delay, VIPs is vips.
func keyOf(field string) string {
	var b strings.Builder
	for i, r := range field {
		if i > 0 && unicode.IsUpper(r) && unicode.IsLower(rune(field[i-1])) {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}
