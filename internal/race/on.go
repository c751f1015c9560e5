//go:build race

package race

// Enabled is set in binaries built with -race.
const Enabled = true
