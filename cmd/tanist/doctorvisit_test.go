package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/tanist-ha/tanist/internal/config"
	"github.com/tanist-ha/tanist/internal/doctor"
	"github.com/tanist-ha/tanist/internal/doctor/probe"
	"github.com/tanist-ha/tanist/internal/peer"
)

// A peer that asks for the result of a diagnosis again, or twice at once, gets an
// answer or an error, and this daemon goes on.
func TestDoctorResultAskedAgain(t *testing.T) {
	exchange, err := probe.Open(probe.Config{Token: 7})
	if err != nil {
		t.Fatal(err)
	}
	defer exchange.Close()
	d := &daemon{visits: newVisits()}
	v := newVisit(7, examiner{}, exchange, nil)
	close(v.done)
	d.visits.set(v)
	body, err := json.Marshal(visitRequest{Token: 7})
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			var saw examined
			answer, err := d.serveDoctorResult(t.Context(), body)
			if err == nil {
				err = json.Unmarshal(answer, &saw)
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	select {
	case <-v.fetched:
	default:
		t.Error("nobody was told that the result was fetched")
	}
	d.visits.set(nil)
	if _, err := d.serveDoctorResult(context.Background(), body); err == nil {
		t.Error("a diagnosis that is over was answered")
	}
}

// The peer's findings stand in its own part, whatever it says.
func TestDoctorFindingsOfThePeer(t *testing.T) {
	for _, f := range theirs("reserve", []doctor.Finding{{Node: "primary"}, {Node: "reserve"}, {}}) {
		if f.Node != "reserve" {
			t.Errorf("a finding of the peer's stands in the part of %q", f.Node)
		}
	}
}

// A release that does not know of groups asks without them, and is answered as before;
// one that does is told that this one looks at them, also where it has none.
func TestDoctorOfAnotherRelease(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "tanist.yaml")
	text := strings.Replace(fmt.Sprintf(pairConfig, filepath.Join(dir, "key"), "mode: multicast"), "veth0", "nowhere0", 1)
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	file, err := config.Load(name)
	if err != nil {
		t.Fatal(err)
	}
	d := &daemon{visits: newVisits(), common: &common{config: name}, file: file}
	for _, tt := range []struct {
		name, request, answer, result string
		paths                         int // of the exchange
	}{
		{"without groups", `{"token":7}`, `{}`, `{"findings":null,"running":{"version":"","file":"","sections":null},"sights":null,"claims":null}`, 1},
		{
			"with groups", `{"token":7,"groups":[{"interface":"eth0","local":"192.0.2.11","vrids":"Mw=="}],"of_tomorrow":1}`, `{}`,
			`{"findings":null,"running":{"version":"","file":"","sections":null},"sights":null,"claims":null,"groups":[`, 2,
		},
		{"with too many", `{"token":7,"groups":[` + strings.Repeat(`{"local":"192.0.2.11","vrids":"Mw=="},`, 1000) + `{}]}`, `{}`, `{"findings"`, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			began := make(chan *visit, 1)
			go func() { began <- <-d.visits.wanted }()
			answer, err := d.serveDoctorOpen(t.Context(), []byte(tt.request))
			if err != nil {
				t.Fatal(err)
			}
			v := <-began
			defer v.exchange.Close()
			if diff := cmp.Diff(tt.answer, string(answer)); diff != "" {
				t.Error(diff)
			}
			if got := len(v.exchange.Heard()); got != tt.paths {
				t.Errorf("%d paths, want %d", got, tt.paths)
			}
			result, err := encodeExamined(examined{Groups: v.groups}, false)
			if err != nil || !strings.HasPrefix(string(result), tt.result) {
				t.Errorf("%v: %s", err, result)
			}
		})
	}
}

