package node

// A running node gets other instances: one is replaced as a restart of the daemon
// would, for it alone, one leaves as at the end of the daemon, one starts as at its
// beginning. The rest does not notice. All of it happens in the loop, between two
// turns.

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tanist-ha/tanist/health"
	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/internal/failover"
	"github.com/tanist-ha/tanist/internal/mono"
)

const (
	// restLook is how often an instance is looked at until it is at rest.
	restLook = 20 * time.Millisecond
	// offTime bounds how long an instance that left is kept for an address that
	// the kernel does not take off. Its lease ends meanwhile.
	offTime = 10 * time.Second
	// wishMemory is how long a wish of the peer that fell silent may come back: a
	// new core would not know that it was answered.
	wishMemory = 5 * time.Minute
)

// ErrLeaving is the answer to a change of a node that is told to leave.
var ErrLeaving = errors.New("the daemon is leaving")

// BusyError says that an instance was not at rest, so nothing was changed.
type BusyError struct {
	Instance string
	Doing    string
}

func (e *BusyError) Error() string {
	return fmt.Sprintf("instance %s is not at rest: %s", e.Instance, e.Doing)
}

// Replacement is what takes the place of the running instance of its name.
type Replacement struct {
	// Instance, whose Start.Boot is another than any before: it names handovers.
	// What Start says of the journal does not count.
	Instance Instance
	Lease    time.Duration // of the addresses
	// Moved says that the addresses go to another interface: what is known of the
	// old one's link means nothing for the new.
	Moved bool
	// Extra and Gone are the addresses that only the new or the old list has, nil
	// when there are none. Only their Drop is called.
	Extra, Gone Dropper
	// Checks are those whose verdict counts on: they ask the same as before.
	Checks []string
}

// Dropper takes addresses off.
type Dropper interface{ Drop() error }

// reloadable is what an instance needs to be replaced or taken out.
type reloadable struct {
	gone      bool                  // out of the loop
	next      *instance             // who took its place, nil: nobody
	left      chan struct{}         // closed when it has left
	busy      sync.WaitGroup        // its workers
	unwritten atomic.Int64          // its records that are on their way to the journal
	told      *uint64               // how often the peer was told under this name
	counts    *Counters             // what was done under this name
	said      failover.PeerState    // the last one
	link      *failover.LinkChanged // the last one, nil when nothing was said
	moved     bool                  // its interface is not that of the one before
}

func (n *Node) instance(i Instance) *instance {
	in := &instance{Instance: i, node: n, steps: map[hooks.StepID]context.CancelFunc{}, commands: map[failover.ID]chan Answer{}}
	in.left, in.due, in.checking = make(chan struct{}), mono.Never, map[failover.ID]context.CancelFunc{}
	if n.boot == 0 {
		n.boot = i.Start.Boot
	}
	if n.words[i.Name] == nil {
		n.words[i.Name] = new(uint64)
	}
	in.told = n.words[i.Name]
	if n.counts[i.Name] == nil {
		n.counts[i.Name] = newCounters()
	}
	in.counts = n.counts[i.Name]
	return in
}

func (n *Node) find(name string) *instance {
	n.roster.RLock()
	defer n.roster.RUnlock()
	return n.byName[name]
}

// enrol puts in into the place of old, at the end when old is nil. A nil in takes
// old out.
func (n *Node) enrol(in, old *instance) {
	n.roster.Lock()
	defer n.roster.Unlock()
	list := slices.Clone(n.instances)
	at := slices.Index(list, old)
	switch {
	case old == nil:
		list = append(list, in)
	case in == nil:
		list = slices.Delete(list, at, at+1)
		delete(n.byName, old.Name)
		delete(n.counts, old.Name)
	default:
		list[at] = in
	}
	n.instances = list
	if in != nil {
		n.byName[in.Name] = in
	}
	if old != nil {
		old.gone, old.next, old.renews = true, in, false
		for _, cancel := range old.checking { // each is cancelled: their order is nobody's
			cancel()
		}
		old.endPreview()
	}
	n.listen()
}

// current is who has the place of in now.
func (in *instance) current() *instance {
	for in.gone && in.next != nil {
		in = in.next
	}
	return in
}

// forward hands what was heard for an instance that is gone to the one in its
// place. The answers to its own effects concern nobody any more.
func (in *instance) forward(work context.Context, ev failover.Event) {
	now := in.current()
	if now.gone {
		return
	}
	switch ev.(type) {
	case failover.Advertised, failover.PeerSaid, failover.Probed, failover.AddressLost, failover.AddressFound, failover.Disturbed:
		now.step(work, ev)
	case failover.LinkChanged:
		if !now.moved {
			now.step(work, ev)
		}
	case failover.Started, failover.Tick, failover.Hearing, failover.JournalChanged, failover.StopWanted, failover.SwitchoverWanted, failover.HoldWanted, failover.Measured, failover.StepEnded, failover.StepSaid,
		failover.Held, failover.Durable, failover.Asked, failover.CaughtUp, failover.Checked, failover.DatabaseFenced, failover.Witnessed:
	}
}

