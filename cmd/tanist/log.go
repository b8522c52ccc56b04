package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/tanist-ha/tanist/hooks"
	"github.com/tanist-ha/tanist/internal/config"
	"github.com/tanist-ha/tanist/internal/control"
	"github.com/tanist-ha/tanist/internal/failover"
	"github.com/tanist-ha/tanist/internal/node"
	"github.com/tanist-ha/tanist/systemd"
)

const (
	// logQueue bounds the lines that wait for a slow terminal or pipe.
	logQueue = 1024
	// troubleInterval is how often the same trouble is told again.
	troubleInterval = 10 * time.Second
	// troubleKinds bounds how many kinds of trouble are told apart.
	troubleKinds = 256
)

// logger tells the operator what happens. The control loop calls it, so it never
// blocks: lines go through a bounded queue and are counted when they do not fit.
type logger struct {
	zap     *zap.Logger
	level   zap.AtomicLevel
	names   bool // kinds go by their name, and MESSAGE_ID: not on a console
	queue   chan func(*zap.Logger)
	dropped atomic.Uint64
	journal *systemd.Journal
	// confessed is how much of dropped was told; only run uses it.
	confessed uint64

	mu   sync.Mutex // guards told
	told map[string]*trouble
}

type trouble struct {
	at      time.Time
	skipped int
}

func newLogger(cfg config.Log, node string) (*logger, error) {
	return newLoggerTo(cfg, node, os.Stderr, systemd.JournalSocket)
}

// newLoggerTo makes one that writes to stderr, or to the journal behind a socket.
func newLoggerTo(cfg config.Log, node string, stderr *os.File, socket string) (*logger, error) {
	level := zap.NewAtomicLevelAt(zapLevel(cfg.Level))
	l := &logger{level: level, queue: make(chan func(*zap.Logger), logQueue), told: map[string]*trouble{}}
	enc := zap.NewProductionEncoderConfig()
	enc.EncodeTime = zapcore.ISO8601TimeEncoder
	toStderr := func(e zapcore.Encoder) zapcore.Core {
		return zapcore.NewCore(e, zapcore.Lock(stderr), level)
	}
	var core zapcore.Core
	switch f := cfg.Format; {
	case f == config.FormatJournal, f == config.FormatAuto && systemd.UnderJournal():
		l.journal = systemd.NewJournal(systemd.JournalConfig{
			Identifier: "tanist", Level: level, Socket: socket, Fields: map[string]string{"NODE": node},
		})
		core, l.names = l.journal.Core(), true
	case f == config.FormatJSON:
		core = toStderr(zapcore.NewJSONEncoder(enc)).With([]zapcore.Field{zap.String("node", node)})
		l.names = true
	default:
		enc.EncodeLevel = zapcore.CapitalLevelEncoder
		core = toStderr(zapcore.NewConsoleEncoder(enc))
	}
	l.zap = zap.New(core)
	return l, nil
}

// zapLevel is the level as the log's library has it.
func zapLevel(l config.LogLevel) zapcore.Level {
	switch l {
	case config.LevelDebug:
		return zapcore.DebugLevel
	case config.LevelWarn:
		return zapcore.WarnLevel
	case config.LevelError:
		return zapcore.ErrorLevel
	case config.LevelInfo:
	}
	return zapcore.InfoLevel
}

// setLevel changes what is written from now on.
func (l *logger) setLevel(level config.LogLevel) { l.level.SetLevel(zapLevel(level)) }

// run writes the queued lines until ctx ends, and what is queued then.
func (l *logger) run(ctx context.Context) {
	var wg sync.WaitGroup
	sink, endSink := context.WithCancel(context.WithoutCancel(ctx)) // it outlives the last line
	if l.journal != nil {
		wg.Go(func() { _ = l.journal.Run(sink) })
	}
	for ctx.Err() == nil {
		select {
		case line := <-l.queue:
			l.write(line)
		case <-ctx.Done():
		}
	}
	for range len(l.queue) {
		l.write(<-l.queue)
	}
	endSink()
	wg.Wait()
	_ = l.zap.Sync()
}

// write writes a line, and says once the queue is empty again what was dropped.
func (l *logger) write(line func(*zap.Logger)) {
	line(l.zap)
	if n := l.dropped.Load(); n > l.confessed && len(l.queue) == 0 {
		l.confessed = n
		l.zap.Warn("log lines were dropped", l.named(kindLogDropped, []zap.Field{zap.Uint64("since_start", n)})...)
	}
}

func (l *logger) put(line func(*zap.Logger)) {
	select {
	case l.queue <- line:
	default:
		l.dropped.Add(1)
	}
}

// event tells of something of a kind.
func (l *logger) event(kind messageKind, level zapcore.Level, msg string, fields ...zap.Field) {
	fields = l.named(kind, fields)
	l.put(func(z *zap.Logger) { z.Log(level, msg, fields...) })
}

