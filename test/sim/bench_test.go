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
		n += w.Takeovers
		b.ReportMetric(float64(w.stepped)/float64(w.Takeovers), "steps/failover")
	}
}
