package config

// A digest is of what a configuration means, so that two nodes can tell whether
// theirs mean the same: defaults are filled in, and how the file writes it, its
// order of instances and what a host may have of its own does not count.

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash"
	"reflect"
	"slices"
	"strings"
)

// digestSize is how much of the SHA-256 is kept, in bytes: against mistakes, not
// against somebody who looks for a second file.
const digestSize = 16

// own reports whether a field may differ from node to node: names of hardware, and
// where a host keeps files.
func own(t reflect.Type, field string) bool {
	switch t.Name() + "." + field {
	case "Instance.Interface", "LinkCheck.Interface",
		"Database.PasswordFile", "Discovery.PasswordFile", "ReplicateFrom.PasswordFile",
		"TLS.CA", "TLS.Cert", "TLS.Key", "Address.Engine", "Discovery.Engine":
		return true
	}
	return false
}

// Digest returns the digest of what belongs to no instance: the nodes and the port
// of the link. The log, the HTTP endpoint and the place of the key file are a
// host's own.
func (f *File) Digest() string {
	d := digest{sha256.New()}
	d.write(reflect.ValueOf(f.Nodes))
	d.write(reflect.ValueOf(f.PeerPort))
	return d.sum()
}

// Digest returns the digest of an instance.
func (in *Instance) Digest() string {
	d := digest{sha256.New()}
	d.write(reflect.ValueOf(*in))
	return d.sum()
}

type digest struct{ hash.Hash }

func (d digest) sum() string { return hex.EncodeToString(d.Sum(nil)[:digestSize]) }

func (d digest) number(n uint64) { d.bytes(binary.BigEndian.AppendUint64(nil, n)) }

func (d digest) text(s string) {
	d.number(uint64(len(s)))
	d.bytes([]byte(s))
}

func (d digest) bytes(b []byte) {
	_, _ = d.Write(b) // a hash never fails
}

// write adds a value. Fields of their zero value are left out, so that a release
// with another field agrees with one without it as long as nobody uses it.
func (d digest) write(v reflect.Value) {
	if v.CanInterface() {
		if s, ok := v.Interface().(fmt.Stringer); ok && strings.HasPrefix(v.Type().PkgPath(), "net/") {
			d.text(s.String()) // addresses hide pointers
			return
		}
	}
	switch v.Kind() {
	case reflect.Bool:
		d.number(map[bool]uint64{true: 1}[v.Bool()])
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		d.number(uint64(v.Int()))
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		d.number(v.Uint())
	case reflect.Float64:
		d.text(fmt.Sprint(v.Float()))
	case reflect.String:
		d.text(v.String())
	case reflect.Slice, reflect.Array:
		d.number(uint64(v.Len()))
		for i := range v.Len() {
			d.write(v.Index(i))
		}
	case reflect.Map:
		d.entries(v)
	case reflect.Pointer, reflect.Interface:
		if v.IsNil() {
			d.text("")
			return
		}
		d.text(v.Elem().Type().String())
		d.write(v.Elem())
	case reflect.Struct:
		d.fields(v)
	default:
		d.text(v.Type().String()) // nothing that a file can say
	}
}

func (d digest) fields(v reflect.Value) {
	t := v.Type()
	for i := range t.NumField() {
		if name := t.Field(i).Name; !own(t, name) && !v.Field(i).IsZero() {
			d.text(name)
			d.write(v.Field(i))
		}
	}
	d.text("")
}

func (d digest) entries(v reflect.Value) {
	keys := v.MapKeys()
	slices.SortFunc(keys, func(a, b reflect.Value) int { return strings.Compare(a.String(), b.String()) })
	d.number(uint64(len(keys)))
	for _, k := range keys {
		d.write(k)
		d.write(v.MapIndex(k))
	}
}
