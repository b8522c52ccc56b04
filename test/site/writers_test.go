package site

import (
	"context"
	"testing"
	"time"
)

// ackedWriters are writers to one database that have these acknowledgements.
func ackedWriters(acks ...Ack) *Writers {
	return &Writers{stop: func() {}, per: []*written{{db: 1, acks: acks}}}
}

func TestGaps(t *testing.T) {
	start := time.Unix(1000, 0)
	ack := func(server uint32, ms int) Ack {
		return Ack{GTID: GTID{Server: server, Seq: uint64(ms)}, At: start.Add(time.Duration(ms) * time.Millisecond)}
	}
	for _, tt := range []struct {
		name string
		acks []Ack
		want time.Duration // 0: none
	}{
		{"it moved", []Ack{ack(1, 10), ack(1, 20), ack(2, 70), ack(2, 80)}, 50 * time.Millisecond},
		{"answers out of order", []Ack{ack(2, 70), ack(1, 20), ack(1, 10)}, 50 * time.Millisecond},
		{"it moved before, too", []Ack{ack(2, -50), ack(1, 20), ack(2, 70)}, 50 * time.Millisecond},
		{"it is still there", []Ack{ack(1, 10), ack(1, 20)}, 0},
		{"it has not been there", []Ack{ack(2, 10)}, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			gaps := ackedWriters(tt.acks...).Gaps(1, start)
			switch {
			case tt.want == 0 && len(gaps) > 0, tt.want > 0 && len(gaps) != 1:
				t.Errorf("%v", gaps)
			case tt.want > 0 && gaps[0].Length() != tt.want:
				t.Errorf("%s, want %s", gaps[0].Length(), tt.want)
			}
		})
	}
}

func TestAwaitFrom(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	start := time.Unix(1000, 0)
	w := ackedWriters(Ack{GTID: GTID{Server: 1}, At: start}, Ack{GTID: GTID{Server: 2}, At: start.Add(time.Second)})
	if err := w.AwaitFrom(ctx, 2, start); err != nil {
		t.Error(err)
	}
	if err := w.AwaitFrom(ctx, 2, start.Add(2*time.Second)); err == nil {
		t.Error("a row of before counts")
	}
	if err := w.AwaitFrom(ctx, 3, start); err == nil {
		t.Error("another server's row counts")
	}
}
