package demo

import (
	"context"
	"fmt"

	"github.com/tulle-mesh/tulle/internal/shop"
)

// mostCatalogs is how many instances of the catalogue there may be.
const mostCatalogs = 6

// press does what a key asks for, beside the screen. It does not wait.
func (d *demo) press(key string) {
	switch key {
	case "s":
		d.later(d.slowDown)
	case "a":
		d.later(d.addCatalog)
	}
}

// later runs do on a goroutine that run waits for, one at a time.
func (d *demo) later(do func(context.Context) error) {
	d.pressing.Go(func() {
		d.pressed.Lock()
		defer d.pressed.Unlock()
		if err := do(d.live); err != nil && d.live.Err() == nil {
			d.say(err.Error())
		}
	})
}

// slowDown makes catalog-2 ten times slower, or as quick as the first again.
func (d *demo) slowDown(ctx context.Context) error {
	latency, word := 10*quick, "is ten times slower now"
	if d.slowed {
		latency, word = quick, "is quick again"
	}
	d.slowed = !d.slowed
	d.say("catalog-2 " + word)
	return d.w.instance("catalog-2").set(ctx, latency)
}

// addCatalog adds an instance to the catalogue.
func (d *demo) addCatalog(ctx context.Context) error {
	n := 1
	for _, i := range d.w.all() {
		if i.spec.service == shop.Catalog {
			n++
		}
	}
	if n > mostCatalogs {
		return fmt.Errorf("%d instances of the catalogue are enough", mostCatalogs)
	}
	s := catalog(n, quick)
	d.say("starting " + s.name)
	if err := d.w.add(ctx, s); err != nil {
		return err
	}
	d.say(s.name + " is an endpoint now")
	return nil
}
