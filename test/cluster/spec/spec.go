// Package spec is what the library tells the first process of a node; both read it, neither owns more.
package spec

// Node describes one start of a node.
type Node struct {
	// Name is its hostname.
	Name string
	// State is a directory that outlives the node's process: what would be its disk.
	State string
	// Detached keeps the node up when its standard input ends.
	Detached bool
	// Files are written below /run, which is new with every start; names are relative to it.
	Files map[string]string
	// Programs are made visible below /run/tulle/bin: name to path.
	Programs map[string]string
	// Sysctls are files below /proc/sys that daemons insist on; they see these values, and the
	// machine's own stay as they are.
	Sysctls map[string]string
	// Settings are written to files below /proc/sys of the node's own network namespace.
	Settings map[string]string
	// First are started at once, Then as soon as containerd has Images and the API server is ready.
	First, Then []Daemon
	// Images are OCI archives for containerd.
	Images []string
	// API is the address of the API server, CA the certificate that its own is verified by.
	API, CA string
}

// Daemon is one program of a node. It is started again when it ends.
type Daemon struct {
	Name string
	Args []string // the program first
}

// ContainerdSocket is where containerd listens, in every node.
const ContainerdSocket = "/run/containerd/containerd.sock"
