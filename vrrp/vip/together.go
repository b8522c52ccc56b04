package vip

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// When a host is lost, every instance on it is asked for at once. Each question on
// its own would have sockets of its own, and every socket would hear the answers to
// all of them. One conversation asks for all the virtual addresses and hears the
// peer once.

// togetherVIPs bounds the virtual addresses that are asked for as one: as many
// probes leave in one burst, and fit into a send buffer of the kernel's default size.
const togetherVIPs = 250

// Reply is what came of one of several questions, as Ask would return it.
type Reply struct {
	Answer Answer
	Err    error
}

// AskTogether asks several questions as Ask asks one, and returns the reply to each
// in their order. All are listened to for as long as the longest. Those about one
// interface and the same peer are asked as one; each reply holds the claims for
// its own virtual addresses alone.
func AskTogether(ctx context.Context, qs []Question) []Reply {
	bounded := make([]Question, len(qs))
	for i, q := range qs {
		bounded[i] = q.bounded()
	}
	return together(ctx, bounded)
}

func together(ctx context.Context, qs []Question) []Reply {
	replies := make([]Reply, len(qs))
	var all []*asking
	var within time.Duration
	part := make([]*asking, len(qs))
	for i, q := range qs {
		if err := q.validate(); err != nil {
			replies[i].Err = fmt.Errorf("ask: %w", err)
			continue
		}
		q = q.plain()
		within = max(within, q.Within)
		at := slices.IndexFunc(all, func(a *asking) bool { return a.question.takes(q) })
		if at < 0 {
			at, all = len(all), append(all, &asking{question: q})
		} else {
			all[at].question.VIPs = append(all[at].question.VIPs, q.VIPs...)
		}
		part[i] = all[at]
	}
	converse(ctx, all, within)
	for i, q := range qs {
		if a := part[i]; a != nil {
			replies[i] = Reply{Answer: a.answer.about(q), Err: a.err}
		}
	}
	return replies
}

// takes reports whether other can be asked as part of q.
func (q Question) takes(other Question) bool {
	return q.Interface == other.Interface && len(q.VIPs)+len(other.VIPs) <= togetherVIPs &&
		slices.Equal(q.PeerOnLink, other.PeerOnLink) && slices.Equal(q.PeerTCP, other.PeerTCP)
}

// about is the part of an answer that one of the questions asked for.
func (a Answer) about(q Question) Answer {
	vips := plainAddrs(q.VIPs)
	a.HostHardware = slices.Clone(a.HostHardware)
	a.Claimants = slices.DeleteFunc(slices.Clone(a.Claimants), func(c Claimant) bool { return !slices.Contains(vips, c.Address) })
	a.conclude(q.Peer)
	return a
}
