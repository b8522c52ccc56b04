package peer

// Before anything costs much, the dialing end knocks. Either end greets at once;
// the listening one adds a challenge, which the knock has to answer:
//
//	greeting  := magic(6) format(2)
//	challenge := greeting min(2) max(2) nonce(32)
//	knock     := greeting length(2) body
//	body      := min(2) max(2) nonce(32) node peer count(1) count × (id(8) proof(32))
//	verdict   := length(2) reason version(2) id(8) why proof(32)
//
// Integers are big-endian; node, peer, reason and why are texts behind their
// length as unsigned varint. A proof is an HMAC-SHA256 over which end speaks, both
// addresses, and everything said before it, so it fits this connection, this path
// and this direction alone. In the verdict, no reason means welcome; id is the key
// that the listening end chose of those offered, zero where neither end has one.

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
)

const (
	magic = "tanist"
	// format is of the knock. An end of another one cannot be answered.
	format = 3

	greetingSize  = len(magic) + 2
	nonceSize     = 32
	proofSize     = sha256.Size
	challengeSize = greetingSize + 4 + nonceSize
	maxKnock      = 2*(maxLabel+binary.MaxVarintLen16) + 128
	maxVerdict    = 1024
	maxWhy        = 512
	maxLabel      = 1024
)

// versions is a range of versions of what is said after the knock.
type versions struct{ min, max uint16 }

func (v versions) String() string {
	if v.min == v.max {
		return fmt.Sprint(v.min)
	}
	return fmt.Sprintf("%d to %d", v.min, v.max)
}

// common returns the highest version of both ranges, 0 for none.
func (v versions) common(o versions) uint16 {
	if best := min(v.max, o.max); best >= max(v.min, o.min) {
		return best
	}
	return 0
}

// terms is what one end brings to a connection.
type terms struct {
	node, peer    string // labels
	local, remote netip.Addr
	versions      versions
	secrets       *secrets
	boot          uint64 // see Config
	items         int    // see Config
}

// agreement is what both ends have after the knock.
type agreement struct {
	version uint16
	key     *linkKey          // nil: neither end has one
	digest  [sha256.Size]byte // of all that was said
}

// knocked is the body of a knock.
type knocked struct {
	versions   versions
	nonce      [nonceSize]byte
	node, peer string
	offers     []offer
}

type offer struct {
	id    [keyIDSize]byte
	proof [proofSize]byte
}

// unproved is the body without the offers, which the proofs are about.
func (k *knocked) unproved() []byte {
	b := binary.BigEndian.AppendUint16(nil, k.versions.min)
	b = binary.BigEndian.AppendUint16(b, k.versions.max)
	b = append(b, k.nonce[:]...)
	b = appendText(b, k.node)
	return appendText(b, k.peer)
}

func (k *knocked) body() []byte {
	b := append(k.unproved(), byte(len(k.offers)))
	for _, o := range k.offers {
		b = append(b, o.id[:]...)
		b = append(b, o.proof[:]...)
	}
	return b
}

var errKnock = refuse(ReasonProtocol, "not this protocol: what should be a knock is none")

func parseKnock(body []byte) (*knocked, error) {
	p := parser{b: body}
	k := &knocked{versions: versions{p.uint16(), p.uint16()}}
	copy(k.nonce[:], p.bytes(nonceSize))
	k.node, k.peer = p.text(maxLabel), p.text(maxLabel)
	n := p.byte()
	if n > maxKeys {
		return nil, errKnock
	}
	for range n {
		var o offer
		copy(o.id[:], p.bytes(keyIDSize))
		copy(o.proof[:], p.bytes(proofSize))
		k.offers = append(k.offers, o)
	}
	if p.short || k.versions.min > k.versions.max || !bytes.Equal(k.body(), body) {
		return nil, errKnock
	}
	return k, nil
}

// verdict is the answer to a knock.
type verdict struct {
	reason, why string
	version     uint16
	id          [keyIDSize]byte
	proof       [proofSize]byte
}

func (v *verdict) unproved() []byte {
	b := appendText(nil, v.reason)
	b = binary.BigEndian.AppendUint16(b, v.version)
	b = append(b, v.id[:]...)
	return appendText(b, v.why[:min(len(v.why), maxWhy)])
}

func (v *verdict) body() []byte { return append(v.unproved(), v.proof[:]...) }

