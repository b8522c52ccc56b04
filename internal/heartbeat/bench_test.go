package heartbeat

import (
	"fmt"
	"testing"

	"github.com/tanist-ha/tanist/internal/failover"
	"github.com/tanist-ha/tanist/vrrp/auth"
)

// BenchmarkSendAndReceive is one advertisement from one node's loop to the
// other's, over one path of real sockets: encode, seal, two system calls, verify,
// decode, deliver. 64 instances at 100 ms on two paths are 1,280 a second each way.
func BenchmarkSendAndReceive(b *testing.B) {
	if !inside(b, "-test.run=^$", "-test.bench=^"+b.Name()+"$", "-test.benchmem") {
		return
	}
	for _, mode := range []auth.Mode{auth.None, auth.Enforce} {
		b.Run(mode.String(), func(b *testing.B) {
			from, to := newEnd(b, 0), newEnd(b, 1)
			var all []Instance
			for vrid := range 64 {
				name := fmt.Sprintf("instance%d", vrid+1)
				all = append(all, from.add(name, uint8(vrid+1), inMode(mode)))
				to.add(name, uint8(vrid+1), inMode(mode))
			}
			hears(b, from, to, all[0])
			r, back := from.routes[all[0].Name], to.routes[all[0].Name]
			n := 0
			count := func(string, failover.Advertised) { n++ }
			to.deliver.Store(&count)
			sends := make([]failover.Send, len(all))
			for i, cfg := range all {
				sends[i] = failover.Send{Advertisement: advert(cfg), Epoch: 7}
			}
			b.ReportAllocs()
			b.ResetTimer()
			for i := range b.N {
				if err := r.Send(sends[i%len(sends)]); err != nil {
					b.Fatal(err)
				}
				if i%len(sends) == len(sends)-1 {
					back.Drain()
				}
			}
			back.Drain()
			b.StopTimer()
			if n < b.N {
				b.Fatalf("%d of %d heard", n, b.N)
			}
		})
	}
}

// BenchmarkDrainEmpty is what every turn of the loop costs per route.
func BenchmarkDrainEmpty(b *testing.B) {
	if !inside(b, "-test.run=^$", "-test.bench=^"+b.Name()+"$", "-test.benchmem") {
		return
	}
	from, to := newEnd(b, 0), newEnd(b, 1)
	cfg := from.add("compass", 51)
	to.add("compass", 51)
	hears(b, from, to, cfg)
	b.ReportAllocs()
	for b.Loop() {
		to.routes["compass"].Drain()
	}
}
