package control

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
)

// What keeps a question from the daemon.
var (
	// ErrUnreachable says that no daemon answers on the socket.
	ErrUnreachable = errors.New("no daemon answers")
	// ErrForbidden says that the caller may not open the socket. Whether a daemon is
	// behind it is not known.
	ErrForbidden = errors.New("this user may not ask the daemon")
)

// Client talks to a daemon.
type Client struct{ http http.Client }

// Dial returns a client for the daemon behind a socket; it connects when asked
// something.
func Dial(socket string) *Client {
	return &Client{http.Client{Transport: &http.Transport{
		DisableKeepAlives: true, // the daemon has few connections to give
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			c, err := d.DialContext(ctx, "unix", socket)
			if err != nil {
				return nil, notConnected(socket, err)
			}
			return c, nil
		},
	}}}
}

func notConnected(socket string, err error) error {
	if cause := syscall.Errno(0); errors.As(err, &cause) {
		err = cause // without the socket's name once more
	}
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%w on %s: %w: root may, and the socket's group", ErrForbidden, socket, err)
	}
	return fmt.Errorf("%w on %s: %w", ErrUnreachable, socket, err)
}

// Status returns the daemon's status.
func (c *Client) Status(ctx context.Context) (Document, error) { return c.Ask(ctx, Question{}) }

// Ask returns of the daemon's status what is wanted. A daemon of another release may
// tell more than that.
func (c *Client) Ask(ctx context.Context, q Question) (Document, error) {
	var doc Document
	text, err := c.StatusJSON(ctx, q)
	if err != nil {
		return doc, err
	}
	if err := json.Unmarshal(text, &doc); err != nil {
		return doc, fmt.Errorf("read the daemon's status: %w", err)
	}
	return doc, nil
}

// StatusJSON is Ask, as the daemon tells it.
func (c *Client) StatusJSON(ctx context.Context, q Question) ([]byte, error) {
	body, err := c.do(ctx, http.MethodGet, "/v1/status"+q.query(), nil)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	var text bytes.Buffer
	if _, err := text.ReadFrom(body); err != nil {
		return nil, fmt.Errorf("read the daemon's status: %w", err)
	}
	return text.Bytes(), nil
}

// Switchover asks for a switchover and passes on every line until the last.
func (c *Client) Switchover(ctx context.Context, r SwitchoverRequest, line func(Line)) (Outcome, error) {
	body, err := c.do(ctx, http.MethodPost, "/v1/switchover", r)
	if err != nil {
		return Outcome{}, err
	}
	defer body.Close()
	lines := bufio.NewScanner(body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var l Line
		if err := json.Unmarshal(lines.Bytes(), &l); err != nil {
			return Outcome{}, fmt.Errorf("read the daemon's answer: %w", err)
		}
		line(l)
		if l.Outcome != nil {
			return *l.Outcome, nil
		}
	}
	if err := lines.Err(); err != nil {
		return Outcome{}, fmt.Errorf("read the daemon's answer: %w", err)
	}
	return Outcome{}, errors.New("the daemon ended before it answered: see `tanist status` for what became of the switchover")
}

func (c *Client) do(ctx context.Context, method, path string, in any) (io.ReadCloser, error) {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://tanist"+path, body)
	if err != nil {
		return nil, err
	}
	return c.send(req)
}

// send asks and returns the body of an answer that is one.
func (c *Client) send(req *http.Request) (io.ReadCloser, error) {
	resp, err := c.http.Do(req)
	if err != nil {
		// Without the address that HTTP needs and nobody knows.
		if e := (*url.Error)(nil); errors.As(err, &e) {
			err = e.Err
		}
		if errors.Is(err, context.DeadlineExceeded) {
			err = fmt.Errorf("it listens and does not answer in time: it hangs, or this host is short of time: %w", err)
		}
		if errors.Is(err, ErrUnreachable) || errors.Is(err, ErrForbidden) {
			return nil, err
		}
		return nil, fmt.Errorf("ask the daemon: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		defer resp.Body.Close()
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 4096))
		return nil, fmt.Errorf("the daemon refuses: %s", strings.TrimSpace(string(text)))
	}
	return resp.Body, nil
}
