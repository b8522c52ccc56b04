package peer

// An outbox holds at most one message of each instance: the newest. Its size is
// bounded by the number of instances, whatever the peer does.

import "sync"

type outbox struct {
	wake chan struct{} // one slot: something waits

	mu       sync.Mutex // guards the fields below
	newest   []waiting  // by number of the instance
	order    []int      // the instances that wait, from first on, the longest waiting first
	first    int
	replaced uint64
}

type waiting struct {
	item  item
	waits bool
}

func newOutbox() *outbox { return &outbox{wake: make(chan struct{}, 1)} }

// put makes it what is to be sent of its instance, once signal says so.
func (o *outbox) put(it item) {
	o.mu.Lock()
	defer o.mu.Unlock()
	w := o.slot(it.number)
	if w.waits {
		o.replaced++
	}
	o.queue(w, it)
}

// take removes the message that waits longest.
func (o *outbox) take() (it item, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.first == len(o.order) {
		return item{}, false
	}
	w := &o.newest[o.order[o.first]]
	if o.first++; o.first == len(o.order) {
		o.first, o.order = 0, o.order[:0]
	}
	it = w.item
	*w = waiting{}
	return it, true
}

// giveBack returns messages that were taken and not sent, unless newer ones came
// meanwhile.
func (o *outbox) giveBack(items []item) {
	o.mu.Lock()
	for _, it := range items {
		if w := o.slot(it.number); w.waits {
			o.replaced++
		} else {
			o.queue(w, it)
		}
	}
	o.mu.Unlock()
	o.signal()
}

func (o *outbox) slot(number int) *waiting {
	for len(o.newest) <= number {
		o.newest = append(o.newest, waiting{})
	}
	return &o.newest[number]
}

func (o *outbox) queue(w *waiting, it item) {
	if !w.waits {
		if o.first > 0 && len(o.order) == cap(o.order) { // rather than grow
			o.order = o.order[:copy(o.order, o.order[o.first:])]
			o.first = 0
		}
		o.order = append(o.order, it.number)
	}
	*w = waiting{item: it, waits: true}
}

func (o *outbox) superseded() uint64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.replaced
}

// signal wakes whoever sends.
func (o *outbox) signal() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}
