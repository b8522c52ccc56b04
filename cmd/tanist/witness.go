package main

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"sync"

	"github.com/tanist-ha/tanist/health/probe"
	"github.com/tanist-ha/tanist/internal/config"
	"github.com/tanist-ha/tanist/internal/failover"
	"github.com/tanist-ha/tanist/internal/node"
)

// The witness of an instance, as its configuration names it.

// onIsolation is what the core does that hears nobody.
func onIsolation(in config.Instance) failover.IsolationPolicy {
	if in.OnIsolation == config.IsolationRelease {
		return failover.ReleaseIsolated
	}
	return failover.HoldIsolated
}

// witnessKind is the word for status and log, empty without a witness.
func witnessKind(in config.Instance) string {
	if in.Witness == nil {
		return ""
	}
	return in.Witness.Kind.String()
}

// newWitness returns nil without a witness.
func newWitness(in config.Instance) node.Witness {
	if in.Witness == nil {
		return nil
	}
	return gateways(in.Witness.Addresses)
}

// gateways are routers of which one that answers is enough. They are asked all at once:
// by ARP or neighbour discovery where they are on a link of this host, and by an ICMP
// echo wherever the routes lead.
type gateways []netip.Addr

// Ask is no where every one was asked in vain. Why it is asked makes no difference: a
// router knows nothing of roles.
func (gs gateways) Ask(ctx context.Context, _ failover.AskWitness) (failover.Verdict, string) {
	ctx, cancel := context.WithCancel(ctx)
	var asking sync.WaitGroup
	defer asking.Wait()
	defer cancel() // the others need not go on
	type answer struct {
		from netip.Addr
		err  error
	}
	answers := make(chan answer, len(gs)) // so that nobody waits to be heard
	for _, g := range gs {
		asking.Go(func() { answers <- answer{g, probe.Gateway{Address: g}.Probe(ctx)} })
	}
	var errs []string
	verdict := failover.VerdictUnknown
	for range gs {
		a := <-answers
		if a.err == nil {
			return failover.VerdictYes, a.from.String() + " answers"
		}
		if errors.Is(a.err, probe.ErrSilent) {
			verdict = failover.VerdictNo
		}
		errs = append(errs, a.err.Error())
	}
	return verdict, strings.Join(errs, "; ")
}
