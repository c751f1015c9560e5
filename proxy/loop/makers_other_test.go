//go:build !linux

package loop_test

func makers() []maker { return everywhere() }
