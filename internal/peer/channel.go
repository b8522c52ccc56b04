package peer

// A channel is a connection after both ends proved and said who they are. First
// comes the knock (knock.go), then TLS where the cluster has a key (secure.go), and
// inside it a hello of either end, the dialing one first, as a frame of JSON. After
// that, frames go from the dialing end to the other: see frame.go.

import (
	"bufio"
	"context"
	"crypto/hmac"
	"crypto/tls"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// What is said after the knock has a version of its own, the highest that both ends
// know. Fields and items that an end does not know are ignored, so a release needs
// another version only for what the other one must not ignore.
const (
	OldestVersion = 3
	NewestVersion = 3
)

// MaxMessage is the longest message about one instance, in bytes of JSON.
const MaxMessage = 1 << 20

const (
	maxHello      = 4096 // bytes of JSON
	handshakeTime = 2 * time.Second
	// handshakeBytes is how much an end reads of another that is not proved: twice
	// what a handshake takes.
	handshakeBytes = 16 << 10
	readTime       = 5 * time.Second // the other end speaks every failover.TellInterval
	writeTime      = time.Second
)

// hello is what each end says first of what nobody else can read or alter.
type hello struct {
	Node   string `json:"node"`             // label of the speaker
	Peer   string `json:"peer"`             // label of whom it wants to speak with
	Knock  []byte `json:"knock"`            // digest of the knock: what is proved is this connection
	Reason string `json:"reason,omitempty"` // in an answer: why not
	Refuse string `json:"refuse,omitempty"` // and in words
	Items  int    `json:"items,omitempty"`  // up to which kind of item it reads; absent: kindAgain
	Boot   uint64 `json:"boot,omitempty"`   // a random number of its daemon
}

// channel is one end of a connection whose hellos are exchanged. The dialing end
// writes, the other reads.
type channel struct {
	conn   net.Conn
	agreed agreement
	in     *bufio.Reader
	buf    []byte // of the last frame, reused
	reader frameReader
	writer frameWriter
	items  []item // of the frame that is being written, reused
	far    hello  // of the other end
	aside  aside
}

// dialed makes the dialing end's channel of a new connection.
func dialed(conn net.Conn, t terms) (*channel, error) {
	if err := conn.SetDeadline(time.Now().Add(handshakeTime)); err != nil {
		return nil, err
	}
	metered := &meter{Conn: conn, left: handshakeBytes}
	a, err := t.knock(metered)
	if err != nil {
		return nil, err
	}
	secured, err := a.key.secure(metered, clientConfig, tls.Client)
	if err != nil {
		return nil, err
	}
	if err := writeHello(secured, t.hello(a)); err != nil {
		return nil, fmt.Errorf("send hello: %w", err)
	}
	h, err := readHello(secured)
	switch {
	case err != nil:
		return nil, fmt.Errorf("read hello: %w", err)
	case h.Reason != "":
		return nil, refusedThere(h.Reason, h.Refuse)
	}
	if no := t.check(h, a); no != nil {
		return nil, no
	}
	metered.open = true
	return &channel{conn: secured, agreed: a, far: h}, conn.SetDeadline(time.Time{})
}

// answered makes the accepting end's channel. proved is called when the other end
// has shown that it has the key, before anything costs much. numbered is called
// between the dialing end's hello and the answer, when a connection is known to be
// wanted.
func answered(conn net.Conn, t terms, proved func() error, numbered func()) (*channel, error) {
	if err := conn.SetDeadline(time.Now().Add(handshakeTime)); err != nil {
		return nil, err
	}
	metered := &meter{Conn: conn, left: handshakeBytes}
	a, err := t.answerKnock(metered)
	if err != nil {
		return nil, err
	}
	if err := proved(); err != nil {
		return nil, err
	}
	secured, err := a.key.secure(metered, serverConfig, tls.Server)
	if err != nil {
		return nil, err
	}
	h, err := readHello(secured)
	if err != nil {
		return nil, fmt.Errorf("read hello: %w", err)
	}
	answer := t.hello(a)
	if no := t.check(h, a); no != nil {
		answer.Reason, answer.Refuse = no.reason.String(), no.why
		return nil, errors.Join(no, writeHello(secured, answer))
	}
	numbered()
	if err := writeHello(secured, answer); err != nil {
		return nil, fmt.Errorf("answer hello: %w", err)
	}
	metered.open = true
	return &channel{conn: secured, agreed: a, in: bufio.NewReader(secured), far: h}, conn.SetDeadline(time.Time{})
}

func (t terms) hello(a agreement) hello {
	return hello{Node: t.node, Peer: t.peer, Knock: a.digest[:], Items: t.items, Boot: t.boot}
}

// check says why a hello is not wanted.
func (t terms) check(h hello, a agreement) *refusal {
	switch {
	case h.Node != t.peer || h.Peer != t.node:
		return refuse(ReasonLabel, "node %.64q with peer %.64q met node %.64q with peer %.64q", t.node, t.peer, h.Node, h.Peer)
	case !hmac.Equal(h.Knock, a.digest[:]):
		return refuse(ReasonForged, "the hello belongs to another connection")
	}
	return nil
}

// meter bounds what is read of an end before it is open to it.
type meter struct {
	net.Conn
	left int
	open bool // set before anybody else uses the connection
}

func (m *meter) Read(b []byte) (int, error) {
	if m.open {
		return m.Conn.Read(b)
	}
	if m.left <= 0 {
		return 0, refuse(ReasonProtocol, "not this protocol: more than %d bytes before it proved itself", handshakeBytes)
	}
	n, err := m.Conn.Read(b[:min(len(b), m.left)])
	m.left -= n
	return n, err
}

func writeHello(w io.Writer, h hello) error {
	body, err := json.Marshal(h)
	if err != nil {
		return err
	}
	_, err = w.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...))
	return err
}

func readHello(r io.Reader) (h hello, err error) {
	body, err := readFrame(r, nil, maxHello)
	if err != nil {
		return h, err
	}
	if err := json.Unmarshal(body, &h); err != nil {
		return h, &malformed{err}
	}
	return h, nil
}

// readFrame reads one frame of at most limit bytes, into buf where it fits.
func readFrame(r io.Reader, buf []byte, limit uint32) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > limit {
		return nil, &malformed{fmt.Errorf("a frame of %d bytes, more than %d", n, limit)}
	}
	if int(n) > cap(buf) {
		buf = make([]byte, n)
	}
	buf = buf[:n]
	_, err := io.ReadFull(r, buf)
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return buf, err
}

// malformed is a message that is not of this format.
type malformed struct{ error }

func (m *malformed) Unwrap() error { return m.error }

// read returns the next frame, valid until the next read.
func (c *channel) read() ([]byte, error) {
	if err := c.conn.SetReadDeadline(time.Now().Add(readTime)); err != nil {
		return nil, err
	}
	body, err := readFrame(c.in, c.buf, maxFrame)
	if err == nil {
		c.buf = body
	}
	return body, err
}

// write sends one frame, header included, by a deadline. Whoever shortens the
// deadline when ctx ends is not undone by it.
func (c *channel) write(ctx context.Context, frame []byte, by time.Time) error {
	if err := c.conn.SetWriteDeadline(by); err != nil {
		return err
	}
	if last := time.Now().Add(farewell); ctx.Err() != nil && last.Before(by) {
		if err := c.conn.SetWriteDeadline(last); err != nil {
			return err
		}
	}
	_, err := c.conn.Write(frame)
	return err
}
