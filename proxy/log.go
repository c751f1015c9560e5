package proxy

import (
	"net/netip"

	"go.uber.org/zap"

	"github.com/tulle-mesh/tulle/internal/logkey"
)

func logTarget(t *target) zap.Field      { return zap.Stringer(logkey.Target, t.key) }
func logAddr(a netip.AddrPort) zap.Field { return zap.Stringer(logkey.Addr, a) }
func logReason(reason string) zap.Field  { return zap.String(logkey.Reason, reason) }
func logErr(err error) zap.Field         { return zap.Error(err) }
func logUp(up bool) zap.Field            { return zap.Bool(logkey.Connected, up) }
