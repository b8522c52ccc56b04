package web

import "github.com/prometheus/client_golang/prometheus"

// kind is the Prometheus type of a metric.
type kind string

const (
	gauge     kind = "gauge"
	counter   kind = "counter"
	histogram kind = "histogram"
)

// family is one metric by its name.
type family struct {
	name   string
	kind   kind
	labels []string // but for instance, which comes first where it is there
	help   string
	node   bool // it is about the node and has no label instance
}

// metric is the place of a family.
type metric int

const (
	state metric = iota
	stateReason
	vipHeld
	epoch
	gateOpen
	gateReason
	lag
	missing
	readOnly
	healthOK
	healthFlapping
	drift
	adverts
	dropped
	lateness
	renewals
	renewalErrors
	transitions
	transitionSeconds
	steps
	stepSeconds
	pathUp
	heartbeatUp
	heartbeatFlooded
	pathDropped
	journalWritable
	journalRefused
	journalAwaiting
	eventsDropped
	logDropped
	buildInfo
	linkRefused
	blocked
	maintenance
	notices
	eventReaders
	eventReadersCut
)

var families = [...]family{
	state:             {"tanist_state", gauge, []string{"state"}, "1 for the state that the instance is in, 0 for every other one.", false},
	stateReason:       {"tanist_state_reason", gauge, []string{"reason"}, "1 for the reason of that state, as status and log name it.", false},
	vipHeld:           {"tanist_vip_held", gauge, []string{"address"}, "1 while this node's kernel has the address.", false},
	epoch:             {"tanist_epoch", gauge, nil, "Epoch of the instance: each promotion begins a higher one.", false},
	gateOpen:          {"tanist_gate_open", gauge, nil, "1 while this node could be promoted.", false},
	gateReason:        {"tanist_gate_reason", gauge, []string{"code", "database"}, "1 for each thing that keeps the gate closed; database is empty where it concerns the node.", false},
	lag:               {"tanist_replication_lag_seconds", gauge, []string{"database"}, "How far a database is behind its source. Absent while unknown.", false},
	missing:           {"tanist_replication_missing_transactions", gauge, []string{"database"}, "Transactions that the source is known to have and this database has not applied. Absent while unknown.", false},
	readOnly:          {"tanist_database_read_only", gauge, []string{"database"}, "1 while the database is read-only, 0 while it takes writes. Absent while unknown.", false},
	healthOK:          {"tanist_health_ok", gauge, []string{"check", "effect"}, "1 while the health check counts as well. Absent before its first sample.", false},
	healthFlapping:    {"tanist_health_flapping", gauge, []string{"check", "effect"}, "1 while the health check changes so often that it counts as failing.", false},
	drift:             {"tanist_drift", gauge, []string{"step", "kind", "state", "repair"}, "1 for each thing that is not as the configuration or the role wants it.", false},
	adverts:           {"tanist_adverts_total", counter, []string{"direction"}, "Advertisements sent, each once for all paths, and received and accepted, on each path.", false},
	dropped:           {"tanist_dropped_packets_total", counter, []string{"reason"}, "Packets to the instance that were not accepted.", false},
	lateness:          {"tanist_heartbeat_lateness_seconds", histogram, nil, "How much later than due an advertisement was sent.", false},
	renewals:          {"tanist_lease_renewals_total", counter, nil, "Renewals of the address's lease in the kernel.", false},
	renewalErrors:     {"tanist_lease_renewal_errors_total", counter, nil, "Renewals that the kernel refused or did not answer in time.", false},
	transitions:       {"tanist_transitions_total", counter, []string{"kind", "result"}, "Transitions that ended.", false},
	transitionSeconds: {"tanist_transition_seconds", histogram, []string{"kind"}, "How long transitions took.", false},
	steps:             {"tanist_steps_total", counter, []string{"step", "result"}, "Steps of transitions that ended. Beyond 256 names, step is other.", false},
	stepSeconds:       {"tanist_step_seconds", histogram, []string{"step"}, "How long the steps took that were run.", false},
	pathUp:            {"tanist_peer_path_up", gauge, []string{"address"}, "1 while the peer is heard on this path of the peer link. All instances share the paths.", false},
	heartbeatUp:       {"tanist_heartbeat_path_up", gauge, []string{"interface", "peer"}, "1 while advertisements can be sent and received on this path.", true},
	heartbeatFlooded:  {"tanist_heartbeat_path_flooded", gauge, []string{"interface", "peer"}, "1 while far more is refused on this path than a peer sends. Of what no key can have sealed, one packet of 256 is counted then.", true},
	pathDropped:       {"tanist_path_dropped_packets_total", counter, []string{"interface", "peer", "reason"}, "Packets on this path that were not accepted, those to an instance included.", true},
	journalWritable:   {"tanist_journal_writable", gauge, nil, "1 while the journal can be written. While it cannot, this node is not promoted.", true},
	journalRefused:    {"tanist_journal_refused_total", counter, nil, "Records that could not be written at once.", true},
	journalAwaiting:   {"tanist_journal_awaiting", gauge, nil, "Records that wait for the disk.", true},
	eventsDropped:     {"tanist_events_dropped_total", counter, nil, "Events that were dropped because the control loop was far behind.", true},
	logDropped:        {"tanist_log_lines_dropped_total", counter, nil, "Lines of the log that were dropped because nobody read them.", true},
	buildInfo:         {"tanist_build_info", gauge, []string{"version", "node"}, "1, with the version and the label of this node.", true},
	linkRefused:       {"tanist_link_refused_total", counter, []string{"reason"}, "Connections and messages of the peer link that were refused, by this node or by the peer.", true},
	blocked:           {"tanist_blocked", gauge, nil, "1 while an operator forbids this node the role.", false},
	maintenance:       {"tanist_maintenance", gauge, nil, "1 while an operator suspends failover of the pair, as far as this node knows.", false},
	notices:           {"tanist_notices_total", counter, []string{"result"}, "Notices by what became of them: delivered, failed, dropped because too many waited, or lost with an earlier daemon.", true},
	eventReaders:      {"tanist_event_readers", gauge, nil, "Streams of events that are open.", true},
	eventReadersCut:   {"tanist_event_readers_cut_total", counter, []string{"reason"}, "Streams of events that the daemon ended.", true},
}

func (f family) desc() *prometheus.Desc {
	return prometheus.NewDesc(f.name, f.help, f.allLabels(), nil)
}

func (f family) allLabels() []string {
	if f.node {
		return f.labels
	}
	return append([]string{"instance"}, f.labels...)
}
