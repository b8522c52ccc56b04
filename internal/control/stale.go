package control

import "time"

// Outdate says of an instance that was made at the date at that the control loop has
// not answered since, and makes its ages those of now. At the zero date nothing was ever
// told. Certain means that its state is that of now all the same.
func (in *Instance) Outdate(at, now time.Time, certain bool) {
	in.Stale, in.Certain = true, certain
	if at.IsZero() {
		return
	}
	age := now.Sub(at)
	ms := age.Milliseconds()
	in.AgeMS = &ms
	for i := range in.Databases {
		if d := &in.Databases[i]; d.AgeMS != nil {
			older := *d.AgeMS + ms
			d.AgeMS = &older
		}
	}
	for i := range in.Health {
		if h := &in.Health[i]; h.AgeMS != nil {
			older := *h.AgeMS + ms
			h.AgeMS = &older
		}
	}
	for i := range in.Drift {
		if d := &in.Drift[i]; d.SinceSeconds != nil {
			longer := *d.SinceSeconds + age.Seconds()
			d.SinceSeconds = &longer
		}
	}
}
