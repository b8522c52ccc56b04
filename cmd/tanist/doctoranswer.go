package main

// What one daemon saw, as it goes to the other: as JSON, and for one that can read it in
// the form of gzip, without which some 70 instances are more than a call of the link takes.

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"slices"

	"github.com/tanist-ha/tanist/internal/doctor"
	"github.com/tanist-ha/tanist/internal/peer"
)

// mostExamined bounds what comes out of the form of gzip, in bytes: some ten times what
// 255 instances say.
const mostExamined = 4 << 20

// encodeExamined leaves out what is fine where all of it is too long for the link.
func encodeExamined(saw examined, compress bool) ([]byte, error) {
	encode := json.Marshal
	if compress {
		encode = zipped
	}
	body, err := encode(saw)
	for most := len(saw.Findings); err == nil && len(body) > peer.MaxCall && most > 0; most /= 2 {
		worst := slices.Clone(saw.Findings)
		slices.SortStableFunc(worst, func(a, b doctor.Finding) int { return int(b.Severity) - int(a.Severity) })
		saw.Findings = worst[:most/2]
		body, err = encode(saw)
	}
	return body, err
}

func zipped(v any) ([]byte, error) {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	err := json.NewEncoder(w).Encode(v)
	if err == nil {
		err = w.Close()
	}
	return b.Bytes(), err
}

// decodeExamined reads either form.
func decodeExamined(body []byte) (*examined, error) {
	saw := &examined{}
	if !bytes.HasPrefix(body, []byte{0x1f, 0x8b}) { // RFC 1952 §2.3.1
		return saw, json.Unmarshal(body, saw)
	}
	r, err := gzip.NewReader(bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("read what the peer saw: %w", err)
	}
	text, err := io.ReadAll(io.LimitReader(r, mostExamined+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("read what the peer saw: %w", err)
	case len(text) > mostExamined:
		return nil, fmt.Errorf("read what the peer saw: more than %d bytes", mostExamined)
	}
	return saw, json.Unmarshal(text, saw)
}
