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
	"github.com/tanist-ha/tanist/internal/failover"
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

func newLogger(cfg config.Log) (*logger, error) {
	level := zap.NewAtomicLevelAt(zapLevel(cfg.Level))
	l := &logger{level: level, queue: make(chan func(*zap.Logger), logQueue), told: map[string]*trouble{}}
	enc := zap.NewProductionEncoderConfig()
	enc.EncodeTime = zapcore.ISO8601TimeEncoder
	toStderr := func(e zapcore.Encoder) zapcore.Core {
		return zapcore.NewCore(e, zapcore.Lock(os.Stderr), level)
	}
	var core zapcore.Core
	switch f := cfg.Format; {
	case f == config.FormatJournal, f == config.FormatAuto && systemd.UnderJournal():
		l.journal = systemd.NewJournal(systemd.JournalConfig{Identifier: "tanist", Level: level})
		core = l.journal.Core()
	case f == config.FormatJSON:
		core = toStderr(zapcore.NewJSONEncoder(enc))
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
		l.zap.Warn("log lines were dropped", zap.Uint64("since_start", n))
	}
}

func (l *logger) put(line func(*zap.Logger)) {
	select {
	case l.queue <- line:
	default:
		l.dropped.Add(1)
	}
}

func (l *logger) info(msg string, fields ...zap.Field) {
	l.put(func(z *zap.Logger) { z.Info(msg, fields...) })
}

func (l *logger) warn(msg string, fields ...zap.Field) {
	l.put(func(z *zap.Logger) { z.Warn(msg, fields...) })
}

func (l *logger) fail(msg string, err error) {
	l.put(func(z *zap.Logger) { z.Error(msg, zap.Error(err)) })
}

// Note tells of a state or the end of a transition.
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
	if n.Why.Reason == failover.Drifted {
		msg = "drift"
	}
	if n.Steps != nil {
		msg = "transition over"
		fields = append(fields, zap.String("steps", stepWords(n.Steps)))
	}
	if n.Urgent {
		l.warn(msg, fields...)
	} else {
		l.info(msg, fields...)
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

// Trouble tells of an effect that failed. The same trouble is told once in a
// while, with a count of the times in between.
func (l *logger) Trouble(instance, doing string, err error) {
	key := instance + "\x00" + doing
	now := time.Now()
	l.mu.Lock()
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
		l.mu.Unlock()
		return
	}
	skipped := t.skipped
	t.at, t.skipped = now, 0
	l.mu.Unlock()
	fields := []zap.Field{zap.Error(err)}
	if instance != "" {
		fields = append(fields, zap.String("instance", instance))
	}
	if skipped > 0 {
		fields = append(fields, zap.Int("times_untold", skipped))
	}
	l.warn(doing, fields...)
}
