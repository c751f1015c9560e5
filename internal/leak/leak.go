// Package leak fails a package's tests when a goroutine outlives them.
package leak

import (
	"testing"

	"go.uber.org/goleak"
)

// Main runs m and ends the test process; it fails when goroutines are left. A package calls it
// from its TestMain:
//
//	func TestMain(m *testing.M) { leak.Main(m) }
//
// The options name goroutines that a library keeps for the life of the process.
func Main(m *testing.M, except ...goleak.Option) { goleak.VerifyTestMain(m, except...) }