func parseVerdict(body []byte) (*verdict, error) {
	p := parser{b: body}
	v := &verdict{reason: p.text(maxWhy), version: p.uint16()}
	copy(v.id[:], p.bytes(keyIDSize))
	v.why = p.text(maxWhy)
	copy(v.proof[:], p.bytes(proofSize))
	if p.short || !bytes.Equal(v.body(), body) {
		return nil, refuse(ReasonProtocol, "not this protocol: what should be a verdict is none")
	}
	return v, nil
}

// knock is the dialing end's part.
func (t terms) knock(conn net.Conn) (a agreement, err error) {
	if _, err := conn.Write(greeting()); err != nil {
		return a, fmt.Errorf("knock: %w", err)
	}
	challenge, theirs, err := readChallenge(conn)
	if err != nil {
		return a, fmt.Errorf("read challenge: %w", err)
	}
	k := knocked{versions: t.versions, node: t.node, peer: t.peer}
	_, _ = rand.Read(k.nonce[:]) // never fails
	spoken := append(t.spoken(true, challenge), k.unproved()...)
	for _, key := range t.secrets.keys {
		k.offers = append(k.offers, offer{key.id, prove(key, dialingEnd, spoken)})
	}
	said := framed(k.body())
	if _, err := conn.Write(said); err != nil {
		return a, fmt.Errorf("knock: %w", err)
	}
	body, err := readShort(conn, maxVerdict)
	if err != nil {
		return a, fmt.Errorf("read verdict: %w", err)
	}
	v, err := parseVerdict(body)
	switch {
	case err != nil:
		return a, err
	case v.reason != "":
		return a, refusedThere(v.reason, v.why)
	}
	return t.accept(v, append(t.spoken(true, challenge), said...), body, theirs)
}

// accept checks a verdict that welcomes. spoken is all that was said before it.
func (t terms) accept(v *verdict, spoken, body []byte, theirs versions) (a agreement, err error) {
	a = agreement{version: v.version, key: t.secrets.find(v.id)}
	switch {
	case len(t.secrets.keys) == 0 && v.id == [keyIDSize]byte{}:
	case a.key == nil:
		return a, refuse(ReasonForged, "the peer chose a key that was not offered")
	default:
		proof := prove(a.key, listeningEnd, append(slices.Clone(spoken), v.unproved()...))
		if !hmac.Equal(proof[:], v.proof[:]) {
			return a, refuse(ReasonForged, "the peer's answer does not prove that it has the key: somebody alters it, or addresses are translated on the way")
		}
	}
	if v.version != t.versions.common(theirs) {
		return a, refuse(ReasonVersion, "the peer chose version %d of %v here and %v there", v.version, t.versions, theirs)
	}
	a.digest = sha256.Sum256(append(spoken, body...))
	return a, nil
}

// answerKnock is the listening end's part. The other end is told why it is refused.
func (t terms) answerKnock(conn net.Conn) (a agreement, err error) {
	challenge := t.challenge()
	if _, err := conn.Write(challenge); err != nil {
		return a, fmt.Errorf("challenge: %w", err)
	}
	body, err := readKnock(conn)
	var k *knocked
	if err == nil {
		k, err = parseKnock(body)
	}
	if err == nil {
		a, err = t.judge(k, append(t.spoken(false, challenge), k.unproved()...))
	}
	var no *refusal
	switch {
	case errors.As(err, &no):
		v := verdict{reason: no.reason.String(), why: no.why}
		_, writeErr := conn.Write(framed(v.body()))
		return a, errors.Join(err, writeErr)
	case err != nil:
		return a, fmt.Errorf("read knock: %w", err)
	}
	v, spoken := verdict{version: a.version}, append(t.spoken(false, challenge), framed(body)...)
	if a.key != nil {
		v.id = a.key.id
		v.proof = prove(a.key, listeningEnd, append(slices.Clone(spoken), v.unproved()...))
	}
	answer := v.body()
	a.digest = sha256.Sum256(append(spoken, answer...))
	if _, err := conn.Write(framed(answer)); err != nil {
		return a, fmt.Errorf("answer the knock: %w", err)
	}
	return a, nil
}

// judge says whether who knocked is the peer. spoken is what it proves.
func (t terms) judge(k *knocked, spoken []byte) (a agreement, err error) {
	switch {
	case len(t.secrets.keys) == 0 && len(k.offers) > 0:
		return a, refuse(ReasonNoKeyHere, "node %.64q has no cluster key and %.64q has: key_file is missing in the configuration of %.64q", t.node, k.node, t.node)
	case len(t.secrets.keys) > 0 && len(k.offers) == 0:
		return a, refuse(ReasonNoKeyThere, "node %.64q has no cluster key and %.64q has: key_file is missing in the configuration of %.64q", k.node, t.node, k.node)
	case len(k.offers) > 0:
		if a.key, err = t.proved(k, spoken); err != nil {
			return a, err
		}
	}
	if a.version = t.versions.common(k.versions); a.version == 0 {
		return a, refuse(ReasonVersion, "node %.64q speaks link version %v, node %.64q %v", t.node, t.versions, k.node, k.versions)
	}
	if k.node != t.peer || k.peer != t.node {
		return a, refuse(ReasonLabel, "node %.64q with peer %.64q met node %.64q with peer %.64q", t.node, t.peer, k.node, k.peer)
	}
	return a, nil
}