// What a host of 255 instances on multicast says fits into a call, and comes out as it
// went in; what comes out is bounded.
func TestDoctorResultOfManyInstances(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "tanist.yaml")
	var text strings.Builder
	fmt.Fprintf(&text, pairConfig, filepath.Join(dir, "key"), "mode: multicast")
	for vrid := 1; vrid <= 255; vrid++ {
		if vrid != 51 {
			fmt.Fprintf(&text, "  - {name: instance-%d, interface: veth0, vrid: %d, vips: [198.51.100.%d/23], heartbeat: {mode: multicast}}\n", vrid, vrid, vrid)
		}
	}
	if err := os.WriteFile(name, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	file, err := config.Load(name)
	if err != nil {
		t.Fatal(err)
	}
	x := examiner{common: &common{config: name}, file: file}
	saw := examined{Running: x.running(), Findings: []doctor.Finding{}, Groups: []doctor.Group{}}
	for i, in := range file.Instances {
		hardware := fmt.Sprintf("02:00:00:00:00:%02x", i)
		saw.Claims = append(saw.Claims, doctor.Claim{Instance: in.Name, Interface: in.Interface, Address: vips(in)[0], Hardware: []string{hardware, hardware}, Answers: []string{hardware}})
		saw.Findings = append(saw.Findings, doctor.Finding{Node: "primary", Code: doctor.AddressConfigured, About: in.Name, What: "no network configuration has a virtual address of " + in.Name})
	}
	body, err := encodeExamined(saw, true)
	if err != nil || len(body) > peer.MaxCall {
		t.Fatalf("%v, %d bytes, %d are the most", err, len(body), peer.MaxCall)
	}
	got, err := decodeExamined(body)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(saw, *got, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	plain, err := encodeExamined(examined{Running: doctor.Running{File: name}}, false)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := decodeExamined(plain); err != nil || got.Running.File != name {
		t.Errorf("of an older release: %v", err)
	}
	list := func(n int) string { return `{"groups":[` + strings.Repeat("{},", n-1) + "{}]}" }
	for n, want := range map[int]bool{mostOfEach: true, mostOfEach + 1: false} {
		if got, err := decodeExamined(mustZip(t, json.RawMessage(list(n)))); (err == nil) != want || want && len(got.Groups) != n {
			t.Errorf("a list of %d: %v", n, err)
		}
	}
	for _, text := range []string{`{"groups":[]}`, `{"groups":null}`, `{}`} {
		if got, err := decodeExamined([]byte(text)); err != nil || (got.Groups != nil) != (text == `{"groups":[]}`) {
			t.Errorf("%s: %v: %v", text, err, got.Groups)
		}
	}
	for what, body := range map[string][]byte{
		"a bomb": mustZip(t, strings.Repeat("0", mostExamined+1)), "cut": body[:len(body)/2], "none": {0x1f, 0x8b},
		"no list": []byte(`{"groups":{}}`), "a broken one": []byte(`{"groups":[{]}`),
	} {
		if got, err := decodeExamined(body); err == nil {
			t.Errorf("%s was read: %+v", what, got)
		}
	}
}

// What does not fit is left out from what is fine on, and what else is left out is said.
func TestDoctorResultThatIsTooLong(t *testing.T) {
	long := strings.Repeat("x", 1000)
	for _, tt := range []struct {
		name           string
		problems, fine int
		said           int // to be left out; 0: nothing is said
	}{
		{"all fits", 10, 10, 0},
		{"what is fine goes", 10, 100, 0},
		{"problems go", 100, 0, 50},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var saw examined
			for i := range tt.problems + tt.fine {
				f := doctor.Finding{Code: doctor.VIPNowhere, What: long}
				if i >= tt.fine {
					f.Severity = doctor.Problem
				}
				saw.Findings = append(saw.Findings, f)
			}
			body, err := encodeExamined(saw, false)
			if err != nil || len(body) > peer.MaxCall {
				t.Fatalf("%v, %d bytes", err, len(body))
			}
			got, err := decodeExamined(body)
			if err != nil {
				t.Fatal(err)
			}
			problems, said := 0, ""
			for _, f := range got.Findings {
				switch f.Severity {
				case doctor.Problem:
					problems++
				case doctor.Warning:
					said += f.What
				case doctor.OK:
				}
			}
			if want := fmt.Sprintf("%d more findings", tt.said); problems != tt.problems-tt.said || (tt.said > 0) != strings.HasPrefix(said, want) {
				t.Errorf("%d problems, and %q", problems, said)
			}
		})
	}
}

func mustZip(t *testing.T, v any) []byte {
	t.Helper()
	b, err := zipped(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
