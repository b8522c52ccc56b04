package notify

// A webhook is one POST of one JSON object.

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/tanist-ha/tanist/hooks"
)

// Body is what a webhook gets. All attempts of one notice have the same.
type Body struct {
	Event    string    `json:"event"`    // promote, demote, fault or stop
	Node     string    `json:"node"`     // label of the host that tells
	Peer     string    `json:"peer"`     // label of the other one
	Active   string    `json:"active"`   // label; empty while nobody knows
	Standby  string    `json:"standby"`  // label; empty while nobody knows
	Instance string    `json:"instance"` // its name
	Epoch    uint64    `json:"epoch"`
	Reason   string    `json:"reason"`
	VIP      string    `json:"vip"`  // the first virtual address
	Time     time.Time `json:"time"` // when the plan came to the step, UTC
}

func bodyOf(n Notice) Body {
	v := n.Action.Vars
	return Body{
		Event: v.Event.String(), Node: v.Node, Peer: v.Peer, Active: v.Active, Standby: v.Standby,
		Instance: v.Instance, Epoch: v.Epoch, Reason: v.Reason, VIP: v.VIP, Time: n.At.UTC(),
	}
}

const (
	connectTime  = 5 * time.Second
	maxRedirects = 3
)

var (
	errOtherHost = errors.New("it redirects to another host")
	errNoPost    = errors.New("it redirects in a way that drops the notice")
	errRedirects = errors.New("it redirects too often")
)

// post makes one attempt. Nothing of the URL but its host comes into the answer:
// the rest may be what allows its use.
func post(ctx context.Context, n Notice) Delivery {
	body, err := json.Marshal(bodyOf(n))
	if err != nil {
		return Delivery{Outcome: hooks.Failed, Detail: err.Error(), Final: true}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, n.Action.Webhook, bytes.NewReader(body))
	if err != nil {
		return Delivery{Outcome: hooks.Failed, Detail: "the webhook is no http or https URL", Final: true}
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "tanist")
	client := http.Client{CheckRedirect: sameHost, Transport: &http.Transport{
		DialContext:         (&net.Dialer{Timeout: connectTime}).DialContext,
		TLSHandshakeTimeout: connectTime,
		DisableKeepAlives:   true, // the next notice comes in days
	}}
	answer, err := client.Do(req)
	if err != nil {
		return refused(ctx, err)
	}
	_ = answer.Body.Close() // what it says is nobody's concern
	d := Delivery{Outcome: hooks.Changed, Detail: answer.Status}
	if answer.StatusCode < 200 || answer.StatusCode > 299 {
		d.Outcome = hooks.Failed
		d.Final = answer.StatusCode < 500 && answer.StatusCode != http.StatusTooManyRequests && answer.StatusCode != http.StatusRequestTimeout
	}
	return d
}

func sameHost(req *http.Request, via []*http.Request) error {
	first := via[0].URL
	switch {
	case req.URL.Host != first.Host || req.URL.Scheme != first.Scheme:
		return errOtherHost
	case req.Method != http.MethodPost:
		return errNoPost
	case len(via) > maxRedirects:
		return errRedirects
	}
	return nil
}

func refused(ctx context.Context, err error) Delivery {
	if of := (*url.Error)(nil); errors.As(err, &of) {
		err = of.Err // without the URL
	}
	d := Delivery{
		Outcome: hooks.Failed, Detail: err.Error(),
		Final: errors.Is(err, errOtherHost) || errors.Is(err, errNoPost) || errors.Is(err, errRedirects),
	}
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		d.Outcome, d.Detail = hooks.TimedOut, fmt.Sprintf("no answer within %s", AttemptTime)
	case ctx.Err() != nil:
		d.Outcome, d.Detail = hooks.Cancelled, "no answer yet"
	}
	return d
}
