// Package live shows a screen on a terminal for as long as somebody looks, and keeps it
// current.
package live

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"

	"github.com/tanist-ha/tanist/internal/control"
	"github.com/tanist-ha/tanist/internal/screen"
)

// every is the time between two questions, and between two pictures.
const every = time.Second

// Config is what a live screen needs.
type Config struct {
	// Ask asks the daemon; it has to end by itself. One question at a time.
	Ask     func(ctx context.Context) (control.Document, error)
	Words   screen.Words
	Colour  bool
	Unicode bool
	In, Out *os.File // the terminal
}

// Run shows it until q, Ctrl-C or the end of ctx, and leaves the terminal as it was.
func Run(ctx context.Context, cfg Config) error {
	asking, end := context.WithCancel(ctx)
	defer end()
	ask := func() tea.Msg {
		doc, err := cfg.Ask(asking)
		return answer{doc, err, time.Now()}
	}
	p := tea.NewProgram(model{cfg: cfg, ask: ask, now: time.Now(), asking: true},
		tea.WithInput(cfg.In), tea.WithOutput(cfg.Out), tea.WithoutSignalHandler())
	// Asked to end, it waits for who reads the keys; killed by tea.WithContext it closes
	// the reader under it.
	stop := context.AfterFunc(ctx, p.Quit)
	defer stop()
	_, err := p.Run()
	return err
}

type answer struct {
	doc control.Document
	err error
	at  time.Time
}

type tick time.Time

// model is what is shown. It changes with what comes in, and with nothing else.
type model struct {
	cfg    Config
	ask    func() tea.Msg
	asking bool // a question is under way

	doc      control.Document
	got      time.Time // when doc came, the zero time before the first
	err      error     // why the latest question had no answer
	errSince time.Time

	now           time.Time
	width, height int
	top           int // the first line that is shown
}

// Init implements tea.Model.
func (m model) Init() tea.Cmd { return tea.Batch(m.ask, next()) }

func next() tea.Cmd { return tea.Tick(every, func(at time.Time) tea.Msg { return tick(at) }) }

// Update implements tea.Model.
func (m model) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	var cmd tea.Cmd
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		m.width, m.height = msg.Width, msg.Height
	case tea.KeyPressMsg:
		if cmd = m.key(msg.String()); cmd != nil {
			return m, cmd
		}
	case tick:
		m.now, cmd = time.Time(msg), next()
		if !m.asking {
			m.asking, cmd = true, tea.Batch(m.ask, cmd)
		}
	case answer:
		m.asking, m.now = false, msg.at
		switch {
		case msg.err == nil:
			m.doc, m.got, m.err = msg.doc, msg.at, nil
		case m.err == nil:
			m.errSince = msg.at
			fallthrough
		default:
			m.err = msg.err
		}
	}
	m.top = max(0, min(m.top, len(m.picture())-m.room()))
	return m, cmd
}

func (m *model) key(key string) tea.Cmd {
	switch key {
	case "q", "Q", "esc", "ctrl+c", "ctrl+d":
		return tea.Quit
	case "up", "k":
		m.top--
	case "down", "j":
		m.top++
	case "pgup", "b":
		m.top -= m.room()
	case "pgdown", "space", "f":
		m.top += m.room()
	case "home", "g":
		m.top = 0
	case "end", "G":
		m.top = len(m.picture())
	}
	return nil
}

// room is how many lines there are between head and foot.
func (m model) room() int { return max(1, m.height-len(m.head())-1) }

// picture is what is known, grey while nobody answers.
func (m model) picture() []screen.Line {
	if m.got.IsZero() {
		return nil
	}
	lines := screen.Draw(m.doc, screen.Options{Now: m.now, Got: m.got, Width: m.width, Words: m.cfg.Words})
	if m.err != nil {
		lines = screen.Fade(lines)
	}
	return lines
}

// View implements tea.Model.
func (m model) View() tea.View {
	v := tea.NewView(m.text())
	v.AltScreen = true
	return v
}

func (m model) text() string {
	if m.width <= 0 || m.height <= 0 {
		return ""
	}
	lines := m.picture()
	below := m.room()
	shown := lines[min(m.top, len(lines)):min(m.top+below, len(lines))]
	all := append(m.head(), shown...)
	for len(all) < m.height-1 {
		all = append(all, nil)
	}
	all = append(all, m.foot(len(lines), len(shown)))
	for i := range all {
		all[i] = screen.Fit(all[i], m.width)
	}
	return strings.TrimSuffix(screen.Text(all[:min(len(all), m.height)], m.cfg.Colour, m.cfg.Unicode), "\n")
}

// head says how old the picture is, and why nothing newer comes.
func (m model) head() []screen.Line {
	clock := m.now.Format("15:04:05")
	switch {
	case m.err != nil && m.got.IsZero():
		return []screen.Line{screen.Say(screen.Wrong, clock+"  "+m.err.Error())}
	case m.err != nil:
		return []screen.Line{
			screen.Say(screen.Wrong, fmt.Sprintf("%s  no answer for %s: this is from %s ago", clock, screen.Age(m.now.Sub(m.errSince)), screen.Age(m.now.Sub(m.got)))),
			screen.Say(screen.Wrong, m.err.Error()),
		}
	case m.got.IsZero():
		return []screen.Line{screen.Say(screen.Faint, clock+"  asking the daemon")}
	}
	return []screen.Line{screen.Say(screen.Faint, fmt.Sprintf("%s  tanist on %s", clock, m.doc.Node))}
}

func (m model) foot(all, shown int) screen.Line {
	text := "q ends"
	if all > shown {
		text = fmt.Sprintf("lines %d to %d of %d, arrows and space scroll, q ends", m.top+1, m.top+shown, all)
	}
	return screen.Say(screen.Faint, text)
}
