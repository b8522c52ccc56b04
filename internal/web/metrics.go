package web

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/tanist-ha/tanist/health"
	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/internal/control"
	"github.com/tanist-ha/tanist/internal/failover"
	"github.com/tanist-ha/tanist/internal/node"
)

// metrics reads the facts once and answers with them and with what the process uses.
func (s *Server) metrics(w http.ResponseWriter, r *http.Request) {
	facts, err := s.facts.ask(r.Context())
	if err != nil {
		refuse(w, http.StatusServiceUnavailable, fmt.Errorf("the daemon does not answer: %w", err))
		return
	}
	s.answer(w, r, func(p *page) { metrics(p, r, facts) })
}

func metrics(w *page, r *http.Request, facts Facts) {
	reg := prometheus.NewRegistry()
	for _, c := range []prometheus.Collector{
		scrape{facts}, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	} {
		if err := reg.Register(c); err != nil {
			refuse(w, http.StatusInternalServerError, err)
			return
		}
	}
	promhttp.HandlerFor(reg, promhttp.HandlerOpts{}).ServeHTTP(w, r)
}

// scrape is the collector of one answer.
type scrape struct{ facts Facts }

// Describe implements prometheus.Collector.
func (s scrape) Describe(ch chan<- *prometheus.Desc) {
	for _, f := range families {
		ch <- f.desc()
	}
}

// Collect implements prometheus.Collector.
func (s scrape) Collect(ch chan<- prometheus.Metric) {
	e := emitter{ch: ch, seen: map[string]bool{}}
	for m, f := range families {
		e.descs[m] = f.desc()
	}
	doc := s.facts.Document
	for _, in := range doc.Instances {
		e.instance(in, doc.Peer)
		e.counters(in.Name, s.facts.Counters[in.Name])
		e.counts(dropped, s.facts.Dropped[in.Name], in.Name)
	}
	e.process(doc, s.facts.Process)
}

// emitter sends each series once: a name that comes twice must not cost the scrape.
type emitter struct {
	ch    chan<- prometheus.Metric
	descs [len(families)]*prometheus.Desc
	seen  map[string]bool
}

// fresh makes labels that can be sent, and reports whether they were not before.
func (e *emitter) fresh(m metric, labels []string) bool {
	for i := range labels {
		labels[i] = strings.ToValidUTF8(labels[i], "\uFFFD")
	}
	key := families[m].name + "\xff" + strings.Join(labels, "\xff")
	if e.seen[key] {
		return false
	}
	e.seen[key] = true
	return true
}

func (e *emitter) emit(m metric, value float64, labels ...string) {
	if !e.fresh(m, labels) {
		return
	}
	valued := prometheus.GaugeValue
	if families[m].kind == counter {
		valued = prometheus.CounterValue
	}
	e.send(m)(prometheus.NewConstMetric(e.descs[m], valued, value, labels...))
}

func (e *emitter) send(m metric) func(prometheus.Metric, error) {
	return func(sample prometheus.Metric, err error) {
		if err != nil {
			sample = prometheus.NewInvalidMetric(e.descs[m], err)
		}
		e.ch <- sample
	}
}

func (e *emitter) durations(m metric, d node.Durations, labels ...string) {
	if len(d.Counts) == 0 || !e.fresh(m, labels) {
		return
	}
	buckets, sum := map[float64]uint64{}, uint64(0)
	for i, n := range d.Counts {
		sum += n
		if i < len(d.Bounds) {
			buckets[d.Bounds[i].Seconds()] = sum
		}
	}
	e.send(m)(prometheus.NewConstHistogram(e.descs[m], sum, d.Sum.Seconds(), buckets, labels...))
}

func (e *emitter) counts(m metric, counts map[string]uint64, labels ...string) {
	for reason, n := range counts {
		e.emit(m, float64(n), append(slices.Clone(labels), reason)...)
	}
}

