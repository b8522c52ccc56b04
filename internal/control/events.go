package control

import (
	"context"
	"io"
	"net/http"
	"strconv"
)

// Events opens the stream of events, as lines of JSON, from a number on; with 0 from
// what comes next. It lasts until ctx ends or the daemon ends it.
func (c *Client) Events(ctx context.Context, from uint64) (io.ReadCloser, error) {
	path := "/v1/events"
	if from > 0 {
		path += "?from=" + strconv.FormatUint(from, 10)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://tanist"+path, http.NoBody)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/x-ndjson")
	return c.send(req)
}
