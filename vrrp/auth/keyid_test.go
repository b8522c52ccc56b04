package auth

import (
	"encoding/hex"
	"regexp"
	"testing"
)

func TestKeyID(t *testing.T) {
	keys := testKey(t, 1, 2)
	var ids []string
	for _, k := range keys {
		id, err := k.ID()
		if err != nil || !regexp.MustCompile(`^[0-9a-f]{8}$`).MatchString(id) {
			t.Fatalf("%q, %v", id, err)
		}
		again, _ := k.ID()
		secret := k.secret()
		if again != id || id == hex.EncodeToString(secret[:4]) {
			t.Errorf("%q and %q", id, again)
		}
		ids = append(ids, id)
	}
	if ids[0] == ids[1] {
		t.Errorf("two keys have the ID %s", ids[0])
	}
}