// proved returns the first key of the other end's that is also one of this end's,
// and by which it proved itself.
func (t terms) proved(k *knocked, spoken []byte) (*linkKey, error) {
	no := refuse(ReasonWrongKey, "the nodes have different cluster keys: copy key_file from one to the other")
	for _, o := range k.offers {
		key := t.secrets.find(o.id)
		if key == nil {
			continue
		}
		proof := prove(key, dialingEnd, spoken)
		if hmac.Equal(proof[:], o.proof[:]) {
			return key, nil
		}
		no = refuse(ReasonForged, "the proof does not fit this connection: it is replayed or altered, or addresses are translated on the way")
	}
	return nil, no
}

// Which end speaks, so that nothing of one end's can be held out to itself.
const (
	dialingEnd   = "tanist peer link: the dialing end\x00"
	listeningEnd = "tanist peer link: the listening end\x00"
)

func prove(k *linkKey, end string, spoken []byte) (proof [proofSize]byte) {
	mac := hmac.New(sha256.New, k.knock)
	_, _ = mac.Write([]byte(end)) // a hash returns no errors
	_, _ = mac.Write(spoken)
	mac.Sum(proof[:0])
	return proof
}

// spoken begins what proofs are about: the addresses, that of the dialing end
// first, and the challenge.
func (t terms) spoken(dialing bool, challenge []byte) []byte {
	from, to := t.local, t.remote
	if !dialing {
		from, to = to, from
	}
	var b []byte
	for _, a := range []netip.Addr{from, to} {
		sixteen := a.As16()
		b = append(b, sixteen[:]...)
	}
	return append(b, challenge...)
}

func greeting() []byte { return binary.BigEndian.AppendUint16([]byte(magic), format) }

func (t terms) challenge() []byte {
	b := binary.BigEndian.AppendUint16(greeting(), t.versions.min)
	b = binary.BigEndian.AppendUint16(b, t.versions.max)
	var nonce [nonceSize]byte
	_, _ = rand.Read(nonce[:]) // never fails
	return append(b, nonce[:]...)
}

func readChallenge(r io.Reader) (challenge []byte, theirs versions, err error) {
	b := make([]byte, challengeSize)
	if err := readGreeting(r, b[:greetingSize]); err != nil {
		return nil, theirs, err
	}
	if _, err := io.ReadFull(r, b[greetingSize:]); err != nil {
		return nil, theirs, err
	}
	p := parser{b: b[greetingSize:]}
	return b, versions{p.uint16(), p.uint16()}, nil
}

func readKnock(r io.Reader) ([]byte, error) {
	if err := readGreeting(r, make([]byte, greetingSize)); err != nil {
		return nil, err
	}
	return readShort(r, maxKnock)
}

func readGreeting(r io.Reader, b []byte) error {
	if _, err := io.ReadFull(r, b); err != nil {
		return err
	}
	if string(b[:len(magic)]) != magic {
		return refuse(ReasonProtocol, "not this protocol")
	}
	if other := binary.BigEndian.Uint16(b[len(magic):]); other != format {
		return refuse(ReasonVersion, "link format %d at the one end, %d at the other: two releases that are too far apart", format, other)
	}
	return nil
}

// framed puts the length before a short body.
func framed(body []byte) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(body))), body...)
}

func readShort(r io.Reader, limit int) ([]byte, error) {
	var head [2]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n := int(binary.BigEndian.Uint16(head[:]))
	if n > limit {
		return nil, refuse(ReasonProtocol, "not this protocol: %d bytes where %d are the most", n, limit)
	}
	body := make([]byte, n)
	_, err := io.ReadFull(r, body)
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return body, err
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func (p *parser) uint16() uint16 {
	b := p.bytes(2)
	if len(b) < 2 {
		return 0
	}
	return binary.BigEndian.Uint16(b)
}

// text takes at most limit bytes.
func (p *parser) text(limit uint64) string {
	n := p.uvarint()
	if n > limit {
		p.fail()
	}
	return string(p.bytes(n))
}
