package probe

// What answers on the network, and the link to it.

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
)

// TCP wants a connection accepted.
type TCP struct {
	Host string // an address or a name
	Port uint16
}

// Probe connects and says nothing.
func (t TCP) Probe(ctx context.Context) error {
	c, err := new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort(t.Host, strconv.Itoa(int(t.Port))))
	if err != nil {
		return plainDial(err)
	}
	return c.Close()
}

// plainDial leaves out of an error what the check's configuration says.
func plainDial(err error) error {
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" && op.Addr != nil {
		return fmt.Errorf("connect to %s: %w", op.Addr, op.Err)
	}
	return err
}

const (
	// bodyLimit bounds what is read of an answer. All of it up to there has to come.
	bodyLimit   = 64 << 10
	headerLimit = 64 << 10
	maxRedirect = 5
)

// HTTP wants an answer with a status of 200 to 299.
type HTTP struct{ URL string }

// Probe asks with GET over a connection of its own, without a proxy. It follows
// redirects to the same host only, and from https to https only.
func (h HTTP) Probe(ctx context.Context) error {
	transport := &http.Transport{
		DisableKeepAlives: true, MaxResponseHeaderBytes: headerLimit,
		TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12},
	}
	defer transport.CloseIdleConnections()
	client := http.Client{Transport: transport, CheckRedirect: follow}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, h.URL, http.NoBody)
	if err != nil {
		return Unusable("the URL is not valid") // the error would quote it
	}
	request.Header.Set("User-Agent", "tanist")
	response, err := client.Do(request)
	if err != nil {
		if u, ok := errors.AsType[*url.Error](err); ok {
			err = u.Err // the URL may hold a secret
		}
		return fmt.Errorf("%s: %w", request.URL.Host, plainDial(err))
	}
	defer response.Body.Close()
	if response.StatusCode < 200 || response.StatusCode > 299 {
		return fmt.Errorf("%s answers %d %s", request.URL.Host, response.StatusCode, http.StatusText(response.StatusCode))
	}
	if _, err := io.Copy(io.Discard, io.LimitReader(response.Body, bodyLimit)); err != nil {
		return fmt.Errorf("%s: read the answer: %w", request.URL.Host, err)
	}
	return nil
}

func follow(next *http.Request, before []*http.Request) error {
	first := before[0].URL
	switch {
	case len(before) > maxRedirect:
		return fmt.Errorf("redirects more than %d times", maxRedirect)
	case next.URL.Hostname() != first.Hostname():
		return fmt.Errorf("redirects to another host, %s", next.URL.Host)
	case before[len(before)-1].URL.Scheme == "https" && next.URL.Scheme != "https":
		return errors.New("redirects from https to " + next.URL.Scheme)
	}
	return nil
}

// Link wants a network interface up and with a carrier.
type Link struct{ Interface string }

// Probe asks the kernel.
func (l Link) Probe(context.Context) error {
	i, err := net.InterfaceByName(l.Interface)
	if err != nil {
		if list, listErr := net.Interfaces(); listErr == nil && len(list) > 0 {
			return Unusable("there is no interface %s", l.Interface)
		}
		return fmt.Errorf("look up interface %s: %w", l.Interface, err)
	}
	switch {
	case i.Flags&net.FlagUp == 0:
		return fmt.Errorf("%s is down", l.Interface)
	case i.Flags&net.FlagRunning == 0:
		return fmt.Errorf("%s has no carrier", l.Interface)
	}
	return nil
}
