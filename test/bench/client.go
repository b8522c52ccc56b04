package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tanist-ha/tanist/test/probe"
)

// startProbes starts probing the first instance's address. A router's answers are
// those of the host with its number.
func startProbes(p *pair, c probe.Clock, limit time.Duration) (*probe.Client, error) {
	return probe.Start(probe.Config{
		Clock: c, Client: p.client.do, From: clientAddr(),
		Hosts: [2]probe.Place{first: p.routers[first].do, second: p.routers[second].do}, Address: vipOf(1), Limit: limit,
	})
}

// answeredBy waits for an answer of a router that came after an instant.
func (t *trial) answeredBy(ctx context.Context, s side, after time.Duration) error {
	return poll(ctx, fmt.Sprintf("%s answers", s), func(context.Context) error {
		last, err := t.client.LastAnswer(int(s))
		if err == nil && last <= after {
			err = errors.New("no answer")
		}
		return err
	})
}

// lastAnswer is when the last answer of any router came.
func (t *trial) lastAnswer() time.Duration {
	var last time.Duration
	for _, s := range []side{first, second} {
		at, err := t.client.LastAnswer(int(s))
		if err == nil {
			last = max(last, at)
		}
	}
	return last
}
