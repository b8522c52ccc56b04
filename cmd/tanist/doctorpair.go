package main

// A diagnosis of the pair. One daemon begins it: it opens an exchange of probes, asks
// the peer's daemon over the link to open the other end, and both send. What each saw
// is judged by the one that began.

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/tanist-ha/tanist/internal/doctor"
	"github.com/tanist-ha/tanist/internal/doctor/probe"
	"github.com/tanist-ha/tanist/internal/heartbeat"
	"github.com/tanist-ha/tanist/internal/peer"
	"github.com/tanist-ha/tanist/vrrp/auth"
)

// The calls of a diagnosis. The first one opens the peer's end and returns at once;
// the second one returns what it saw.
const (
	callDoctorOpen   = "doctor/open"
	callDoctorResult = "doctor/result"
)

const (
	// openPatience bounds the first call: a daemon that lives answers from memory.
	openPatience = 2 * time.Second
	// visitTime bounds what the peer makes this daemon do.
	visitTime = 10 * time.Second
	// clockAsks is how often the peer's clock is asked for: the quickest answer counts.
	clockAsks = 3
)

// visitRequest is the body of both calls. Groups are this node's ends of them, in the
// first call: a release that does not know them sends its probes without.
type visitRequest struct {
	Token  uint64            `json:"token"`
	Groups []doctor.GroupEnd `json:"groups,omitempty"`
	// Gzip says that the result may come in the form of gzip.
	Gzip bool `json:"gzip,omitempty"`
}

// visitAnswer is that of the first call: the peer's ends of the groups.
type visitAnswer struct {
	Groups []doctor.GroupEnd `json:"groups,omitempty"`
}

// visits is the one place for a diagnosis that the peer began.
type visits struct {
	wanted chan *visit // taken by visited, which makes one at a time

	mu   sync.Mutex // guards here
	here *visit
}

func newVisits() *visits { return &visits{wanted: make(chan *visit)} }

// visit is the peer's diagnosis of this host. It ends when its result was fetched, or
// after visitTime.
type visit struct {
	token    uint64
	examiner examiner
	exchange *probe.Exchange
	groups   []doctor.Group
	fetched  chan struct{}
	fetch    sync.Once     // closes fetched: nothing keeps the peer from asking again
	done     chan struct{} // closed when saw is there
	saw      examined
}

func newVisit(token uint64, x examiner, exchange *probe.Exchange, groups []doctor.Group) *visit {
	return &visit{token: token, examiner: x, exchange: exchange, groups: groups, fetched: make(chan struct{}), done: make(chan struct{})}
}

func (d *daemon) examiner() examiner {
	d.mu.Lock()
	defer d.mu.Unlock()
	return examiner{common: d.common, file: d.file, self: d.self, keys: d.keys, units: d.units, beats: d.heartbeat}
}

// errVisited says that one end of a diagnosis is taken.
var errVisited = errors.New("another diagnosis is under way")

// visited makes the diagnoses that the peer begins, until ctx ends.
func (d *daemon) visited(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case v := <-d.visits.wanted:
			d.visits.set(v)
			v.make(ctx)
			d.visits.set(nil)
		}
	}
}

func (vs *visits) set(v *visit) {
	vs.mu.Lock()
	defer vs.mu.Unlock()
	vs.here = v
}

func (vs *visits) of(token uint64) *visit {
	vs.mu.Lock()
	defer vs.mu.Unlock()
	if vs.here != nil && vs.here.token == token {
		return vs.here
	}
	return nil
}

func (v *visit) make(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, visitTime)
	defer cancel()
	defer v.exchange.Close()
	v.saw = v.examiner.look(ctx, v.exchange, v.groups)
	close(v.done)
	select {
	case <-v.fetched:
	case <-ctx.Done():
	}
}

// serveDoctorOpen begins to listen, to send and to look.
func (d *daemon) serveDoctorOpen(ctx context.Context, body []byte) ([]byte, error) {
	var r visitRequest
	if err := json.Unmarshal(body, &r); err != nil {
		return nil, fmt.Errorf("read the request: %w", err)
	}
	x := d.examiner()
	var groups []doctor.Group
	if len(r.Groups) > 0 {
		groups, _ = x.groups()                       // the one that asks says what is left out
		groups = append([]doctor.Group{}, groups...) // not nil: this release looks at them
		doctor.Meet(groups, r.Groups)
	}
	answer, err := json.Marshal(visitAnswer{doctor.Ends(groups)})
	if err != nil {
		return nil, err
	}
	exchange, err := probe.Open(probe.Config{Token: r.Token, Paths: x.withGroups(groups), Keys: x.keys})
	if err != nil {
		return nil, err
	}
	v := newVisit(r.Token, x, exchange, groups)
	soon, cancel := context.WithTimeout(ctx, openPatience/2)
	defer cancel()
	select {
	case d.visits.wanted <- v:
		return answer, nil
	case <-soon.Done():
		exchange.Close()
		return nil, errVisited
	}
}

