package container

// The part of the Docker Engine API that is needed: which process a container is.

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"time"
)

const (
	// maxAnswer bounds an answer of the engine, in bytes; that about one container
	// is some kilobytes.
	maxAnswer = 1 << 20
	// maxHeader bounds its header.
	maxHeader = 1 << 16
	// engineTime bounds one question, which gets half of what is left at most: a
	// slow engine is not to look like a slow database.
	engineTime = 5 * time.Second
	// serviceLabel is how Swarm marks the containers of a service.
	serviceLabel = "com.docker.swarm.service.name"
)

// start is one start of a container.
type start struct {
	id   string
	pid  int
	when string // as the engine writes it
}

// engineError says that the engine did not answer, or not what was asked. It
// hides its cause, whose kind is about the engine and not about the database.
type engineError struct{ text string }

func (e *engineError) Error() string { return e.text }

// absentError is a container that does not exist, or does not run.
type absentError struct {
	text  string
	errno syscall.Errno
}

func (e *absentError) Error() string { return e.text }
func (e *absentError) Unwrap() error { return e.errno }

func notFound(what string) error { return &absentError{what, syscall.ENOENT} }

// engine is the API behind a socket.
type engine struct{ socket string }

// find returns the container of a name: a container's, else a service's.
func (e engine) find(ctx context.Context, name string) (start, error) {
	at, err := e.inspect(ctx, name)
	if !errors.Is(err, syscall.ENOENT) {
		return at, err
	}
	filters, err := json.Marshal(map[string][]string{"label": {serviceLabel + "=" + name}, "status": {"running"}})
	if err != nil {
		return start{}, err
	}
	var tasks []struct {
		ID     string `json:"Id"`
		Labels map[string]string
	}
	if err := e.get(ctx, "/containers/json?filters="+url.QueryEscape(string(filters)), &tasks); err != nil {
		return start{}, err
	}
	id := ""
	for _, t := range tasks {
		switch {
		case t.Labels[serviceLabel] != name:
		case id != "":
			return start{}, &engineError{"more than one task of the service runs here"}
		default:
			id = t.ID
		}
	}
	if id == "" {
		return start{}, notFound("the engine knows no such container, and no service of which a task runs here")
	}
	return e.inspect(ctx, id)
}

// inspect returns the running container of a name or id.
func (e engine) inspect(ctx context.Context, name string) (start, error) {
	var is struct {
		ID    string `json:"Id"`
		State struct {
			Running   bool
			Pid       int
			StartedAt string
			Status    string
		}
	}
	if err := e.get(ctx, "/containers/"+url.PathEscape(name)+"/json", &is); err != nil {
		return start{}, err
	}
	switch {
	case is.ID == "":
		return start{}, &engineError{"the engine's answer names no container"}
	case !is.State.Running:
		return start{}, &absentError{"it does not run: " + oneLine(is.State.Status), syscall.ECONNREFUSED}
	case is.State.Pid <= 1:
		return start{}, &engineError{fmt.Sprintf("the engine says that its process is %d", is.State.Pid)}
	}
	return start{is.ID, is.State.Pid, is.State.StartedAt}, nil
}

// get asks and reads the answer into v.
func (e engine) get(ctx context.Context, path string, v any) error {
	within := engineTime
	if end, ok := ctx.Deadline(); ok {
		within = min(within, time.Until(end)/2)
	}
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	transport := &http.Transport{
		DisableKeepAlives: true, DisableCompression: true, MaxResponseHeaderBytes: maxHeader,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", e.socket)
		},
	}
	defer transport.CloseIdleConnections()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://docker"+path, http.NoBody)
	if err != nil {
		return err
	}
	answer, err := transport.RoundTrip(request)
	if err != nil {
		if ctx.Err() != nil {
			err = fmt.Errorf("no answer within %s", within.Round(time.Millisecond))
		}
		return &engineError{fmt.Sprintf("ask the engine at %s: %v", e.socket, err)}
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer+1))
	switch {
	case err != nil:
		return &engineError{fmt.Sprintf("read the answer of the engine at %s: %v", e.socket, err)}
	case len(body) > maxAnswer:
		return &engineError{fmt.Sprintf("the engine's answer has more than %d bytes", maxAnswer)}
	case answer.StatusCode == http.StatusNotFound:
		return notFound("the engine knows no such container")
	case answer.StatusCode != http.StatusOK:
		var said struct {
			Message string `json:"message"`
		}
		_ = json.Unmarshal(body, &said) // without a message the status has to do
		return &engineError{fmt.Sprintf("the engine answers %d %s", answer.StatusCode, oneLine(said.Message))}
	}
	if err := json.Unmarshal(body, v); err != nil {
		return &engineError{"the engine's answer is not the JSON that was asked for"}
	}
	return nil
}

// oneLine cuts a foreign text to one short line.
func oneLine(s string) string {
	s = strings.Join(strings.Fields(strings.ToValidUTF8(s, "?")), " ")
	if len(s) > 200 {
		s = strings.ToValidUTF8(s[:200], "")
	}
	return s
}
