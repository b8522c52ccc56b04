package hooks

import "time"

// Entry is a Record as the journal has it.
type Entry struct {
	At     time.Time // the wall clock, UTC; it may step, the order of entries does not
	Boot   string    // the kernel's boot ID, empty where it could not be read
	Record Record
	// Number is the entry's own, for good: it grows, no two entries of a journal have
	// the same, and one that came before has less. 0: of a release that gave none.
	Number uint64
	// Skipped is how many numbers were left out right before this one: no entry has
	// them. Where an entry's Number less Skipped is not one more than the Number before
	// it, entries between the two are gone.
	Skipped uint64
	// Unknown is the name of a kind that this release does not know, else empty.
	Unknown string
}

// Passage is a stretch of the journal that belongs together: a transition with
// its steps, if Transition, else one entry that stands by itself.
type Passage struct {
	Entry // Began, or the one entry

	Transition bool
	Ending     Ending
	Ended      time.Time     // zero without an Ended
	Duration   time.Duration // 0 without an Ended
	// Open says that it has not ended by the last record: it goes on, or the daemon
	// ended in it.
	Open bool
	// Next is the epoch that a planned demotion gives to the other node, 0: none.
	Next uint64
	// TakenBack says that a planned demotion came to nothing: this node went on.
	TakenBack bool
	// Undoes says that it only takes back what a promotion of its epoch did, or a
	// demotion that came to nothing.
	Undoes    bool
	Steps     []Performed
	Losses    []Loss
	Overrides []Entry
	Acquired  time.Time // when the address came with a planned promotion, zero: never
	Reverted  time.Time // when it was clear that the promotion did not come about, zero: it did
}

// Performed is a step that ended.
type Performed struct {
	At   time.Time
	Step Result
}

// History puts entries together into passages, in the order in which they began.
// What belongs to a passage that the entries do not hold stands by itself.
func History(entries []Entry) []Passage {
	h := history{of: map[string]*chronicle{}}
	for _, e := range entries {
		h.add(e)
	}
	for i := range h.passages {
		p := h.passages[i]
		c := h.of[p.Record.Instance]
		p.Open = p.Transition && p.Ended.IsZero() && !p.TakenBack && c.latest == p
	}
	out := make([]Passage, len(h.passages))
	for i, p := range h.passages {
		out[i] = *p
	}
	return out
}

type history struct {
	passages []*Passage
	of       map[string]*chronicle // by instance
}

// chronicle is what one instance's next entry can belong to.
type chronicle struct {
	latest    *Passage            // transition: one runs at a time
	promotion map[uint64]*Passage // the latest of each epoch
	override  *Passage            // the entry before this one, if it was an Override
	offer     *Passage            // and this one a Learned of a planned handover
}

func (h *history) add(e Entry) {
	r := e.Record
	c := h.of[r.Instance]
	if c == nil {
		c = &chronicle{promotion: map[uint64]*Passage{}}
		h.of[r.Instance] = c
	}
	if r.Kind == Commanded { // it stands beside whatever is told
		h.alone(e)
		return
	}
	override, offer := c.override, c.offer
	c.override, c.offer = nil, nil
	switch r.Kind {
	case Began:
		h.began(c, e, override, offer)
	case Stepped:
		if p := c.current(r); p != nil {
			p.Steps = append(p.Steps, Performed{At: e.At, Step: r.Step})
			return
		}
		h.alone(e)
	case Ended:
		if p := c.current(r); p != nil {
			p.Ending, p.Ended, p.Duration = r.Ending, e.At, r.Duration
			return
		}
		h.alone(e)
	case Missed:
		if p := c.promotion[r.Epoch]; p != nil && p == c.latest {
			p.Losses = append(p.Losses, r.Loss)
			return
		}
		h.alone(e)
	case Acquired:
		if p := c.promotion[r.Epoch]; p != nil && p == c.latest {
			p.Acquired = e.At
			return
		}
		h.alone(e)
	case Reverted:
		if p := c.promotion[r.Epoch]; p != nil && p.Reverted.IsZero() {
			p.Reverted = e.At
			return
		}
		h.alone(e)
	case Override:
		c.override = h.alone(e)
	case Learned:
		p := h.alone(e)
		if r.Planned {
			c.override, c.offer = override, p
		}
	default:
		h.alone(e)
	}
}

func (h *history) alone(e Entry) *Passage {
	p := &Passage{Entry: e}
	h.passages = append(h.passages, p)
	return p
}

// began opens a transition. What led to it comes with it.
func (h *history) began(c *chronicle, e Entry, override, offer *Passage) {
	r := e.Record
	given := r.Role == Standby && r.Planned && offer != nil
	forced := override != nil && override.Record.Role == r.Role && (given || r.Role == Active && override.Record.Epoch == r.Epoch)
	p := &Passage{Entry: e, Transition: true}
	if last := c.latest; last != nil {
		if last.Next != 0 && last.Ended.IsZero() && r.Role == Active && r.Epoch > last.Record.Epoch {
			last.TakenBack = true
		}
		if last.Record.Role == Active && last.Record.Epoch == r.Epoch {
			failed := !last.Ended.IsZero() && last.Ending != Completed && last.Reverted.IsZero()
			p.Undoes = r.Role == Standby && failed || r.Role == Active && r.Planned && !last.Record.Planned
		}
	}
	if given {
		p.Next = offer.Record.Epoch
		h.remove(offer)
	}
	if forced {
		p.Overrides = append(p.Overrides, override.Entry)
		h.remove(override)
	}
	if r.Role == Active {
		c.promotion[r.Epoch] = p
	}
	c.latest = p
	h.passages = append(h.passages, p)
}

// remove takes out one of the latest passages.
func (h *history) remove(p *Passage) {
	for i := len(h.passages) - 1; i >= 0; i-- {
		if h.passages[i] == p {
			h.passages = append(h.passages[:i], h.passages[i+1:]...)
			return
		}
	}
}

// current returns the transition that a Stepped or Ended belongs to: the latest
// one of that role. The steps behind the address of a planned demotion carry the
// epoch that it gave away.
func (c *chronicle) current(r Record) *Passage {
	p := c.latest
	if p == nil || p.Record.Role != r.Role || p.Record.Epoch != r.Epoch && p.Next != r.Epoch {
		return nil
	}
	return p
}

// Of reports whether the passage is about an epoch.
func (p Passage) Of(epoch uint64) bool {
	return p.Record.Epoch == epoch || p.Next != 0 && p.Next == epoch
}
