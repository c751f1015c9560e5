package demo

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/x/ansi"

	"github.com/tulle-mesh/tulle/internal/run"
)

// What the demo tells the screen.
type (
	saidMsg  string
	frameMsg frame
	doneMsg  struct{}
)

// onTerminal runs the demo under a full screen, and leaves the table of the whole run behind.
func onTerminal(ctx context.Context, cfg Config, s run.Streams) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var p *tea.Program
	d := newDemo(cfg, func(line string) { p.Send(saidMsg(line)) })
	d.show = func(f frame) { p.Send(frameMsg(f)) }
	m := &screen{quit: cancel, do: d.press, width: 80, height: 24}
	p = tea.NewProgram(m, tea.WithInput(s.In), tea.WithOutput(s.Out), tea.WithoutSignalHandler())
	var res *Result
	var runErr error
	ended := make(chan struct{})
	go func() { // ends with ctx; waited for below
		defer close(ended)
		res, runErr = d.run(ctx)
		p.Send(doneMsg{})
	}()
	_, err := p.Run()
	cancel()
	<-ended
	if res != nil {
		for _, l := range res.lines(style{colour: true}, m.width) {
			fmt.Fprintln(s.Out, ansi.Truncate(l, m.width, "…"))
		}
	}
	return errors.Join(err, runErr)
}

// screen is what the terminal shows. It belongs to the program's goroutine.
type screen struct {
	quit   func()
	do     func(key string)
	said   []string
	frame  *frame
	ending bool
	width  int
	height int
}

// Init implements tea.Model.
func (m *screen) Init() tea.Cmd { return nil }

// Update implements tea.Model.
func (m *screen) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		m.width, m.height = msg.Width, msg.Height
	case saidMsg:
		m.said = append(m.said, string(msg))
	case frameMsg:
		f := frame(msg)
		m.frame = &f
	case doneMsg:
		return m, tea.Quit
	case tea.KeyPressMsg:
		switch key := msg.String(); key {
		case "q", "esc", "ctrl+c":
			m.ending = true
			m.quit()
		default:
			if m.frame != nil && !m.ending {
				m.do(key)
			}
		}
	}
	return m, nil
}

// View implements tea.Model.
func (m *screen) View() tea.View {
	v := tea.NewView(strings.Join(m.lines(style{colour: true}), "\n"))
	v.AltScreen = true
	v.WindowTitle = "tulle demo"
	return v
}

// lines fills the screen: what is least needed goes first where it is small.
func (m *screen) lines(s style) []string {
	head := []string{m.title(s), ""}
	foot := []string{"", s.dim(m.help())}
	var body []string
	if m.frame != nil {
		body = m.frame.table.lines(s, m.width)
		if bars := m.bars(s); len(head)+len(body)+len(bars)+len(foot)+3 <= m.height {
			body = append(body, bars...)
		}
		body = append(body, "")
	}
	room := max(0, m.height-len(head)-len(body)-len(foot))
	for _, l := range m.said[max(0, len(m.said)-room):] {
		body = append(body, s.dim(l))
	}
	body = body[:min(len(body), max(0, m.height-len(head)-len(foot)))]
	all := append(append(head, body...), foot...)
	for i := range all {
		all[i] = ansi.Truncate(all[i], m.width, "…")
	}
	return all
}

func (m *screen) title(s style) string {
	left := s.bold("tulle demo") + "  a mesh of processes on this machine"
	right := "starting"
	switch {
	case m.ending:
		right = s.warn("stopping everything")
	case m.frame != nil:
		right = fmt.Sprintf("up %s · the last %.0f s", m.frame.since.Round(time.Second), m.frame.table.Seconds)
	}
	if space := m.width - ansi.StringWidth(left) - ansi.StringWidth(right); space > 1 {
		return left + strings.Repeat(" ", space) + right
	}
	return s.bold("tulle demo") + "  " + right
}

func (m *screen) help() string {
	switch {
	case m.ending:
		return "what is in flight is being answered"
	case m.frame == nil:
		return "q quits"
	}
	return "q quit · s slow catalog-2 down or up · a add a catalogue"
}

// bars shows how the catalogue's requests are spread.
func (m *screen) bars(s style) []string {
	r := m.frame.table.row("catalog")
	room := min(50, m.width-24)
	if len(r.Shares) < 2 || room < 10 {
		return nil
	}
	out := []string{"", s.dim("requests to the catalogue, by instance")}
	for _, name := range r.names() {
		n := int(float64(r.Shares[name])*float64(room) + .5)
		n = min(max(n, 0), room) // NaN, too
		out = append(out, fmt.Sprintf("%-11s %s%s %6s", name, s.good(strings.Repeat("█", n)), s.dim(strings.Repeat("·", room-n)), percent(r.Shares[name])))
	}
	return out
}
