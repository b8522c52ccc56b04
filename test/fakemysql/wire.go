package fakemysql

// The wire protocol, as little of it as a client of text results needs: version
// 10 handshake, two ways to authenticate, OK, ERR and text rows.

import (
	"bufio"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
)

const (
	capabilities = 0x1 | 0x2 | 0x4 | 0x8 | 0x200 | 0x2000 | 0x8000 | 0x80000 | 0x200000
	autocommit   = 2
	maxPacket    = 1<<24 - 1

	comQuit  = 0x01
	comQuery = 0x03
	comPing  = 0x0e
)

// fault is an error as the server sends it.
type fault struct {
	number uint16
	state  string
	text   string
}

func (f *fault) Error() string { return fmt.Sprintf("%d (%s): %s", f.number, f.state, f.text) }

func faultf(number uint16, state, format string, args ...any) *fault {
	return &fault{number, state, fmt.Sprintf(format, args...)}
}

// result is a table of text; nil is NULL.
type result struct {
	columns []string
	rows    [][]*string
}

// conn is one client's connection. What other connections look at is guarded by
// world.
type conn struct {
	server *Server
	net    net.Conn
	in     *bufio.Reader
	seq    byte

	id       uint64
	user     string
	killed   bool
	lockWait float64 // seconds
	// limit is the statement's max_statement_time in seconds, 0 for none.
	limit         float64
	inTransaction bool
}

func (c *conn) serve() {
	c.in = bufio.NewReader(c.net)
	if !c.server.await() {
		return
	}
	world.Lock()
	refusal := c.server.refusal
	world.Unlock()
	if refusal != nil {
		c.reply(nil, refusal)
		return
	}
	if err := c.authenticate(); err != nil {
		if f, ok := errors.AsType[*fault](err); ok {
			c.reply(nil, f)
		}
		return
	}
	if c.reply(nil, nil) != nil {
		return
	}
	for err := error(nil); err == nil; {
		err = c.command()
	}
}

// command takes one command and answers it.
func (c *conn) command() error {
	c.seq = 0
	packet, err := c.read()
	if err != nil || len(packet) == 0 {
		return io.EOF
	}
	if !c.server.await() {
		return io.EOF
	}
	switch packet[0] {
	case comQuit:
		return io.EOF
	case comPing:
		return c.reply(nil, nil)
	case comQuery:
		r, f := c.run(string(packet[1:]))
		world.Lock()
		killed := c.killed
		world.Unlock()
		if killed {
			return io.EOF
		}
		// The server may have been stopped while the statement ran.
		if !c.server.await() {
			return io.EOF
		}
		return c.reply(r, f)
	default:
		return c.reply(nil, faultf(1047, "08S01", "Unknown command"))
	}
}

func (c *conn) authenticate() error {
	var scramble [20]byte
	if _, err := rand.Read(scramble[:]); err != nil {
		return err
	}
	for i := range scramble {
		scramble[i] = scramble[i]&0x7f | 1 // no zero, which would end it
	}
	plugin := "caching_sha2_password"
	if c.server.config.Native || c.server.kind.mariadb {
		plugin = "mysql_native_password"
	}
	if err := c.write(c.greeting(scramble, plugin)); err != nil {
		return err
	}
	packet, err := c.read()
	if err != nil {
		return err
	}
	user, answer, ok := parseLogin(packet)
	if !ok {
		return faultf(1043, "08S01", "Bad handshake")
	}
	password, known := c.server.config.Accounts[user]
	if !known || subtle.ConstantTimeCompare(answer, expected(plugin, scramble[:], password)) != 1 {
		return faultf(1045, "28000", "Access denied for user '%s'@'localhost' (using password: YES)", user)
	}
	world.Lock()
	c.user = user
	world.Unlock()
	if plugin == "caching_sha2_password" && password != "" {
		return c.write([]byte{1, 3}) // the fast path: the server had the password in its cache
	}
	return nil
}

