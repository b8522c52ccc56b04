package sim

import "testing"

// BenchmarkPlain is one failover of the plain scenario.
func BenchmarkPlain(b *testing.B) {
	b.ReportAllocs()
	n := 0
	for seed := uint64(1); n < b.N; seed++ {
		w := Plain(seed, plainFailovers, DefaultSetup())
		if err := w.Finish(); err != nil {
			b.Fatal(err)
		}
		n += w.takeovers
		b.ReportMetric(float64(w.stepped)/float64(w.takeovers), "steps/failover")
	}
}

// BenchmarkAddress is one failover of the address scenario.
func BenchmarkAddress(b *testing.B) {
	b.ReportAllocs()
	n, steps := 0, uint64(0)
	for seed := uint64(1); n < b.N; seed++ {
		w := Address(seed)
		_ = w.Finish() // what it finds is for the tests to say
		n += w.takeovers
		steps += w.stepped
	}
	b.ReportMetric(float64(steps)/float64(n), "steps/failover")
}
