package wire

import (
	"testing"
)

// BenchmarkReceive is the reading of one packet of those that are queued.
func BenchmarkReceive(b *testing.B) {
	nsA, nsB := dualHosts(b)
	for _, tt := range []struct {
		name string
		a, b Config
	}{
		{"IPv4", Config{Local: addrA, Peer: addrB}, Config{Local: addrB, Peer: addrA}},
		{"IPv6", Config{Local: addrA6, Peer: addrB6}, Config{Local: addrB6, Peer: addrA6}},
	} {
		b.Run(tt.name, func(b *testing.B) {
			to, from := open(b, nsA, tt.a), open(b, nsB, tt.b)
			heard := 0
			if err := to.start(func(Packet) { heard++ }); err != nil {
				b.Fatal(err)
			}
			payload := message(51, string(make([]byte, 74)))
			b.ReportAllocs()
			for done := 0; done < b.N; {
				b.StopTimer()
				n := min(b.N-done, 1000)
				for range n {
					send(b, from, payload)
				}
				b.StartTimer()
				to.Drain()
				done += n
			}
			if heard != b.N {
				b.Fatalf("%d of %d heard", heard, b.N)
			}
		})
	}
}
