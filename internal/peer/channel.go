package peer

// A channel is a connection after both ends said who they are. The dialing end
// speaks first: eight bytes of magic and version, then its hello. The other end
// answers in the same form, with a reason when it refuses. After that, frames go
// from the dialing end to the other: see frame.go.

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// Version is the major version of the protocol. Ends of two versions refuse each
// other; within one, fields that an end does not know are ignored.
const Version = 2

// MaxMessage is the longest message about one instance, in bytes of JSON.
const MaxMessage = 1 << 20

const (
	magic         = "tanist" // then the version as uint16
	preambleSize  = len(magic) + 2
	maxHello      = 4096 // bytes of JSON
	maxLabel      = 1024
	handshakeTime = 2 * time.Second
	readTime      = 5 * time.Second // the other end speaks every failover.TellInterval
	writeTime     = time.Second
)

// hello is what each end says first.
type hello struct {
	Node   string `json:"node"`             // label of the speaker
	Peer   string `json:"peer"`             // label of whom it wants to speak with
	Refuse string `json:"refuse,omitempty"` // in an answer: why not
	Items  int    `json:"items,omitempty"`  // up to which kind of item it reads; absent: kindAgain
	Boot   uint64 `json:"boot,omitempty"`   // a random number of its daemon
}

func (c Config) hello() hello {
	return hello{Node: c.Node, Peer: c.Peer, Items: lastKind, Boot: c.boot}
}

// refusal is a hello that the other end, or this one, does not accept.
type refusal struct{ why string }

func (r *refusal) Error() string { return "refused: " + r.why }

// channel is one end of a connection whose hellos are exchanged. The dialing end
// writes, the other reads.
type channel struct {
	conn   net.Conn
	in     *bufio.Reader
	buf    []byte // of the last frame, reused
	reader frameReader
	writer frameWriter
	items  []item // of the frame that is being written, reused
	far    hello  // of the other end
	aside  aside
}

// dialed makes the dialing end's channel of a new connection.
//
// Nothing proves yet who is at the other end. Whatever will (TLS 1.3 with keys of
// the cluster) wraps conn at the top of dialed and answered, the only two places
// where a bare connection becomes a channel; the hello then goes inside.
func dialed(conn net.Conn, cfg Config) (*channel, error) {
	if err := conn.SetDeadline(time.Now().Add(handshakeTime)); err != nil {
		return nil, err
	}
	if err := writeHello(conn, cfg.hello()); err != nil {
		return nil, fmt.Errorf("send hello: %w", err)
	}
	version, err := readVersion(conn)
	if err != nil {
		return nil, fmt.Errorf("read hello: %w", err)
	}
	if version != Version {
		return nil, versionRefusal(version)
	}
	h, err := readHello(conn)
	switch {
	case err != nil:
		return nil, fmt.Errorf("read hello: %w", err)
	case h.Refuse != "":
		return nil, &refusal{why: fmt.Sprintf("the peer says %.200q", h.Refuse)}
	}
	if err := checkLabels(h, cfg); err != nil {
		return nil, err
	}
	return &channel{conn: conn, far: h}, conn.SetDeadline(time.Time{})
}

// answered makes the accepting end's channel. numbered is called between the
// dialing end's hello and the answer, when a connection is known to be wanted.
func answered(conn net.Conn, cfg Config, numbered func()) (*channel, error) {
	if err := conn.SetDeadline(time.Now().Add(handshakeTime)); err != nil {
		return nil, err
	}
	h, err := readWanted(conn, cfg)
	if err != nil {
		var no *refusal
		if errors.As(err, &no) {
			// The other end is told so that its operator reads why.
			err = errors.Join(err, writeHello(conn, hello{Node: cfg.Node, Peer: cfg.Peer, Refuse: no.why}))
		}
		return nil, err
	}
	numbered()
	if err := writeHello(conn, cfg.hello()); err != nil {
		return nil, fmt.Errorf("answer hello: %w", err)
	}
	return &channel{conn: conn, in: bufio.NewReader(conn), far: h}, conn.SetDeadline(time.Time{})
}

// readWanted reads the dialing end's hello and says why it is not wanted.
func readWanted(conn net.Conn, cfg Config) (h hello, err error) {
	version, err := readVersion(conn)
	if err != nil {
		return h, fmt.Errorf("read hello: %w", err)
	}
	if version != Version {
		return h, versionRefusal(version)
	}
	if h, err = readHello(conn); err != nil {
		return h, fmt.Errorf("read hello: %w", err)
	}
	return h, checkLabels(h, cfg)
}

func versionRefusal(version uint16) error {
	return &refusal{why: fmt.Sprintf("link version %d at the one end, %d at the other", Version, version)}
}

func checkLabels(h hello, cfg Config) error {
	if h.Node == cfg.Peer && h.Peer == cfg.Node {
		return nil
	}
	return &refusal{why: fmt.Sprintf("node %.64q with peer %.64q met node %.64q with peer %.64q", cfg.Node, cfg.Peer, h.Node, h.Peer)}
}

func writeHello(w io.Writer, h hello) error {
	body, err := json.Marshal(h)
	if err != nil {
		return err
	}
	b := append(make([]byte, 0, preambleSize+4+len(body)), magic...)
	b = binary.BigEndian.AppendUint16(b, Version)
	b = binary.BigEndian.AppendUint32(b, uint32(len(body)))
	_, err = w.Write(append(b, body...))
	return err
}

func readVersion(r io.Reader) (uint16, error) {
	var b [preambleSize]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return 0, err
	}
	if string(b[:len(magic)]) != magic {
		return 0, errors.New("not this protocol")
	}
	return binary.BigEndian.Uint16(b[len(magic):]), nil
}

func readHello(r io.Reader) (h hello, err error) {
	body, err := readFrame(r, nil, maxHello)
	if err != nil {
		return h, err
	}
	return h, json.Unmarshal(body, &h)
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
