package peer

// An outbox holds at most one message of each instance: the newest. Its size is
// bounded by the number of instances, whatever the peer does.

import "sync"

type outbox struct {
	wake chan struct{} // one slot: something waits

	mu       sync.Mutex // guards the fields below
	newest   map[string][]byte
	order    []string // the instances in newest, the longest waiting first
	replaced uint64
}

func newOutbox() *outbox {
	return &outbox{wake: make(chan struct{}, 1), newest: map[string][]byte{}}
}

// put makes frame what is to be sent of instance.
func (o *outbox) put(instance string, frame []byte) {
	o.mu.Lock()
	if _, waits := o.newest[instance]; waits {
		o.replaced++
	} else {
		o.order = append(o.order, instance)
	}
	o.newest[instance] = frame
	o.mu.Unlock()
	o.signal()
}

// take removes the message that waits longest.
func (o *outbox) take() (instance string, frame []byte, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.order) == 0 {
		return "", nil, false
	}
	instance = o.order[0]
	o.order = append(o.order[:0], o.order[1:]...)
	frame = o.newest[instance]
	delete(o.newest, instance)
	return instance, frame, true
}

// giveBack returns a message that was taken and not sent, unless a newer one
// came meanwhile.
func (o *outbox) giveBack(instance string, frame []byte) {
	o.mu.Lock()
	if _, waits := o.newest[instance]; waits {
		o.replaced++
	} else {
		o.order = append(o.order, instance)
		o.newest[instance] = frame
	}
	o.mu.Unlock()
	o.signal()
}

func (o *outbox) superseded() uint64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.replaced
}

func (o *outbox) signal() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}
