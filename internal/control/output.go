package control

import "slices"

// WithoutOutput returns the document without what programs of steps printed, which may
// be anything: it is for whoever may read the journal, or talk to the daemon as root or
// the group does. The document itself stays as it is.
func (doc Document) WithoutOutput() Document {
	doc.Instances = slices.Clone(doc.Instances)
	for i, in := range doc.Instances {
		if in.LastTransition != nil {
			last := *in.LastTransition
			last.Steps = withoutOutput(last.Steps)
			doc.Instances[i].LastTransition = &last
		}
	}
	doc.Peer.Instances = slices.Clone(doc.Peer.Instances)
	for i, in := range doc.Peer.Instances {
		doc.Peer.Instances[i].Steps = withoutOutput(in.Steps)
	}
	if doc.Peer.Report != nil {
		report := doc.Peer.Report.WithoutOutput()
		doc.Peer.Report = &report
	}
	return doc
}

func withoutOutput(steps []Step) []Step {
	steps = slices.Clone(steps)
	for i := range steps {
		steps[i].Output = ""
	}
	return steps
}