// known leaves out what is not known.
func (e *emitter) known(m metric, value *bool, labels ...string) {
	if value != nil {
		e.emit(m, one(*value), labels...)
	}
}

func one(is bool) float64 {
	if is {
		return 1
	}
	return 0
}

func (e *emitter) instance(in control.Instance, peer control.Peer) {
	for s := failover.Initialize; s <= failover.Conflict; s++ {
		e.emit(state, one(s.String() == in.State), in.Name, s.String())
	}
	e.emit(stateReason, 1, in.Name, in.Reason)
	for _, v := range in.VIPs {
		e.emit(vipHeld, one(v.Held), in.Name, v.Address)
	}
	e.emit(epoch, float64(in.Epoch), in.Name)
	e.emit(gateOpen, one(in.Gate.Open), in.Name)
	for _, r := range in.Gate.Reasons {
		e.emit(gateReason, 1, in.Name, r.Code.String(), r.Database)
	}
	e.emit(blocked, one(in.Block != nil), in.Name)
	e.emit(maintenance, one(in.Maintenance != nil), in.Name)
	for _, d := range in.Databases {
		if d.LagSeconds != nil {
			e.emit(lag, *d.LagSeconds, in.Name, d.Name)
		}
		if d.MissingTransactions != nil {
			e.emit(missing, float64(*d.MissingTransactions), in.Name, d.Name)
		}
		e.known(readOnly, d.ReadOnly, in.Name, d.Name)
	}
	for _, h := range in.Health {
		e.known(healthOK, h.OK, in.Name, h.Name, h.Effect)
		e.emit(healthFlapping, one(h.Verdict == health.Flapping.String()), in.Name, h.Name, h.Effect)
	}
	for _, d := range in.Drift {
		e.emit(drift, 1, in.Name, d.Step, d.Kind, d.State, d.Repair)
	}
	for _, p := range peer.Paths {
		e.emit(pathUp, one(p.Heard), in.Name, p.Address)
	}
}

func (e *emitter) counters(name string, c node.Counters) {
	e.emit(adverts, float64(c.Sent), name, "sent")
	e.emit(adverts, float64(c.Received), name, "received")
	e.emit(renewals, float64(c.Renewed), name)
	e.emit(renewalErrors, float64(c.NotRenewed), name)
	e.durations(lateness, c.AdvertisementLateness, name)
	for _, role := range []hooks.Role{hooks.Active, hooks.Standby} {
		for _, ending := range []hooks.Ending{hooks.Completed, hooks.Aborted, hooks.Interrupted} {
			e.emit(transitions, float64(c.Transitions[node.TransitionEnd{Role: role, Ending: ending}]), name, control.Kind(role), ending.String())
		}
		e.durations(transitionSeconds, c.TransitionTime[role], name, control.Kind(role))
	}
	for end, n := range c.Steps {
		e.emit(steps, float64(n), name, end.Name, end.Outcome.String())
	}
	for step, d := range c.StepTime {
		e.durations(stepSeconds, d, name, step)
	}
}

func (e *emitter) process(doc control.Document, p Process) {
	for _, path := range p.Paths {
		e.emit(heartbeatUp, one(path.Up), path.Interface, path.Peer)
		e.emit(heartbeatFlooded, one(path.Flooded), path.Interface, path.Peer)
		e.counts(pathDropped, path.Dropped, path.Interface, path.Peer)
	}
	if j := doc.Journal; j != nil {
		e.emit(journalWritable, one(j.Writable))
		e.emit(journalRefused, float64(j.Refused))
		e.emit(journalAwaiting, float64(j.Awaiting))
	}
	e.emit(eventsDropped, float64(p.Events))
	e.emit(logDropped, float64(p.LogLines))
	e.counts(linkRefused, p.Refused)
	e.emit(buildInfo, 1, doc.Version, doc.Node)
	e.counts(notices, p.Notices)
	e.emit(eventReaders, float64(p.Readers))
	e.counts(eventReadersCut, p.Cut)
}
