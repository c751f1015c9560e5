module github.com/tulle-mesh/tulle/test/e2e

go 1.26.0

require (
	github.com/tulle-mesh/tulle/test/cluster v0.0.0
	golang.org/x/net v0.62.0
	golang.org/x/sys v0.49.0
)

require (
	github.com/vishvananda/netlink v1.3.1 // indirect
	github.com/vishvananda/netns v0.0.5 // indirect
)

replace (
	github.com/tulle-mesh/tulle => ../..
	github.com/tulle-mesh/tulle/test/cluster => ../cluster
)
