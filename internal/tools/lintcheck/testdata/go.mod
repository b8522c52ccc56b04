module github.com/tanist-ha/tanist

go 1.26.0

require (
	charm.land/bubbletea/v2 v2.0.0
	github.com/prometheus/client_golang v0.0.0
	github.com/spf13/cobra v0.0.0
	go.uber.org/zap v0.0.0
)

replace (
	charm.land/bubbletea/v2 => ./stub/bubbletea
	github.com/prometheus/client_golang => ./stub/prometheus
	github.com/spf13/cobra => ./stub/cobra
	go.uber.org/zap => ./stub/zap
)
