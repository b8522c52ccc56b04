package main

// What this node answers the peer beside gossip.

import (
	"context"

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
		return serve(ctx, body)
	}
	return nil, peer.ErrUnknownCall
}
