package peer

import (
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tanist-ha/tanist/internal/failover"
	"github.com/tanist-ha/tanist/replication"
)

// leaves calls f for everything in v that can differ, the lengths of slices and
// whether a pointer is there included, with a function that changes it.
func leaves(v reflect.Value, path string, f func(path string, change func())) {
	if p, ok := v.Addr().Interface().(*replication.Position); ok {
		f(path, func() { *p = replication.PositionOf(replication.GTID{Domain: 9, Server: 9, Sequence: 9}) })
		return
	}
	if b, ok := v.Addr().Interface().(*replication.BinlogState); ok {
		f(path, func() { *b = replication.BinlogState{} })
		return
	}
	if s, ok := v.Addr().Interface().(*replication.SemiSync); ok {
		f(path+".SourceStatus", func() { *s = replication.SemiSync{} })
		f(path+".NoTx", func() { s.NoTx = replication.Known[uint64](9) })
		f(path+".Clients", func() { s.Clients = replication.Unknown[uint64]() })
		f(path+".Waiting", func() { s.Waiting = replication.Unknown[uint64]() })
		f(path+".Patience", func() { s.Patience = replication.Known[time.Duration](9) })
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			leaves(v.Field(i), path+"."+v.Type().Field(i).Name, f)
		}
	case reflect.Slice:
		f(path, func() { v.Set(v.Slice(0, v.Len()-1)) })
		for i := range v.Len() {
			leaves(v.Index(i), fmt.Sprintf("%s[%d]", path, i), f)
		}
	case reflect.Pointer:
		f(path, func() { v.SetZero() })
		if !v.IsNil() { // which the one above may have made it
			leaves(v.Elem(), path, f)
		}
	case reflect.Bool:
		f(path, func() { v.SetBool(!v.Bool()) })
	case reflect.String:
		f(path, func() { v.SetString(v.String() + "!") })
	case reflect.Int64:
		f(path, func() { v.SetInt(v.Int() + 1) })
	default:
		f(path, func() { v.SetUint(v.Uint() + 1) })
	}
}

// A field that a comparison passes over would never reach the peer when it alone
// changes.
func TestEveryChangeIsNoticed(t *testing.T) {
	seen := 0
	var paths []string
	base := full(t)
	leaves(reflect.ValueOf(&base).Elem(), "", func(path string, _ func()) { paths = append(paths, path) })
	for n, path := range paths {
		a, b := full(t), full(t)
		if !sameState(&a, &b) {
			t.Fatal("two equal states differ")
		}
		i := 0
		leaves(reflect.ValueOf(&b).Elem(), "", func(_ string, change func()) {
			if i == n {
				change()
			}
			i++
		})
		vital := path == ".Seq" || path == ".Stamp" || path == ".Echo"
		if sameState(&a, &b) != vital || sameState(&b, &a) != vital {
			t.Errorf("a change of %s: same is %v", path, sameState(&a, &b))
		}
		seen++
	}
	if seen < 60 {
		t.Errorf("only %d fields were changed", seen)
	}
}

// What is compared with later is not what the caller still has in hand.
func TestWhatIsKeptIsNotShared(t *testing.T) {
	caller := full(t)
	kept := keep(&caller)
	if diff := cmp.Diff(caller, kept, same); diff != "" {
		t.Fatalf("it is not the same:\n%s", diff)
	}
	var paths []string
	leaves(reflect.ValueOf(&caller).Elem(), "", func(path string, _ func()) { paths = append(paths, path) })
	for n, path := range paths {
		i := 0
		leaves(reflect.ValueOf(&caller).Elem(), "", func(_ string, change func()) {
			if i == n {
				change()
			}
			i++
		})
		if diff := cmp.Diff(full(t), kept, same); diff != "" {
			t.Fatalf("a change of the caller's %s shows in what was kept:\n%s", path, diff)
		}
		caller = full(t)
		kept = keep(&caller)
	}
}

func TestAStateOfNothingIsNothing(t *testing.T) {
	var a failover.PeerState
	b := keep(&a)
	if !sameState(&a, &b) || b.Give != nil || b.Take != nil || b.Wish != nil || b.Granted != nil {
		t.Errorf("%+v", b)
	}
}
