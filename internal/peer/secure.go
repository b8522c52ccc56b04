package peer

// Both ends prove that they have the cluster key: first by an HMAC, which costs
// next to nothing (see knock.go), then by TLS 1.3, each with an Ed25519 key of its
// own that is derived from the cluster key and its label. The other end derives
// the same and compares, so there is nothing to issue, to copy or to renew.

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"net"
	"time"
)

// Key is a cluster key. Derive returns n bytes that only who has the key can make,
// others for every purpose.
type Key interface {
	Derive(purpose string, n int) ([]byte, error)
}

// maxKeys is how many keys are accepted at once: one, or two while they are changed.
const maxKeys = 2

const (
	purposeID    = "tanist peer link key id"
	purposeKnock = "tanist peer link knock"
	purposeNode  = "tanist peer link node " // and the label
	protocolName = "tanist-link"            // in TLS

	keyIDSize = 8
)

// linkKey is what one cluster key gives to the link.
type linkKey struct {
	id             [keyIDSize]byte // tells keys apart, whatever their place in the files of the two nodes
	knock          []byte
	client, server *tls.Config
}

// secrets are the keys of a link, the preferred one first. They are never changed
// in place.
type secrets struct{ keys []*linkKey }

func deriveAll(keys []Key, node, peer string) (*secrets, error) {
	if len(keys) > maxKeys {
		return nil, fmt.Errorf("%d cluster keys, more than %d", len(keys), maxKeys)
	}
	s := &secrets{}
	for _, k := range keys {
		derived, err := deriveKey(k, node, peer)
		if err != nil {
			return nil, err
		}
		s.keys = append(s.keys, derived)
	}
	return s, nil
}

func deriveKey(k Key, node, peer string) (*linkKey, error) {
	id, err := k.Derive(purposeID, keyIDSize)
	if err != nil {
		return nil, err
	}
	knock, err := k.Derive(purposeKnock, 32)
	if err != nil {
		return nil, err
	}
	own, err := nodeKey(k, node)
	if err != nil {
		return nil, err
	}
	other, err := nodeKey(k, peer)
	if err != nil {
		return nil, err
	}
	certificate, err := certify(own)
	if err != nil {
		return nil, err
	}
	public, ok := other.Public().(ed25519.PublicKey)
	if !ok {
		return nil, errors.New("derive the peer's identity: not an Ed25519 key")
	}
	client := &tls.Config{
		MinVersion: tls.VersionTLS13, MaxVersion: tls.VersionTLS13,
		Certificates:           []tls.Certificate{certificate},
		NextProtos:             []string{protocolName},
		InsecureSkipVerify:     true, //nolint:gosec // VerifyConnection compares the key itself
		VerifyConnection:       func(cs tls.ConnectionState) error { return verify(cs, public) },
		SessionTicketsDisabled: true,
		// A frame in one record is a frame in one segment.
		DynamicRecordSizingDisabled: true,
	}
	server := client.Clone()
	server.ClientAuth = tls.RequireAnyClientCert // and VerifyConnection
	return &linkKey{id: [keyIDSize]byte(id), knock: knock, client: client, server: server}, nil
}

// nodeKey is the identity of a node by its label.
func nodeKey(k Key, label string) (ed25519.PrivateKey, error) {
	seed, err := k.Derive(purposeNode+label, ed25519.SeedSize)
	if err != nil {
		return nil, err
	}
	return ed25519.NewKeyFromSeed(seed), nil
}

// certify wraps a key in the form that TLS wants. Nobody looks at anything in it
// but the key.
func certify(key ed25519.PrivateKey) (tls.Certificate, error) {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "tanist"},
		NotBefore: time.Unix(0, 0).UTC(), NotAfter: time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC),
	}
	der, err := x509.CreateCertificate(nil, template, template, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make a certificate: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}

// verify accepts the end that has proved, in the handshake, to have the private
// key of the wanted public one.
func verify(cs tls.ConnectionState, want ed25519.PublicKey) error {
	if cs.Version != tls.VersionTLS13 || cs.NegotiatedProtocol != protocolName || cs.DidResume {
		return refuse(ReasonTLS, "TLS was agreed on in another way than this link does")
	}
	if len(cs.PeerCertificates) != 1 {
		return refuse(ReasonIdentity, "%d certificates, not one", len(cs.PeerCertificates))
	}
	got, ok := cs.PeerCertificates[0].PublicKey.(ed25519.PublicKey)
	if !ok || subtle.ConstantTimeCompare(got, want) != 1 {
		return refuse(ReasonIdentity, "its certificate is not the one that the cluster key gives to the peer's label")
	}
	return nil
}

// secure makes TLS of a connection whose ends have agreed on a key; without one
// the connection stays as it is.
func (k *linkKey) secure(conn net.Conn, config func(*linkKey) *tls.Config, end func(net.Conn, *tls.Config) *tls.Conn) (net.Conn, error) {
	if k == nil {
		return conn, nil
	}
	c := end(conn, config(k))
	if err := c.Handshake(); err != nil { // by the deadline of conn
		return nil, fmt.Errorf("TLS: %w", err)
	}
	return c, nil
}

func clientConfig(k *linkKey) *tls.Config { return k.client }
func serverConfig(k *linkKey) *tls.Config { return k.server }

// find returns the key of an id.
func (s *secrets) find(id [keyIDSize]byte) *linkKey {
	for _, k := range s.keys {
		if k.id == id {
			return k
		}
	}
	return nil
}

// accepts reports whether a connection that was made under a key, or under none,
// could be made again.
func (s *secrets) accepts(k *linkKey) bool {
	if k == nil {
		return len(s.keys) == 0
	}
	now := s.find(k.id)
	return now != nil && hmac.Equal(now.knock, k.knock)
}

// prefers reports whether it would be made under the same key.
func (s *secrets) prefers(k *linkKey) bool {
	return s.accepts(k) && (k == nil || s.keys[0].id == k.id)
}

// rekeyed ends what was made under a key that is not accepted any more, and has
// the rest made again under the preferred one.
func (p *path) rekeyed(s *secrets) {
	p.mu.Lock()
	if p.incoming != nil && !s.accepts(p.incoming.agreed.key) {
		abort(p.incoming.conn)
	}
	p.mu.Unlock()
	select {
	case p.rekey <- struct{}{}:
	default:
	}
}

// countRefused counts what ended a handshake of the dialing end, and reports false
// where the connection only ended.
func (p *path) countRefused(err error) bool {
	reason := reasonOf(err)
	if reason != 0 {
		p.refusals.note(reason, err)
	}
	return reason != 0
}
