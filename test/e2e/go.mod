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
	golang.org/x/text v0.43.0 // indirect
	google.golang.org/genproto/googleapis/rpc v0.0.0-20260817212433-ac3dfec99bb1 // indirect
	google.golang.org/grpc v1.85.0 // indirect
	google.golang.org/protobuf v1.36.12 // indirect
)

replace (
	github.com/tulle-mesh/tulle => ../..
	github.com/tulle-mesh/tulle/test/cluster => ../cluster
)