// tell sends the state under the daemon's boot, which is one for all of its life,
// numbered on from what an earlier core said: the peer takes nothing that is not
// newer.
func (in *instance) tell(s failover.PeerState) {
	in.said = s
	*in.told++
	s.Boot, s.Seq = in.node.boot, *in.told
	in.node.cfg.Link.Send(in.Name, s)
}

// noteLink keeps what a core in the place of this one has to be told: the kernel
// says it once.
func (in *instance) noteLink(ev failover.Event) {
	if link, ok := ev.(failover.LinkChanged); ok {
		in.link = &link
	}
}

// AtRest waits until none of the instances has anything under way, no longer than
// patience. The error of an instance that is busy is a *BusyError.
func (n *Node) AtRest(ctx context.Context, patience time.Duration, names ...string) error {
	return n.whenAtRest(ctx, patience, func(work context.Context) error {
		for _, name := range names {
			if _, err := n.rest(work, name); err != nil {
				return err
			}
		}
		return nil
	})
}

// Replace replaces instances, all in one turn of the loop or none: it waits, no
// longer than patience, until all are at rest. An address that is held stays: the
// old core ends without a word, the new one adopts it from the same journal. Replace
// returns when nothing uses the old instances any more; when ctx ends before that,
// their parts must not be closed.
//
// After an error nothing is changed. It is a *BusyError when an instance was not at
// rest, ErrLeaving when the node is told to leave.
func (n *Node) Replace(ctx context.Context, patience time.Duration, rs []Replacement) error {
	var old []*instance
	err := n.whenAtRest(ctx, patience, func(work context.Context) (err error) {
		old, err = n.replace(work, rs)
		return err
	})
	if err != nil {
		return err
	}
	for _, in := range old {
		if err := in.idle(ctx); err != nil {
			return nil //nolint:nilerr // it is replaced; only its parts are still in use
		}
	}
	return nil
}

