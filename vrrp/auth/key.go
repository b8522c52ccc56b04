package auth

import (
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

const (
	// KeyLen is the length of a cluster key in bytes.
	KeyLen = 32
	// MaxKeys is how many keys a key file holds: one, or two while they are
	// being changed.
	MaxKeys = 2

	keyIDLen = 2
	// deriveInfo separates what is derived here from any other use of the
	// cluster key, and one version of the trailer from the next.
	deriveInfo    = heartbeatPart + "1\x00"
	heartbeatPart = "tanist heartbeat "
)

// Key is one cluster key. It prints as a placeholder: a key must not get into a
// log or an error. Printing whatever contains it does not ask Format; of a
// function it shows no more than an address.
type Key struct{ secret func() [KeyLen]byte }

// Format hides the key from every verb.
func (Key) Format(s fmt.State, _ rune) { _, _ = fmt.Fprint(s, "[key]") }

// Equal reports whether two lists are the same keys in the same order. It takes as
// long for any two lists of one length.
func Equal(a, b []Key) bool {
	same := len(a) == len(b)
	for i := range min(len(a), len(b)) {
		one, other := a[i].secret(), b[i].secret()
		same = subtle.ConstantTimeCompare(one[:], other[:]) == 1 && same
	}
	return same
}

// Derive returns n bytes that only who has the key can make, others for every
// purpose. A purpose begins with "tanist " and the name of its part; the
// heartbeat's is not to be had.
func (k Key) Derive(purpose string, n int) ([]byte, error) {
	switch {
	case k.secret == nil:
		return nil, errors.New("the cluster key is empty")
	case purpose == "" || strings.HasPrefix(purpose, heartbeatPart):
		return nil, fmt.Errorf("derive a key for %q: not a purpose of its own", purpose)
	}
	secret := k.secret()
	b, err := hkdf.Key(sha256.New, secret[:], nil, purpose, n)
	if err != nil {
		return nil, fmt.Errorf("derive a key for %q: %w", purpose, err)
	}
	return b, nil
}

// ParseKeys reads a key file: one key, or two, each a line of 64 hexadecimal
// digits. The first signs; both are accepted. Errors name lines, never content.
func ParseKeys(file []byte) ([]Key, error) {
	text := strings.TrimSuffix(string(file), "\n")
	if text == "" {
		return nil, errors.New("read cluster key: the file is empty")
	}
	lines := strings.Split(text, "\n")
	if len(lines) > MaxKeys {
		return nil, fmt.Errorf("read cluster key: %d lines, not one key or two", len(lines))
	}
	var keys []Key
	for i, line := range lines {
		key, err := parseKey(line)
		if err != nil {
			return nil, fmt.Errorf("read cluster key, line %d: %w", i+1, err)
		}
		keys = append(keys, key)
	}
	if len(keys) == MaxKeys && keys[0].secret() == keys[1].secret() {
		return nil, errors.New("read cluster key: both lines are the same key")
	}
	return keys, nil
}

func parseKey(line string) (Key, error) {
	line = strings.TrimSuffix(line, "\r")
	if len(line) != hex.EncodedLen(KeyLen) {
		return Key{}, fmt.Errorf("%d characters, not %d", len(line), hex.EncodedLen(KeyLen))
	}
	var secret [KeyLen]byte
	if _, err := hex.Decode(secret[:], []byte(line)); err != nil {
		return Key{}, errors.New("not hexadecimal digits") // the cause would quote one
	}
	if secret == [KeyLen]byte{} {
		return Key{}, errors.New("nothing but zeros")
	}
	return Key{secret: func() [KeyLen]byte { return secret }}, nil
}

// Instance names the virtual router that keys are derived for, so that an
// advertisement of one proves nothing to another.
type Instance struct {
	VRID uint8  // 1..255
	Name string // not empty
}

// derived is the key of one instance.
type derived struct {
	secret [sha256.Size]byte
	// id tells which key sealed a trailer, whatever its place in the key files
	// of the two nodes. Two keys share one in 65,536 cases.
	id uint16
}

func derive(keys []Key, in Instance) ([]derived, error) {
	switch {
	case in.VRID == 0:
		return nil, errors.New("VRID 0 is not in 1..255")
	case in.Name == "":
		return nil, errors.New("the instance has no name")
	case len(keys) < 1 || len(keys) > MaxKeys:
		return nil, fmt.Errorf("%d cluster keys, not one or two", len(keys))
	}
	var out []derived
	for _, k := range keys {
		if k.secret == nil {
			return nil, errors.New("the cluster key is empty")
		}
		// The name comes last, so no two instances share an info string.
		info := deriveInfo + string([]byte{in.VRID}) + in.Name
		secret := k.secret()
		b, err := hkdf.Key(sha256.New, secret[:], nil, info, sha256.Size+keyIDLen)
		if err != nil {
			return nil, fmt.Errorf("derive the instance's key: %w", err)
		}
		out = append(out, derived{
			secret: [sha256.Size]byte(b), id: binary.BigEndian.Uint16(b[sha256.Size:]),
		})
	}
	return out, nil
}
