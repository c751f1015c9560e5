package proxy_test

import (
	"testing"

	"github.com/tulle-mesh/tulle/internal/leak"
)

func TestMain(m *testing.M) { leak.Main(m) }
