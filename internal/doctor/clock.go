package doctor

import (
	"fmt"
	"time"
)

// mostOffset is how far apart two clocks may be. Nothing of a failover counts on
// them; logs, journals and the ages that a database writes do.
const mostOffset = time.Second

// Clock is what the kernel says of this host's clock.
type Clock struct {
	Synchronised bool
	MaxError     time.Duration // that the kernel assumes
	Service      string        // that would keep it, empty when none was found
	Foreign      bool          // the kernel does not say: in a container the clock is another's
}

// Synchronised wants something that keeps the clock.
func Synchronised(c Clock) Finding {
	if c.Foreign {
		return fine(ClockUnsynchronised, "", "the kernel does not say here how its clock is kept: whoever runs this container keeps it")
	}
	if c.Synchronised {
		return fine(ClockUnsynchronised, "", "the clock is kept (the kernel assumes an error of %s at most)", c.MaxError.Round(time.Millisecond))
	}
	f := warn(ClockUnsynchronised, "", "nothing keeps the clock").because("the kernel's status is STA_UNSYNC")
	if c.Service != "" {
		return f.because("%s runs and has not reached it yet, or reaches no server", c.Service).fix("timedatectl timesync-status || chronyc tracking")
	}
	return f.fix("apt-get install chrony   # or: systemctl enable --now systemd-timesyncd")
}

// Offset is by how much the peer's clock is ahead.
type Offset struct {
	Ahead time.Duration
	// Error is how wrong that may be: half of what the question took.
	Error time.Duration
}

// ClocksAgree wants two clocks that say the same, as far as could be measured.
func ClocksAgree(nodes [2]string, o Offset) Finding {
	who, by := nodes[1]+" is ahead of "+nodes[0], o.Ahead
	if o.Ahead < 0 {
		who, by = nodes[1]+" is behind "+nodes[0], o.Ahead.Abs()
	}
	measured := fmt.Sprintf("measured over the peer link, to within %s", max(o.Error, time.Millisecond).Round(time.Millisecond))
	if by-o.Error <= mostOffset {
		return fine(ClockOff, "", "the clocks agree to within %s (%s)", (by + o.Error).Round(time.Millisecond), measured).on(nodes[0])
	}
	return wrong(ClockOff, "", "the clock of %s by %s", who, by.Round(time.Millisecond)).because("%s", measured).
		because("times in logs, journals and heartbeat tables of the two nodes cannot be compared").
		fix("timedatectl   # on both: which of the two is right, and what keeps it?", "chronyc makestep   # or: systemctl restart systemd-timesyncd").on(nodes[1])
}
