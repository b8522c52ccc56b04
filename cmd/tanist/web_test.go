package main

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tanist-ha/tanist/internal/control"
)

// fetched gets a URL from a daemon of this machine.
func fetched(t *testing.T, url string) (status int, body string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

func wantAnswer(t *testing.T, url string, status int, part string) {
	t.Helper()
	if got, body := fetched(t, url); got != status || !strings.Contains(body, part) {
		t.Errorf("%s: %d %s, want %d with %q", url, got, body, status, part)
	}
}

// A whole daemon answers over HTTP, and a reload moves where.
func TestWebOfADaemon(t *testing.T) {
	if !inside(t) {
		return
	}
	veth(t, "veth0", "veth1", "192.0.2.11/24")
	first := "http: {listen: 127.0.0.1:7512}\n"
	head := func(http string) string { return http + strings.TrimPrefix(reloadHead, "\n") }
	r, args := prepareReloadRig(t, "primary", instanceA)
	r.write(head(first) + instanceA)
	r.daemon = startTanist(t, args...)
	const at = "http://127.0.0.1:7512"
	eventually(t, "an answer", func() bool { status, _ := fetched(t, at+"/status"); return status == http.StatusOK })
	eventually(t, "the role", func() bool { status, _ := fetched(t, at+"/active"); return status == http.StatusOK })
	if got := tanist(t, "check-master", "--socket", filepath.Join(filepath.Dir(r.file), "s")); got.code != masterActive {
		t.Errorf("check-master says otherwise: %+v", got)
	}
	wantAnswer(t, at+"/active", http.StatusOK, "active: ")
	wantAnswer(t, at+"/active?instance=a", http.StatusOK, "active: ")
	wantAnswer(t, at+"/standby", http.StatusServiceUnavailable, "active: ")
	wantAnswer(t, at+"/active?instance=b", http.StatusNotFound, "no instance is called so")

	_, body := fetched(t, at+"/status")
	var doc control.Document
	if err := json.Unmarshal([]byte(body), &doc); err != nil || doc.Node != "primary" || instanceOf(doc, "a").State != "active" {
		t.Errorf("/status: %v\n%s", err, body)
	}
	for _, line := range []string{
		`tanist_state{instance="a",state="active"} 1`, `tanist_state{instance="a",state="backup"} 0`,
		`tanist_vip_held{address="192.0.2.100/24",instance="a"} 1`, `tanist_journal_writable 1`,
		`tanist_transitions_total{instance="a",kind="promote",result="completed"} 1`,
		`tanist_step_seconds_count{instance="a",step="vip acquire"} 1`, `tanist_peer_path_up{address="192.0.2.12",instance="a"} 0`,
		`process_open_fds `, `go_goroutines `,
	} {
		wantAnswer(t, at+"/metrics", http.StatusOK, line)
	}
	eventually(t, "advertisements", func() bool {
		_, text := fetched(t, at+"/metrics")
		return !strings.Contains(text, `tanist_adverts_total{direction="sent",instance="a"} 0`) && !strings.Contains(text, `tanist_lease_renewals_total{instance="a"} 0`)
	})

	t.Run("events", func(t *testing.T) { eventsOfADaemon(t, at, filepath.Join(filepath.Dir(r.file), "s")) })
	t.Run("two-instances", func(t *testing.T) {
		r.reload(head(first)+instanceA+instanceB, reloadApplied)
		wantAnswer(t, at+"/active", http.StatusBadRequest, "there are 2 instances: name one with ?instance=NAME")
	})
	t.Run("kept", func(t *testing.T) { // one that cannot be opened
		busy, err := net.Listen("tcp", "127.0.0.1:7600")
		if err != nil {
			t.Fatal(err)
		}
		defer busy.Close()
		doc := r.reload(head("http: {listen: 127.0.0.1:7600}\n")+instanceA, reloadRefused)
		if e := doc.Reload.Error; !strings.Contains(e, "tanist.yaml:1:16: listen on 127.0.0.1:7600") {
			t.Errorf("the reload says %s", e)
		}
		wantAnswer(t, at+"/active?instance=a", http.StatusOK, "active")
	})
	t.Run("moved", func(t *testing.T) {
		doc := r.reload(head("http: {listen: 127.0.0.1:7601}\n")+instanceA+instanceB, reloadApplied)
		if doc.Reload.Detail != "http" {
			t.Errorf("it changed %s", doc.Reload.Detail)
		}
		eventually(t, "the new one", func() bool {
			status, _ := fetched(t, "http://127.0.0.1:7601/active?instance=a")
			return status == http.StatusOK
		})
		if status, _ := fetched(t, at+"/active"); status != 0 {
			t.Errorf("the old one answers %d", status)
		}
	})
	t.Run("off", func(t *testing.T) {
		r.reload(head("")+instanceA+instanceB, reloadApplied)
		eventually(t, "nothing", func() bool { status, _ := fetched(t, "http://127.0.0.1:7601/active?instance=a"); return status == 0 })
	})
	t.Run("start", func(t *testing.T) { // where somebody else listens
		busy, err := net.Listen("tcp", "127.0.0.1:7600")
		if err != nil {
			t.Fatal(err)
		}
		defer busy.Close()
		r, args := prepareReloadRig(t, "primary", instanceA)
		r.write(head("http: {listen: 127.0.0.1:7600}\n") + instanceA)
		p := startTanist(t, args...)
		if code := p.end(t); code == exitOK || !strings.Contains(p.stderr.String(), "tanist.yaml:1:16: listen on 127.0.0.1:7600") {
			t.Errorf("exit status %d, %s", code, p.stderr)
		}
	})
}

// A database that hangs holds up no answer.
func TestWebWhileADatabaseHangs(t *testing.T) {
	if !inside(t) {
		return
	}
	veth(t, "veth0", "veth1", "192.0.2.11/24")
	mute, err := net.Listen("tcp", "127.0.0.1:3306") // accepts and says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close()
	r, args := prepareReloadRig(t, "primary", "")
	database := strings.Replace(instanceA, "vrid: 51", `vrid: 51, databases: [{name: pivot, address: "tcp:127.0.0.1:3306"}]`, 1)
	r.write("http: {listen: 127.0.0.1:7512}" + reloadHead + database)
	r.daemon = startTanist(t, args...)
	const at = "http://127.0.0.1:7512"
	eventually(t, "an answer", func() bool { status, _ := fetched(t, at+"/status"); return status == http.StatusOK })
	eventually(t, "the gate", func() bool {
		_, text := fetched(t, at+"/metrics")
		return strings.Contains(text, `tanist_gate_reason{code="unreachable",database="pivot",instance="a"} 1`)
	})
	const rounds = 40
	began := time.Now()
	for range rounds {
		wantAnswer(t, at+"/active", http.StatusServiceUnavailable, ": ")
		wantAnswer(t, at+"/standby?max_lag=5s", http.StatusServiceUnavailable, ": ")
	}
	t.Logf("%v for an answer", time.Since(began)/(2*rounds))
	if took := time.Since(began); took > patience/2 {
		t.Errorf("%d answers took %v", 2*rounds, took)
	}
}
