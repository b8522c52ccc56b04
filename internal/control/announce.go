package control

import (
	"context"
	"net/http"
	"time"
)

// AnnounceTime bounds POST /v1/announce.
const AnnounceTime = 10 * time.Second

// AnnounceRequest is the body of POST /v1/announce.
type AnnounceRequest struct {
	Instance string `json:"instance"` // empty: all
}

// Announced is what was announced of one instance.
type Announced struct {
	Instance  string   `json:"instance"`
	Interface string   `json:"interface"`
	VIPs      []string `json:"vips"`
	// Times is how often each address was announced, 0 when it was not: then
	// Refused says why.
	Times   int    `json:"times"`
	Refused string `json:"refused,omitempty"`
}

// Announcer announces addresses.
type Announcer interface {
	// Announce tells the neighbours of every address that is meant and that this
	// node holds.
	Announce(ctx context.Context, r AnnounceRequest) ([]Announced, error)
}

func (s *Server) announce(w http.ResponseWriter, r *http.Request) {
	ask(s, w, r, AnnounceTime, func(AnnounceRequest) error { return nil },
		func(ctx context.Context, q AnnounceRequest, _ uint32) ([]Announced, error) {
			return s.daemon.Announce(ctx, q)
		})
}

// describeAnnounce lets it go on without a journal: what is where does not change.
func describeAnnounce(body []byte) (Command, effect, error) {
	c, e, err := describe("POST /v1/announce", body)
	c.Safer = true
	return c, e, err
}

// Announce asks for announcements.
func (c *Client) Announce(ctx context.Context, r AnnounceRequest) ([]Announced, error) {
	return asked[[]Announced](ctx, c, "/v1/announce", r)
}
