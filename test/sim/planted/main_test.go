package main

import (
	"slices"
	"testing"
)

// TestPlantingsStillApply fails when a planting no longer fits the code, in every make test: make planted,
// which runs them, takes many minutes.
func TestPlantingsStillApply(t *testing.T) {
	t.Chdir("../../..")
	seen := map[string]bool{}
	for _, b := range slices.Concat(bugs, further, odd, missed) {
		if seen[b.name] {
			t.Errorf("two bugs are called %q", b.name)
		}
		seen[b.name] = true
		if _, err := b.overlay(t.TempDir()); err != nil {
			t.Errorf("%s: %v", b.name, err)
		}
	}
	for name := range rare {
		if !seen[name] {
			t.Errorf("rare names %q, which is no bug", name)
		}
	}
}
