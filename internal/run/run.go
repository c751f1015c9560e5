// Package run holds a process together: the parts that run side by side, their common end, and
// the way from main to the first of them.
package run

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// Part is one thing that a process does. Run blocks until ctx ends or the part fails, and returns
// only after everything that it started has ended.
type Part interface {
	Run(ctx context.Context) error
}

// Func makes a Part of a function.
type Func func(ctx context.Context) error

// Run calls f.
func (f Func) Run(ctx context.Context) error { return f(ctx) }

// Group runs parts side by side. The zero Group is ready for use; it is not safe for use by
// several goroutines before Run, and a Group runs once.
type Group struct {
	parts []named
}

type named struct {
	name string
	part Part
}

// Add puts p into g; name is what an error of p begins with.
func (g *Group) Add(name string, p Part) { g.parts = append(g.parts, named{name, p}) }

// Run runs the parts until all of them have ended. The first error ends the others; it is the
// one returned, with the part's name, and later ones are joined to it. A part that returns nil is
// done, and the others go on. What a part returns because ctx ended is no error.
func (g *Group) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex // guards errs
		errs []error
	)
	for _, p := range g.parts {
		wg.Go(func() { // owned by Run, ends with the part
			err := p.part.Run(ctx)
			if err == nil || ctx.Err() != nil && errors.Is(err, context.Canceled) {
				return
			}
			mu.Lock()
			errs = append(errs, fmt.Errorf("%s: %w", p.name, err))
			mu.Unlock()
			cancel()
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}
