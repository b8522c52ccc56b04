package peer

import (
	"net"
	"runtime"
	"testing"
)

// BenchmarkHandshake is a connection from nothing to proved, both ends together.
func BenchmarkHandshake(b *testing.B) {
	for name, keys := range map[string][]Key{"plain": nil, "key": {keyOld}, "two keys": {keyNew, keyOld}} {
		b.Run(name, func(b *testing.B) {
			join := joiner(b, keys...)
			b.ReportAllocs()
			for b.Loop() {
				_, _, conns := join()
				_, _ = conns[0].Close(), conns[1].Close()
			}
		})
	}
}

// joiner makes connections of two ends that have derived their keys.
func joiner(b *testing.B, keys ...Key) func() (dialing, listening *channel, conns [2]net.Conn) {
	b.Helper()
	var ends [2]*secrets
	for i, labels := range [][2]string{{"primary", "reserve"}, {"reserve", "primary"}} {
		var err error
		if ends[i], err = deriveAll(keys, labels[0], labels[1]); err != nil {
			b.Fatal(err)
		}
	}
	return func() (dialing, listening *channel, conns [2]net.Conn) {
		ours, theirs := tcpPair(b)
		here, there := termsOf(b, ours, "primary", "reserve"), termsOf(b, theirs, "reserve", "primary")
		here.secrets, there.secrets = ends[0], ends[1]
		done := make(chan *channel, 1)
		go func() {
			c, _ := answered(ours, here, func() error { return nil }, func() {})
			done <- c
		}()
		dialing, err := dialed(theirs, there)
		if err != nil {
			b.Fatal(err)
		}
		return dialing, <-done, [2]net.Conn{ours, theirs}
	}
}

// BenchmarkRefusal is what a stranger's knock costs the listening end.
func BenchmarkRefusal(b *testing.B) {
	challenge, k := fixedKnock(b)
	at, body := answering(b, keyOld, keyNew), k.body()
	body[len(body)-1] ^= 1
	body[len(body)-1-keyIDSize-proofSize] ^= 1
	b.ReportAllocs()
	for b.Loop() {
		if _, err := at.judgeBody(body, challenge); err == nil {
			b.Fatal("believed")
		}
	}
}

// BenchmarkMemory reports what an established connection holds, both ends together.
func BenchmarkMemory(b *testing.B) {
	join := joiner(b, keyOld)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	var held []*channel
	var conns [][2]net.Conn
	for b.Loop() {
		one, other, both := join()
		held, conns = append(held, one, other), append(conns, both)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/float64(len(conns)), "B/connection")
	runtime.KeepAlive(held)
}