// serveDoctorResult waits for what was begun.
func (d *daemon) serveDoctorResult(ctx context.Context, body []byte) ([]byte, error) {
	var r visitRequest
	if err := json.Unmarshal(body, &r); err != nil {
		return nil, fmt.Errorf("read the request: %w", err)
	}
	v := d.visits.of(r.Token)
	if v == nil {
		return nil, errors.New("this diagnosis is over")
	}
	select {
	case <-v.done:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	defer v.fetch.Do(func() { close(v.fetched) })
	return encodeExamined(withProbes(v.saw, v.exchange.Heard()), r.Gzip)
}

// withProbes fills in what became of the probes.
func withProbes(saw examined, heard []probe.Heard) examined {
	saw.Sights, saw.Groups = slices.Clone(saw.Sights), slices.Clone(saw.Groups)
	for i, h := range heard[:min(len(saw.Sights)+len(saw.Groups), len(heard))] {
		var s *doctor.Sight
		if i < len(saw.Sights) {
			s = &saw.Sights[i]
		} else {
			s = &saw.Groups[i-len(saw.Sights)].Sight
		}
		s.Sent, s.Heard, s.Unproved = h.Sent, h.Heard, h.Unproved
		if h.SendErr != nil {
			s.SendError = h.SendErr.Error()
		}
		if h.Err != nil {
			s.ListenError = h.Err.Error()
		}
	}
	return saw
}

// Doctor diagnoses the pair.
func (d *daemon) Doctor(ctx context.Context) ([]byte, error) {
	x := d.examiner()
	nodes := x.labels()
	token := binary.BigEndian.AppendUint64(nil, 0)
	_, _ = rand.Read(token) // never fails
	p := pairing{daemon: d, examiner: x, request: visitRequest{Token: binary.BigEndian.Uint64(token) | 1, Gzip: true}}
	findings, asked := p.diagnose(ctx, nodes)
	return json.Marshal(doctor.NewReport(nodes, asked, findings))
}

// pairing is one diagnosis that this daemon began.
type pairing struct {
	daemon   *daemon
	examiner examiner
	request  visitRequest
}

func (p pairing) diagnose(ctx context.Context, nodes [2]string) (_ []doctor.Finding, asked []string) {
	x := p.examiner
	groups, findings := x.groups()
	p.request.Groups = doctor.Ends(groups)
	exchange, err := probe.Open(probe.Config{Token: p.request.Token, Paths: x.withGroups(groups), Keys: x.keys})
	if err != nil {
		findings = append(findings, doctor.FromProblems(doctor.CheckFailed, doctor.Problem, "", err.Error(), ""))
	} else {
		defer exchange.Close()
	}
	before := p.daemon.heartbeat.Status()
	var answer visitAnswer
	openErr := p.open(ctx, &answer)
	x.met(exchange, groups, answer.Groups)
	if openErr == nil && exchange == nil {
		openErr = errors.New("no probes could be sent")
	}
	var both *probe.Exchange
	if openErr == nil {
		both = exchange
	}
	here := x.look(ctx, both, groups)
	var there *examined
	if openErr == nil {
		sleep(ctx, probe.Travel) // the last probes are on their way
		there, openErr = p.result(ctx)
		here = withProbes(here, exchange.Heard())
	}
	findings = append(findings, here.Findings...)
	after := p.daemon.heartbeat.Status()
	unheard := doctor.Unheard(nodes, x.dropped(before, after, here), openErr == nil)
	if openErr != nil {
		return slices.Concat(findings, p.alone(nodes, here, p.doubts(before, after), openErr), unheard), nodes[:1]
	}
	findings = append(findings, theirs(nodes[1], there.Findings)...)
	findings = append(findings, doctor.Paths(nodes, here.Sights, there.Sights, doctor.Peer{Lives: true})...)
	view := there.view()
	findings = append(findings, doctor.Groups(nodes, here.view(), &view, x.peer(true, here.Claims))...)
	findings = append(findings, doctor.Addresses(nodes, here.Claims, there.Claims)...)
	findings = append(findings, doctor.Agree(nodes, here.Running, there.Running)...)
	findings = append(findings, unheard...)
	findings = append(findings, doctor.Meddling(nodes, p.refusals(p.daemon.link.Paths()), x.file.PeerPort)...)
	return append(findings, p.clocks(ctx, nodes)...), nodes[:]
}

// theirs are the peer's findings, which are about its own host. What it says is to be
// pasted, is to be pasted there.
func theirs(node string, findings []doctor.Finding) []doctor.Finding {
	for i := range findings {
		findings[i].Node = node
	}
	return findings
}

// open begins the peer's part.
func (p pairing) open(ctx context.Context, into *visitAnswer) error {
	answer, err := p.call(ctx, openPatience, callDoctorOpen)
	if err != nil {
		return err
	}
	return json.Unmarshal(answer, into)
}

// result is what the peer's daemon saw.
func (p pairing) result(ctx context.Context) (*examined, error) {
	p.request.Groups = nil
	answer, err := p.call(ctx, visitTime, callDoctorResult)
	if err != nil {
		return nil, err
	}
	return decodeExamined(answer)
}

func (p pairing) call(ctx context.Context, patience time.Duration, kind string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	body, err := json.Marshal(p.request)
	if err != nil {
		return nil, err
	}
	return p.daemon.link.Call(ctx, kind, body)
}

// alone is what can be said of the pair when the peer cannot be asked.
func (p pairing) alone(nodes [2]string, here examined, doubts []doctor.Doubt, why error) []doctor.Finding {
	link := p.daemon.link.Paths()
	text, lives := why.Error(), false
	for _, l := range link {
		lives = lives || l.Accepted || l.Connected
		if !l.Connected && l.SendError.Text != "" {
			text += fmt.Sprintf("; %v: %s", l.Peer, l.SendError.Text)
		}
	}
	for _, s := range here.Sights {
		lives = lives || s.HeardMS != nil && *s.HeardMS <= s.PatienceMS
	}
	for _, g := range here.Groups {
		lives = lives || g.HeardMS != nil && *g.HeardMS <= g.PatienceMS
	}
	refusals := p.refusals(link)
	proofs := doctor.Proofs(nodes, doubts, refusals, here.Running)
	lives = lives || len(proofs) > 0
	findings := []doctor.Finding{doctor.Unasked(nodes, text, here.Sights)}
	findings = append(findings, proofs...)
	findings = append(findings, doctor.Meddling(nodes, refusals, p.examiner.file.PeerPort)...)
	known := p.examiner.peer(lives, here.Claims)
	findings = append(findings, doctor.Paths(nodes, here.Sights, nil, known)...)
	findings = append(findings, doctor.Groups(nodes, here.view(), nil, known)...)
	return append(findings, doctor.Addresses(nodes, here.Claims, nil)...)
}

// doubts are the proofs that failed, before the examination and after it.
func (p pairing) doubts(before, after heartbeat.Status) []doctor.Doubt {
	counts := map[string]map[string]uint64{}
	for _, in := range before.Instances {
		counts[in.Name] = in.Dropped.ByName()
	}
	var all []doctor.Doubt
	for _, in := range after.Instances {
		dropped := in.Dropped.ByName()
		for _, reason := range []auth.Reason{auth.ReasonKey, auth.ReasonTag, auth.ReasonMissing} {
			name := reason.String()
			all = append(all, doctor.Doubt{
				Instance: in.Name, Reason: name, Before: counts[in.Name][name], After: dropped[name],
				Heard: in.Heard && in.Silent < p.examiner.patience(),
			})
		}
	}
	return all
}

// refusals are what the peer link was refused so far, with what stands now.
func (p pairing) refusals(link []peer.Status) []doctor.Refusal {
	var all []doctor.Refusal
	at := bootClock()
	for _, r := range p.daemon.link.Refused() {
		all = append(all, doctor.Refusal{
			Peer: r.Peer, Reason: r.Reason, Count: r.Lately, Since: at.Sub(r.Since), Last: max(0, at.Sub(r.At)), Said: r.Last,
			Stands: slices.ContainsFunc(link, func(l peer.Status) bool { return l.Peer == r.Peer && (l.Connected || l.Accepted) }),
		})
	}
	return all
}

// clocks compares the two clocks by the quickest of some answers.
func (p pairing) clocks(ctx context.Context, nodes [2]string) []doctor.Finding {
	var best *doctor.Offset
	for range clockAsks {
		patience, cancel := context.WithTimeout(ctx, openPatience)
		ahead, within, err := p.daemon.link.ClockOffset(patience)
		cancel()
		if err == nil && (best == nil || within < best.Error) {
			best = &doctor.Offset{Ahead: ahead, Error: within}
		}
	}
	if best == nil {
		return nil // the link fell silent meanwhile, which the next diagnosis says
	}
	return []doctor.Finding{doctor.ClocksAgree(nodes, *best)}
}
