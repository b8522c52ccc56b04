package main

// What this node answers the peer beside gossip.

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"

	"github.com/tanist-ha/tanist/internal/peer"
)

// answers are the kinds of calls that the daemon serves. Each has its deadline, and
// must end soon after it; at most four are served at once.
func (d *daemon) answers() map[string]func(ctx context.Context, body []byte) ([]byte, error) {
	return map[string]func(context.Context, []byte) ([]byte, error){
		callDoctorOpen: d.serveDoctorOpen, callDoctorResult: d.serveDoctorResult,
	}
}

// answer serves one call.
func (d *daemon) answer(ctx context.Context, kind string, body []byte) ([]byte, error) {
	if serve := d.answers()[kind]; serve != nil {
		return guarded(ctx, kind, body, serve, d.log.Trouble)
	}
	return nil, peer.ErrUnknownCall
}

// stackShown is how much of a stack the log gets, in bytes.
const stackShown = 4 << 10

// guarded ends the call in which serve panics, and not the daemon: what the peer asks
// for only looks, and nothing that it looks at may cost the service its address.
func guarded(
	ctx context.Context, kind string, body []byte,
	serve func(context.Context, []byte) ([]byte, error), trouble func(instance, doing string, err error),
) (answer []byte, err error) {
	defer func() {
		if cause := recover(); cause != nil {
			stack := debug.Stack()
			trouble("", "answer "+kind+" of the peer", fmt.Errorf("%v, at %s", cause, stack[:min(len(stack), stackShown)]))
			answer, err = nil, errors.New("it ended in a panic, which the log of this node has")
		}
	}()
	return serve(ctx, body)
}
