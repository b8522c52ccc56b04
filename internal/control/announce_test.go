package control

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Announce answers with what it was asked, or with the error.
func (d *daemon) Announce(_ context.Context, r AnnounceRequest) ([]Announced, error) {
	return []Announced{{Instance: r.Instance, Interface: "eth0", VIPs: []string{"192.0.2.100/24"}, Times: 5}}, d.err
}

func TestAnnounce(t *testing.T) {
	d := &daemon{}
	socket, _ := serve(t, d)
	got, err := Dial(socket).Announce(t.Context(), AnnounceRequest{Instance: "compass"})
	if err != nil {
		t.Fatal(err)
	}
	want := []Announced{{Instance: "compass", Interface: "eth0", VIPs: []string{"192.0.2.100/24"}, Times: 5}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for _, body := range []string{`announce`, `{"uid":0}`, `{"instance":7}`} {
		if status, text := post(t, socket, "/v1/announce", body); status != 400 || !strings.Contains(text, "not understood") {
			t.Errorf("%s: %d %s", body, status, text)
		}
	}
	d.err = errors.New("no instance is called so")
	if _, err := Dial(socket).Announce(t.Context(), AnnounceRequest{}); err == nil || !strings.Contains(err.Error(), "no instance is called so") {
		t.Errorf("refused: %v", err)
	}
}
