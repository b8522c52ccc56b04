package auth

import (
	"encoding/binary"
	"slices"
	"testing"
)

// TestMarks looks where a filter does, whichever key signs.
func TestMarks(t *testing.T) {
	keys := testKey(t, 1, 2)
	v := newVerifier(t, Enforce, keys)
	marks := v.Marks()
	if len(marks) != 2 || marks[0] == marks[1] {
		t.Fatalf("marks %x", marks)
	}
	for i, sign := range [][]Key{keys, {keys[1], keys[0]}} {
		b := seal(t, newSealer(t, 5, sign), srcA, dstA, uint64(i+1), 9)
		tail := b[len(b)-TrailerLen:]
		if binary.BigEndian.Uint32(tail) != TrailerMagic || binary.BigEndian.Uint32(tail[4:])&TrailerMask != marks[i] {
			t.Errorf("trailer %x, marks %x", tail, marks)
		}
		if _, err := v.Open(b, srcA, dstA); err != nil {
			t.Error(err)
		}
	}
	if err := v.Change(Enforce, testKey(t, 3)); err != nil || len(v.Marks()) != 1 || slices.Contains(marks, v.Marks()[0]) {
		t.Errorf("marks %x after a change of the key, %v", v.Marks(), err)
	}
	if err := v.Change(None, nil); err != nil || v.Marks() != nil {
		t.Errorf("marks %x in mode none, %v", v.Marks(), err)
	}
}
