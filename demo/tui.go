package demo

import (
	"context"

	"github.com/tulle-mesh/tulle/internal/run"
)

func onTerminal(ctx context.Context, cfg Config, s run.Streams) error {
	cfg.Plain = true
	return Run(ctx, cfg, s)
}
