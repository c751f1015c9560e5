package demo

import (
	"strings"
	"testing"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/x/ansi"
)

func press(key string) tea.KeyPressMsg {
	if key == "ctrl+c" {
		return tea.KeyPressMsg{Code: 'c', Mod: tea.ModCtrl}
	}
	return tea.KeyPressMsg{Code: rune(key[0]), Text: key}
}

func newScreen() (m *screen, keys *[]string, quits *int) {
	keys, quits = new([]string), new(int)
	return &screen{
		width: 100, height: 30, quit: func() { *quits++ }, do: func(key string) { *keys = append(*keys, key) },
	}, keys, quits
}

func TestTheScreenShowsProgressThenTheTable(t *testing.T) {
	m, _, _ := newScreen()
	m.Update(saidMsg("  0.1s  starting the control plane"))
	if text := strings.Join(m.lines(style{}), "\n"); !strings.Contains(text, "starting the control plane") || strings.Contains(text, "SERVICE") {
		t.Error(text)
	}
	m.Update(frameMsg{table: recorded(t), since: 5 * time.Second})
	golden(t, "screen.golden", m.lines(style{}))
}

func TestTheScreenFitsEverySize(t *testing.T) {
	m, _, _ := newScreen()
	for range 40 {
		m.Update(saidMsg("  9.9s  something happened that takes many words to tell, more than there is room for"))
	}
	m.Update(frameMsg{table: recorded(t), since: time.Minute})
	for width := 1; width <= 120; width += 7 {
		for height := 4; height <= 40; height += 3 {
			m.Update(tea.WindowSizeMsg{Width: width, Height: height})
			lines := m.lines(style{colour: true})
			if len(lines) > height {
				t.Errorf("%d lines at a height of %d", len(lines), height)
			}
			for _, l := range lines {
				if n := ansi.StringWidth(l); n > width {
					t.Errorf("%d columns at a width of %d: %q", n, width, l)
				}
			}
		}
	}
}

func TestKeysQuitOrAct(t *testing.T) {
	m, keys, quits := newScreen()
	m.Update(press("s")) // nothing to act on yet
	m.Update(frameMsg{table: recorded(t)})
	m.Update(press("s"))
	m.Update(press("q"))
	m.Update(press("a")) // too late
	m.Update(press("ctrl+c"))
	if len(*keys) != 1 || (*keys)[0] != "s" || *quits != 2 {
		t.Errorf("keys %v, quit %d times", *keys, *quits)
	}
	if text := strings.Join(m.lines(style{}), "\n"); !strings.Contains(text, "stopping everything") {
		t.Error(text)
	}
	if _, cmd := m.Update(doneMsg{}); cmd == nil {
		t.Error("the screen stays when all has ended")
	}
}
