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

const (
	// mostExamined bounds what comes out of the form of gzip, in bytes: some ten times what
	// 255 instances say.
	mostExamined = 4 << 20
	// mostOfEach bounds each list in it: what takes two bytes in JSON takes hundreds here.
	mostOfEach = 16 << 10
)

// encodeExamined leaves out what is fine where all of it is too long for the link, and if
// it has to leave out more, says so.
func encodeExamined(saw examined, compress bool) ([]byte, error) {
	encode := json.Marshal
	if compress {
		encode = zipped
	}
	body, err := encode(saw)
	worst := slices.Clone(saw.Findings)
	slices.SortStableFunc(worst, func(a, b doctor.Finding) int { return int(b.Severity) - int(a.Severity) })
	for most := len(worst); err == nil && len(body) > peer.MaxCall && most > 0; {
		most /= 2
		saw.Findings = slices.Concat(worst[:most], leftOut(worst[most:]))
		body, err = encode(saw)
	}
	return body, err
}

func leftOut(findings []doctor.Finding) []doctor.Finding {
	n := 0
	for _, f := range findings {
		if f.Severity != doctor.OK {
			n++
		}
	}
	if n == 0 {
		return nil
	}
	return []doctor.Finding{doctor.FromProblems(doctor.CheckFailed, doctor.Warning, "",
		fmt.Sprintf("%d more findings of this node do not fit into a call of the peer link", n), "tanist doctor   # here, which says them all")}
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

// few is a list that is read as far as mostOfEach.
type few[T any] []T

func (f *few[T]) UnmarshalJSON(b []byte) error {
	d := json.NewDecoder(bytes.NewReader(b))
	switch begin, err := d.Token(); {
	case err != nil || begin == nil:
		return err
	case begin != json.Delim('['):
		return fmt.Errorf("%v where a list is due", begin)
	}
	for *f = (few[T]{}); d.More(); {
		if len(*f) == mostOfEach {
			return fmt.Errorf("a list of more than %d", mostOfEach)
		}
		var one T
		if err := d.Decode(&one); err != nil {
			return err
		}
		*f = append(*f, one)
	}
	return nil
}

// UnmarshalJSON reads no more than this host would have said.
func (e *examined) UnmarshalJSON(b []byte) error {
	var of struct {
		Findings few[doctor.Finding] `json:"findings"`
		Running  doctor.Running      `json:"running"`
		Sights   few[doctor.Sight]   `json:"sights"`
		Claims   few[doctor.Claim]   `json:"claims"`
		Groups   few[doctor.Group]   `json:"groups"`
	}
	err := json.Unmarshal(b, &of)
	*e = examined{of.Findings, of.Running, of.Sights, of.Claims, of.Groups}
	return err
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
