package check

import (
	"context"
	"time"
)

// Result is a check and what it found.
type Result struct {
	Check
	Finding
	// Blocked says that it was not made because a fatal one failed.
	Blocked bool
}

// between is how long a failing check that waits rests before it is made again.
const between = time.Second

// runner makes checks.
type runner struct {
	env  *env
	wait time.Duration
	// told is called before a check is made again; nil: nobody looks on.
	told func(*Check, Finding)
}

// run makes the checks of a mode in their order; after a fatal failure the rest is skipped.
func (r *runner) run(ctx context.Context, table []Check, mode Mode, each func(Result)) error {
	deadline := time.Now().Add(r.wait)
	fatal := ""
	r.env.fresh()
	for i := range table {
		c := &table[i]
		if c.Modes&mode == 0 {
			continue
		}
		var f Finding
		if fatal != "" {
			f = skip("it needs: %s", fatal)
		} else {
			f = r.make(ctx, c, deadline)
			if c.Keeper != "" && f.Try == "" && (f.Status == Failure || f.Status == Warning) {
				f.Try = r.env.instead(ctx, c.Keeper)
			}
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		each(Result{*c, f, fatal != ""})
		if c.Fatal && f.Status == Failure && fatal == "" {
			fatal = c.Name
		}
	}
	return nil
}

func (r *runner) make(ctx context.Context, c *Check, deadline time.Time) Finding {
	f := c.Run(ctx, r.env)
	for c.Waits && f.Status == Failure && time.Now().Before(deadline) {
		if r.told != nil {
			r.told(c, f)
		}
		rest := time.NewTimer(between)
		select {
		case <-ctx.Done():
			rest.Stop()
			return f
		case <-rest.C:
		}
		r.env.fresh()
		f = c.Run(ctx, r.env)
	}
	return f
}
