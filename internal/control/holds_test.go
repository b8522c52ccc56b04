package control

import (
	"context"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tanist-ha/tanist/internal/failover"
)

type heldRequest struct {
	Kind    failover.HoldKind
	Request HoldRequest
}

func TestHoldTravels(t *testing.T) {
	d := &daemon{}
	socket, _ := serve(t, d)
	for _, kind := range []failover.HoldKind{failover.BlockHold, failover.MaintenanceHold} {
		r := HoldRequest{Instance: "compass", On: true, Reason: "upgrade", ForMS: 1000}
		answer, err := Dial(socket).Hold(t.Context(), kind, r)
		if err != nil || len(answer.Instances) != 1 || !answer.Instances[0].OK() {
			t.Fatalf("%s: %+v, %v", kind, answer, err)
		}
		r.UID = uint32(os.Getuid())
		if diff := cmp.Diff(heldRequest{kind, r}, d.held[len(d.held)-1]); diff != "" {
			t.Errorf("sent (-) and heard (+):\n%s", diff)
		}
	}
}

func TestHoldsThatAreRefused(t *testing.T) {
	month := (30 * 24 * time.Hour).Milliseconds()
	for name, tt := range map[string]struct {
		kind failover.HoldKind
		r    HoldRequest
		want string
	}{
		"a block without a reason":        {failover.BlockHold, HoldRequest{On: true, Reason: " \n"}, "needs a reason"},
		"a maintenance without a reason":  {failover.MaintenanceHold, HoldRequest{On: true}, "needs a reason"},
		"a long reason":                   {failover.BlockHold, HoldRequest{On: true, Reason: strings.Repeat("x", maxReason+1)}, "1024 bytes"},
		"less than a second":              {failover.BlockHold, HoldRequest{On: true, Reason: "x", ForMS: 999}, "for_ms"},
		"more than 90 days":               {failover.MaintenanceHold, HoldRequest{On: true, Reason: "x", ForMS: 3*month + 1}, "for_ms"},
		"less than nothing":               {failover.MaintenanceHold, HoldRequest{On: true, Reason: "x", ForMS: -1}, "for_ms"},
		"an end that lasts":               {failover.BlockHold, HoldRequest{ForMS: 1000}, "switching it on"},
		"an end with force":               {failover.MaintenanceHold, HoldRequest{Force: true}, "switching it on"},
		"a block with force":              {failover.BlockHold, HoldRequest{On: true, Reason: "x", Force: true}, "belongs to a maintenance"},
		"90 days are not too long":        {failover.MaintenanceHold, HoldRequest{On: true, Reason: "x", ForMS: 3 * month}, ""},
		"the longest reason":              {failover.BlockHold, HoldRequest{On: true, Reason: strings.Repeat("x", maxReason)}, ""},
		"an end needs no reason":          {failover.BlockHold, HoldRequest{}, ""},
		"a maintenance that nobody times": {failover.MaintenanceHold, HoldRequest{On: true, Reason: "x", Force: true}, ""},
	} {
		d := &daemon{}
		socket, stop := serve(t, d)
		_, err := Dial(socket).Hold(t.Context(), tt.kind, tt.r)
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
		if (len(d.held) == 1) != (tt.want == "") {
			t.Errorf("%s: the daemon was asked %d times", name, len(d.held))
		}
		stop()
	}
}

func TestAHoldThatIsNotUnderstood(t *testing.T) {
	d := &daemon{}
	socket, _ := serve(t, d)
	for body, status := range map[string]string{
		`{"on":true,"reason":"x","until":"tomorrow"}`: "400", `{`: "400", `{"on":true,"reason":"` + strings.Repeat("x", maxBody) + `"}`: "400",
	} {
		c, err := net.Dial("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		client := http.Client{Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return c, nil }}}
		resp, err := client.Post("http://tanist/v1/maintenance", "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if !strings.HasPrefix(resp.Status, status) {
			t.Errorf("%.40s: %s", body, resp.Status)
		}
	}
	if len(d.held) != 0 {
		t.Errorf("the daemon was asked: %+v", d.held)
	}
}

func TestHoldsInTheDocument(t *testing.T) {
	now := time.Date(2026, 3, 1, 2, 0, 0, 0, time.UTC)
	in := NewInstance(now, failover.Status{
		Block:       &failover.HoldStatus{Reason: "disk", UID: 7},
		Maintenance: &failover.HoldStatus{Reason: "upgrade", UID: 8, By: "reserve", Left: time.Hour, Shared: true, Lease: 2 * time.Minute},
	}, Extra{})
	want := [2]*Hold{
		{Reason: "disk", UID: 7},
		{Reason: "upgrade", UID: 8, By: "reserve", Until: now.Add(time.Hour), Shared: true, LeaseSeconds: 120},
	}
	if diff := cmp.Diff(want, [2]*Hold{in.Block, in.Maintenance}); diff != "" {
		t.Error(diff)
	}
}
