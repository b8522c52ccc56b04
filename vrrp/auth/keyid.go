package auth

import (
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
)

// idInfo separates the ID of a cluster key from what else is derived from it.
const idInfo = "tanist cluster key id"

// ID tells the cluster key from others, in 8 hexadecimal digits, and nothing about
// it: whoever finds a key to an ID has found one of very many.
func (k Key) ID() (string, error) {
	secret := k.secret()
	b, err := hkdf.Key(sha256.New, secret[:], nil, idInfo, 4)
	if err != nil {
		return "", fmt.Errorf("derive the key's ID: %w", err)
	}
	return hex.EncodeToString(b), nil
}

// TrailerVersion is the version of the trailer.
const TrailerVersion = trailerVersion
