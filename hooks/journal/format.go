package journal

// The file is a header, then records one after the other, all integers
// big-endian:
//
//	header  "tanist journal", uint16 version, uint32 CRC32C of the 16 bytes before
//	record  uint32 length of the payload, uint32 CRC32C of the payload, payload
//
// A payload is never empty, so zeros that a crash left are no record.

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
)

// Version is the version of the format.
const Version = 1

// MaxRecord is the longest payload, in bytes.
const MaxRecord = 1 << 20

const (
	magic      = "tanist journal"
	headerSize = len(magic) + 2 + 4
	frameSize  = 4 + 4 // of a record, before its payload
)

const damagedHeader = "the header is damaged"

// castagnoli is the polynomial of CRC32C.
//
//nolint:gochecknoglobals // a table that the standard library makes
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func header() []byte {
	h := binary.BigEndian.AppendUint16([]byte(magic), Version)
	return binary.BigEndian.AppendUint32(h, crc32.Checksum(h, castagnoli))
}

func appendFrame(b, payload []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(payload)))
	b = binary.BigEndian.AppendUint32(b, crc32.Checksum(payload, castagnoli))
	return append(b, payload...)
}

// Damage is a stretch of the file in which nothing could be read.
type Damage struct {
	Offset, Length int64
	Why            string
}

func (d Damage) String() string {
	return fmt.Sprintf("%d bytes at offset %d: %s", d.Length, d.Offset, d.Why)
}

// content is what a file holds.
type content struct {
	records []record
	end     int64    // where the last record ends; the header, where there is none
	damage  []Damage // before the end
	torn    Damage   // after the end: what a crash leaves of a write
	foreign string   // why the file is not to be read at all
}

// record is one that is whole. Its entry is nil where this release cannot read
// the payload.
type record struct {
	frame []byte
	entry *Entry
}

func (c content) entries() (out []Entry, unread int) {
	for _, r := range c.records {
		if r.entry == nil {
			unread++
			continue
		}
		out = append(out, *r.entry)
	}
	return out, unread
}

// scan reads a whole file. Damage that is followed by a whole record lies in the
// middle; damage up to the end of the file is a torn tail.
func scan(data []byte) content {
	var c content
	at, why := scanHeader(data, &c)
	if c.foreign != "" {
		return c
	}
	from := int64(at) // where damage begins, if why says that there is some
	for at < len(data) || why != "" {
		var frame []byte
		if why == "" {
			frame, why = frameAt(data, at)
		}
		if why == "" {
			c.add(int64(at), frame)
			at += len(frame)
			from = int64(at)
			continue
		}
		next := nextFrame(data, at)
		rest := Damage{Offset: from, Length: int64(len(data)) - from, Why: why}
		switch {
		case next < 0 && why == damagedHeader:
			// Nothing says that this ever was a journal; it is not ours to cut.
			c.damage = append(c.damage, rest)
			return c
		case next < 0:
			c.torn = rest
			return c
		}
		c.damage = append(c.damage, Damage{Offset: from, Length: int64(next) - from, Why: why})
		at, why = next, ""
	}
	return c
}

// scanHeader returns where the records begin and what is wrong with the header.
func scanHeader(data []byte, c *content) (at int, why string) {
	want := header()
	switch {
	case len(data) < headerSize && bytes.HasPrefix(want, data):
		if len(data) == 0 {
			return 0, ""
		}
		return 0, "the header is cut short"
	case len(data) >= headerSize && bytes.Equal(data[:headerSize], want):
		c.end = int64(headerSize)
		return headerSize, ""
	case len(data) >= headerSize && bytes.HasPrefix(data, []byte(magic)) &&
		binary.BigEndian.Uint32(data[len(magic)+2:]) == crc32.Checksum(data[:len(magic)+2], castagnoli):
		c.foreign = fmt.Sprintf("it has version %d, this release reads %d", binary.BigEndian.Uint16(data[len(magic):]), Version)
		return 0, ""
	}
	return 0, damagedHeader
}

func (c *content) add(offset int64, frame []byte) {
	r := record{frame: frame}
	if e, err := unmarshal(frame[frameSize:]); err == nil {
		r.entry = &e
	}
	c.records = append(c.records, r)
	c.end = offset + int64(len(frame))
}

// frameAt returns the whole record at an offset, or why there is none.
func frameAt(data []byte, at int) (frame []byte, why string) {
	rest := data[at:]
	if len(rest) < frameSize {
		return nil, "a record is cut short"
	}
	n := int64(binary.BigEndian.Uint32(rest))
	switch {
	case n == 0 || n > MaxRecord:
		return nil, fmt.Sprintf("a record of %d bytes", n)
	case n > int64(len(rest)-frameSize):
		return nil, "a record is cut short"
	}
	frame = rest[:frameSize+n]
	if crc32.Checksum(frame[frameSize:], castagnoli) != binary.BigEndian.Uint32(rest[4:]) {
		return nil, "a record's checksum is wrong"
	}
	return frame, ""
}

// nextFrame returns where the next whole record begins after an offset, or -1.
// What looks like one by chance is no JSON object. Payloads hold no NUL, and the
// length of a record begins with one, so few offsets are tried.
func nextFrame(data []byte, after int) int {
	for at := after + 1; at+frameSize < len(data); at++ {
		if data[at] != 0 {
			continue
		}
		frame, why := frameAt(data, at)
		if why == "" && frame[frameSize] == '{' && json.Valid(frame[frameSize:]) {
			return at
		}
	}
	return -1
}