// named adds the names of a kind where there is a place for them.
func (l *logger) named(kind messageKind, fields []zap.Field) []zap.Field {
	i := kind.identity()
	if !l.names || i.id == "" {
		return fields
	}
	if l.journal == nil {
		fields = append(fields, zap.String("event", i.name))
	}
	return append(fields, systemd.MessageID(i.id))
}

func (l *logger) info(msg string, fields ...zap.Field) {
	l.put(func(z *zap.Logger) { z.Info(msg, fields...) })
}

func (l *logger) warn(msg string, fields ...zap.Field) {
	l.put(func(z *zap.Logger) { z.Warn(msg, fields...) })
}

// Note tells of a state or the end of a transition, in one line.
func (l *logger) Note(instance string, n failover.Note) {
	fields := []zap.Field{
		zap.String("instance", instance), zap.Stringer("state", n.State), zap.Uint64("epoch", uint64(n.Epoch)),
		zap.Stringer("reason", n.Why.Reason),
	}
	if n.Why.Check != "" {
		fields = append(fields, zap.String("check", n.Why.Check))
	}
	if n.Why.Detail != "" {
		fields = append(fields, zap.String("detail", n.Why.Detail))
	}
	for _, g := range n.Why.Gate {
		fields = append(fields, zap.String("gate_"+strings.TrimPrefix(g.Database+"_"+g.Code.String(), "_"), g.Detail))
	}
	msg := "state"
	switch t := n.Over; {
	case t != nil:
		msg = "transition over"
		fields = append(fields, zap.String("kind", control.Kind(t.Role)), zap.Stringer("from", t.From), zap.Stringer("to", t.Role),
			zap.Bool("planned", t.Planned), zap.Stringer("result", t.Ending), zap.Float64("duration_ms", millis(t.Duration)))
	case n.Why.Reason == failover.Drifted:
		msg = "drift"
	case n.New:
		fields = append(fields, zap.Stringer("from", n.From))
	}
	if n.Steps != nil {
		fields = append(fields, zap.String("steps", stepWords(n.Steps)))
	}
	level := zapcore.InfoLevel
	if n.Urgent {
		level = zapcore.WarnLevel
	}
	l.event(kindOfNote(n), level, msg, fields...)
}

// kindOfNote is what an operator would look for.
func kindOfNote(n failover.Note) messageKind {
	switch {
	case n.Over != nil && n.Over.Ending == hooks.Completed:
		return kindTransition
	case n.Over != nil:
		return kindTransitionFailed
	case n.Why.Reason == failover.Drifted:
		return kindDrift
	case n.Why.Reason == failover.DataLost:
		return kindDataLost
	case n.Why.Reason == failover.DatabasesChanged:
		return kindDatabase
	}
	switch n.State {
	case failover.Refused:
		return kindRefused
	case failover.Fault:
		return kindFault
	case failover.Conflict:
		return kindConflict
	default:
		return kindState
	}
}

func stepWords(results []hooks.Result) string {
	var words []string
	for _, r := range results {
		w := r.Name + ": " + r.Outcome.String()
		if r.Duration > 0 {
			w += fmt.Sprintf(" in %.1f ms", float64(r.Duration.Microseconds())/1000)
		}
		if r.Detail != "" {
			w += " (" + r.Detail + ")"
		}
		words = append(words, w)
	}
	return strings.Join(words, "; ")
}

// due reports whether something that can come again and again is to be told now, and
// how often it was not since it last was.
func (l *logger) due(instance, doing string) (skipped int, is bool) {
	key := instance + "\x00" + doing
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	t := l.told[key]
	if t == nil {
		if len(l.told) >= troubleKinds {
			clear(l.told)
		}
		t = &trouble{}
		l.told[key] = t
	}
	if now.Sub(t.at) < troubleInterval {
		t.skipped++
		return 0, false
	}
	skipped = t.skipped
	t.at, t.skipped = now, 0
	return skipped, true
}

// Trouble tells of an effect that failed. The same trouble is told once in a
// while, with a count of the times in between.
func (l *logger) Trouble(instance, doing string, err error) {
	skipped, due := l.due(instance, doing)
	if !due {
		return
	}
	fields := []zap.Field{zap.Error(err)}
	if instance != "" {
		fields = append(fields, zap.String("instance", instance))
	}
	if skipped > 0 {
		fields = append(fields, zap.Int("times_untold", skipped))
	}
	kind := kindTrouble
	switch doing {
	case node.DoingJournal:
		kind = kindJournalFailed
	case node.JournalAgain:
		kind = kindJournalWell
	case doingRefuse:
		kind = kindCommandRefused
	}
	l.event(kind, zapcore.WarnLevel, doing, fields...)
}