// whenAtRest runs f in the loop until it finds nobody busy.
func (n *Node) whenAtRest(ctx context.Context, patience time.Duration, f func(work context.Context) error) error {
	late := time.NewTimer(patience)
	defer late.Stop()
	for {
		answer, err := change(n, func(work context.Context) error {
			switch {
			case ctx.Err() != nil:
				return ctx.Err()
			case n.leaving:
				return ErrLeaving
			}
			return f(work)
		})
		if err != nil {
			return err
		}
		var busy *BusyError
		if !errors.As(answer, &busy) {
			return answer
		}
		look := time.NewTimer(restLook)
		select {
		case <-look.C:
		case <-late.C:
			return answer
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// change runs f in the loop and waits for what it answers, however long the loop is
// away: whoever asked has to know whether it was done.
func change[T any](n *Node, f func(work context.Context) T) (T, error) {
	return ask(context.Background(), n, f)
}

// rest returns an instance that is at rest.
func (n *Node) rest(work context.Context, name string) (*instance, error) {
	in := n.byName[name]
	if in == nil {
		return nil, fmt.Errorf("no instance is called %q", name)
	}
	in.step(work, failover.Tick{}) // a loop that was away steps down first
	if doing := in.doing(); doing != "" {
		return nil, &BusyError{Instance: name, Doing: doing}
	}
	return in, nil
}

// doing says what keeps an instance from being replaced, empty when nothing does:
// whatever a new core could not know from the journal must not be under way.
func (in *instance) doing() string {
	st, m := in.Core.Status(in.node.now()), in.node.journal.memory(in.Name)
	peer := failover.PeerState{}
	if st.PeerFresh {
		peer = st.PeerState
	}
	switch {
	case in.stopped:
		return "it is leaving"
	case len(in.steps) > 0, st.Last != nil && st.Last.Running:
		return "a plan runs"
	case st.State == failover.Promoting || st.State == failover.Demoting || st.State == failover.Initialize:
		return "it is " + st.State.String()
	case len(in.commands) > 0, in.said.Wish != nil, st.PeerState.Wish != nil && st.PeerAge < wishMemory:
		return "a switchover was asked for"
	case in.said.Give != nil && in.said.Give.Stage < failover.GiveDone, peer.Give != nil && peer.Give.Stage < failover.GiveDone,
		taking(in.said.Take), taking(peer.Take):
		return "a handover is under way"
	case in.undropped:
		return "the kernel does not take its address off"
	case st.Role == hooks.Standby && st.State == failover.Backup && st.Silent && !st.PeerFresh:
		return "nobody is Active, a takeover is under way"
	case st.Role == hooks.Standby && len(st.Databases) > 0 && st.PeerKnown && !st.PeerFresh:
		return "the peer is silent, and how far its databases were would be forgotten"
	case in.unwritten.Load() > 0:
		return "its records are not in the journal yet"
	case (st.Role == hooks.Active) != (m.Role == hooks.Active), st.Holds && m.ActiveEpoch != m.Epoch:
		return "the journal does not say yet what it is"
	}
	return ""
}

func taking(t *failover.Take) bool {
	if t == nil {
		return false
	}
	switch t.Stage {
	case failover.TakeRefused, failover.TakeDone, failover.TakeUndone:
		return false
	case failover.TakePreparing, failover.TakePrepared, failover.TakeCatchingUp, failover.TakePromoting,
		failover.TakeAcquired, failover.TakeUndoing:
	}
	return true
}

// replace does it in one turn of the loop.
func (n *Node) replace(work context.Context, rs []Replacement) ([]*instance, error) {
	old := make([]*instance, len(rs))
	for i, r := range rs {
		var err error
		if old[i], err = n.rest(work, r.Instance.Name); err != nil {
			return nil, err
		}
	}
	for i, r := range rs {
		if err := old[i].pass(r); err != nil {
			for j := range i + 1 {
				old[j].takeBack(rs[j])
			}
			return nil, err
		}
	}
	for i, r := range rs {
		in := n.instance(r.Instance)
		in.moved = r.Moved
		n.enrol(in, old[i])
		if old[i].catching != nil {
			old[i].catching()
		}
		in.recall(old[i], r.Checks)
		in.start(work)
		if old[i].link != nil && !r.Moved {
			in.step(work, *old[i].link)
		}
		if old[i].leased != 0 && r.Gone != nil {
			in.trouble("drop what is no longer an address of it", r.Gone.Drop())
		}
	}
	return old, nil
}

// recall tells a new core what the one before it had found about checks, and what an
// operator overrode.
func (in *instance) recall(old *instance, checks []string) {
	st := old.Core.Status(in.node.now())
	other := func(h health.Status) bool { return !slices.Contains(checks, h.Check.Name) }
	in.Start.Checks, in.Start.Condoned = slices.DeleteFunc(st.Health, other), st.Condoned
	in.Start.Overridden = st.Isolation.Overridden
}

// pass makes the addresses ready for a core that adopts them, if they are held.
func (in *instance) pass(r Replacement) error {
	if in.leased == 0 {
		return nil
	}
	began, err := in.node.now(), error(nil)
	if began.After(in.leased) {
		err = errLeaseOver
	} else if err = r.Instance.Addresses.Hold(failover.Hold{Lease: r.Lease}); err == nil {
		if _, held := r.Instance.Addresses.Leftover(); !held {
			err = errors.New("the kernel does not have them")
		}
	}
	if err != nil {
		return fmt.Errorf("hold the addresses that instance %s is to have: %w", in.Name, err)
	}
	return nil
}

// takeBack drops what pass added.
func (in *instance) takeBack(r Replacement) {
	if in.leased != 0 && r.Extra != nil {
		in.trouble("drop what was not to be an address of it", r.Extra.Drop())
	}
}

// dismiss answers the commands that were under way when the instance went: its core
// hears nothing any more. What they had journaled by then is what the journal says.
func (in *instance) dismiss() {
	for id, answer := range in.commands { // each has its own caller: their order is nobody's
		delete(in.commands, id)
		answer <- Answer{Outcome: failover.RefusedTo, Why: failover.Why{
			Reason: failover.Stopping, Detail: "the instance was taken out before this was done",
		}}
	}
}

// idle waits for the workers of an instance that is out of the loop. Each has its
// own bound.
func (in *instance) idle(ctx context.Context) error {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		in.busy.Wait()
	}()
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Add starts another instance, as at the start of the daemon.
func (n *Node) Add(ctx context.Context, i Instance) error {
	answer, err := change(n, func(work context.Context) error {
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case n.leaving:
			return ErrLeaving
		case n.byName[i.Name] != nil:
			return fmt.Errorf("two instances are called %s", i.Name)
		}
		in := n.instance(i)
		n.enrol(in, nil)
		in.start(work)
		return nil
	})
	return errors.Join(err, answer)
}

// Remove lets an instance leave as the whole daemon would, handing its role over or
// dropping it, and returns when it is out and nothing uses it any more. Its plans
// and the handover bound how long that takes. When ctx ends before, it still leaves
// and its parts must not be closed.
func (n *Node) Remove(ctx context.Context, name string) error {
	in, err := change(n, func(work context.Context) *instance {
		in := n.byName[name]
		if in != nil {
			in.step(work, failover.StopWanted{})
		}
		return in
	})
	switch {
	case err != nil:
		return err
	case in == nil:
		return fmt.Errorf("no instance is called %q", name)
	}
	select {
	case <-in.left:
	case <-ctx.Done():
		return ctx.Err()
	case <-n.over:
		return ErrStopped
	}
	for end := n.now().Add(offTime); ; {
		out, err := change(n, func(context.Context) bool {
			if in.undropped && n.now().Before(end) {
				return false
			}
			n.stopped--
			n.enrol(nil, in)
			in.dismiss()
			return true
		})
		switch {
		case err != nil:
			return err
		case out:
			return in.idle(ctx)
		}
		look := time.NewTimer(dropRetry)
		select {
		case <-look.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
