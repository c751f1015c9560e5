package demo

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tulle-mesh/tulle/internal/shop"
)

// slowRecovers makes one of two catalogues ten times slower, lets it recover and adds a third.
const slowRecovers = "slow-recovers"

// Scenarios are the scripts that there are.
func Scenarios() []string { return []string{slowRecovers} }

// Script is what a scenario did and saw.
type Script struct {
	Checks []Check `json:"checks"`
	// Shares are what the catalogue's instances got, second by second.
	Shares []Moment `json:"shares"`
}

// Check is something that must be so by a time.
type Check struct {
	What string `json:"what"`
	// Got is the share that was seen, and After how long after the event; in seconds.
	Got   Number `json:"got"`
	After Number `json:"after"`
	OK    bool   `json:"ok"`
}

// Moment is the shares of a second.
type Moment struct {
	At     Number            `json:"at"` // seconds of traffic
	Event  string            `json:"event,omitempty"`
	Shares map[string]Number `json:"shares"`
}

func (s *Script) verdict() error {
	var wrong []string
	for _, c := range s.Checks {
		if !c.OK {
			wrong = append(wrong, fmt.Sprintf("%s: %s after %.0f s", c.What, percent(c.Got), float64(c.After)))
		}
	}
	if len(s.Checks) < 3 {
		wrong = append(wrong, "the script did not come to its end")
	}
	if len(wrong) == 0 {
		return nil
	}
	return errors.New(join(wrong))
}

// The limits of "Balancing": the slow one gets under 10 % within 5 s, is back over 35 % within 45 s
// after it recovered, and a new one has its fair share of a third, less a fifth of it for chance,
// within 10 s.
const (
	slowBelow, slowWithin = 0.10, 5 * time.Second
	backAbove, backWithin = 0.35, 45 * time.Second
	fairShare, fairWithin = 1.0 / 3 * 0.8, 10 * time.Second
)

// play runs the script and returns errPlayed.
func (d *demo) play(ctx context.Context, s *Script) error {
	p := &player{d: d, script: s}
	if _, err := p.watch(ctx, 8*time.Second, nil); err != nil {
		return err
	}
	return p.slowRecovers(ctx)
}

// player watches the shares while a script runs.
type player struct {
	d      *demo
	script *Script
	event  string // told with the next second
	before totals
}

func (p *player) slowRecovers(ctx context.Context) error {
	slow := p.d.w.instance("catalog-2")
	if err := p.happen(ctx, "catalog-2 becomes ten times slower", func() error { return slow.set(ctx, 10*quick) }); err != nil {
		return err
	}
	if _, err := p.watch(ctx, slowWithin, nil); err != nil {
		return err
	}
	// From then on it stays below: five more seconds are looked at as one.
	from := p.before
	if _, err := p.watch(ctx, 5*time.Second, nil); err != nil {
		return err
	}
	got := p.between(from, "catalog-2")
	p.check("the slow one is under 10 % within 5 s", got, slowWithin, got < slowBelow)
	if err := p.happen(ctx, "catalog-2 recovers", func() error { return slow.set(ctx, quick) }); err != nil {
		return err
	}
	if err := p.until(ctx, "it is back over 35 % within 45 s", "catalog-2", limit{backAbove, backWithin}); err != nil {
		return err
	}
	third := catalog(3, quick)
	if err := p.happen(ctx, "catalog-3 joins", func() error { return p.d.w.add(ctx, third) }); err != nil {
		return err
	}
	if err := p.until(ctx, "a new one has its fair share within 10 s", third.name, limit{fairShare, fairWithin}); err != nil {
		return err
	}
	return errPlayed
}

// happen does something and says so.
func (p *player) happen(ctx context.Context, what string, do func() error) error {
	p.d.say(what)
	p.event = what
	if err := do(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	p.before = p.d.sums(ctx)
	return nil
}

// between is an instance's share of what the catalogue got since before.
func (p *player) between(before totals, instance string) Number {
	in := p.before.since(before)
	return shares(in.of(shop.Catalog).by, p.before.of(shop.Catalog).by)[instance]
}

// watch looks at the shares every second until enough says that it has seen enough, or for a time.
func (p *player) watch(ctx context.Context, most time.Duration, enough func(map[string]Number) bool) (after time.Duration, err error) {
	began := time.Now()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for after < most-time.Second/2 {
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-tick.C:
		}
		now := p.d.sums(ctx)
		in := now.since(p.before).of(shop.Catalog)
		p.before, after = now, time.Since(began)
		m := Moment{
			At: Number(time.Since(p.d.began).Seconds()), Event: p.event,
			Shares: shares(in.by, now.of(shop.Catalog).by),
		}
		p.event = ""
		p.script.Shares = append(p.script.Shares, m)
		p.d.say("shares: " + split(Row{Shares: m.Shares}))
		if enough != nil && enough(m.Shares) {
			return after, nil
		}
	}
	return after, nil
}

type limit struct {
	above  Number
	within time.Duration
}

// until waits for an instance's share of three seconds to be above a limit.
func (p *player) until(ctx context.Context, what, instance string, l limit) error {
	past := []totals{p.before}
	var got Number
	after, err := p.watch(ctx, l.within, func(map[string]Number) bool {
		past = append(past, p.before)
		if len(past) > 4 {
			past = past[1:]
		}
		got = p.between(past[0], instance)
		return got >= l.above && len(past) == 4
	})
	if err != nil {
		return err
	}
	p.check(what, got, after, got >= l.above && after <= l.within+time.Second/2)
	return nil
}

func (p *player) check(what string, got Number, after time.Duration, ok bool) {
	word := "yes"
	if !ok {
		word = "NO"
	}
	p.d.say(fmt.Sprintf("%s? %s, %s after %.0f s", what, word, percent(got), after.Seconds()))
	p.script.Checks = append(p.script.Checks, Check{What: what, Got: got, After: Number(after.Seconds()), OK: ok})
}