func (c *conn) greeting(scramble [20]byte, plugin string) []byte {
	version := c.server.config.Version
	if c.server.kind.mariadb && !strings.HasPrefix(version, "5.5.5-") {
		version = "5.5.5-" + version // only here; VERSION() says it without
	}
	p := append([]byte{10}, version...)
	p = append(p, 0)
	p = binary.LittleEndian.AppendUint32(p, uint32(c.id))
	p = append(p, scramble[:8]...)
	p = append(p, 0)
	p = binary.LittleEndian.AppendUint16(p, capabilities&0xffff)
	p = append(p, 45) // utf8mb4
	p = binary.LittleEndian.AppendUint16(p, autocommit)
	p = binary.LittleEndian.AppendUint16(p, capabilities>>16)
	p = append(p, 21)
	p = append(p, make([]byte, 10)...)
	p = append(p, scramble[8:]...)
	p = append(p, 0)
	return append(append(p, plugin...), 0)
}

func parseLogin(p []byte) (user string, answer []byte, ok bool) {
	if len(p) < 33 {
		return "", nil, false
	}
	name, rest, ok := strings.Cut(string(p[32:]), "\x00")
	if !ok || len(rest) == 0 || len(rest) < 1+int(rest[0]) {
		return "", nil, false
	}
	return name, []byte(rest[1 : 1+int(rest[0])]), true
}

// expected is what a client that knows the password answers.
func expected(plugin string, scramble []byte, password string) []byte {
	if password == "" {
		return []byte{}
	}
	if plugin == "mysql_native_password" {
		once := sha1.Sum([]byte(password))
		twice := sha1.Sum(once[:])
		mask := sha1.Sum(append(append([]byte{}, scramble...), twice[:]...))
		return xor(once[:], mask[:])
	}
	once := sha256.Sum256([]byte(password))
	twice := sha256.Sum256(once[:])
	mask := sha256.Sum256(append(twice[:], scramble...))
	return xor(once[:], mask[:])
}

func xor(a, b []byte) []byte {
	out := make([]byte, len(a))
	subtle.XORBytes(out, a, b)
	return out
}

func (c *conn) read() ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(c.in, head[:]); err != nil {
		return nil, err
	}
	n := int(head[0]) | int(head[1])<<8 | int(head[2])<<16
	if n == maxPacket {
		return nil, errors.New("packet is too long for a fake")
	}
	c.seq = head[3] + 1
	p := make([]byte, n)
	_, err := io.ReadFull(c.in, p)
	return p, err
}

func (c *conn) frame(buf, payload []byte) []byte {
	n := len(payload)
	buf = append(buf, byte(n), byte(n>>8), byte(n>>16), c.seq)
	c.seq++
	return append(buf, payload...)
}

func (c *conn) write(payload []byte) error {
	_, err := c.net.Write(c.frame(nil, payload))
	return err
}

// reply sends an error, a table or, without either, OK.
func (c *conn) reply(r *result, f *fault) error {
	switch {
	case f != nil:
		p := binary.LittleEndian.AppendUint16([]byte{0xff}, f.number)
		return c.write(append(append(append(p, '#'), f.state...), f.text...))
	case r == nil:
		return c.write([]byte{0, 0, 0, autocommit, 0, 0, 0})
	}
	eof := []byte{0xfe, 0, 0, autocommit, 0}
	buf := c.frame(nil, lengthEncoded(nil, uint64(len(r.columns))))
	for _, name := range r.columns {
		buf = c.frame(buf, definition(name))
	}
	buf = c.frame(buf, eof)
	for _, row := range r.rows {
		var p []byte
		for _, v := range row {
			if v == nil {
				p = append(p, 0xfb)
				continue
			}
			p = append(lengthEncoded(p, uint64(len(*v))), *v...)
		}
		buf = c.frame(buf, p)
	}
	buf = c.frame(buf, eof)
	_, err := c.net.Write(buf)
	return err
}

// definition describes a column of text.
func definition(name string) []byte {
	var p []byte
	for _, s := range []string{"def", "", "", "", name, name} {
		p = append(lengthEncoded(p, uint64(len(s))), s...)
	}
	p = append(p, 0x0c, 45, 0)
	p = binary.LittleEndian.AppendUint32(p, 1<<16)
	return append(p, 0xfd, 0, 0, 0, 0, 0)
}

func lengthEncoded(p []byte, n uint64) []byte {
	switch {
	case n < 251:
		return append(p, byte(n))
	case n < 1<<16:
		return binary.LittleEndian.AppendUint16(append(p, 0xfc), uint16(n))
	default:
		return append(p, 0xfd, byte(n), byte(n>>8), byte(n>>16))
	}
}
