// Package spec is what the library tells the first process of a node; both read it, neither owns more.
package spec

// Node describes one start of a node.
type Node struct {
	// Name is its hostname.
	Name string `json:"name"`
	// State is a directory that outlives the node's process: what would be its disk.
	State string `json:"state"`
	// Detached keeps the node up when its standard input ends.
	Detached bool `json:"detached"`
	// Files are written below /run, which is new with every start; names are relative to it.
	Files map[string]string `json:"files"`
	// Programs are made visible below /run/tulle/bin: name to path.
	Programs map[string]string `json:"programs"`
	// Sysctls are files below /proc/sys that daemons insist on; they see these values, and the
	// machine's own stay as they are.
	Sysctls map[string]string `json:"sysctls"`
	// Settings are written to files below /proc/sys of the node's own network namespace.
	Settings map[string]string `json:"settings"`
	// First are started at once, Then as soon as containerd has Images and the API server is ready.
	First []Daemon `json:"first"`
	Then  []Daemon `json:"then"`
	// Images are OCI archives for containerd.
	Images []string `json:"images"`
	// API is the address of the API server, CA the certificate that its own is verified by.
	API string `json:"api"`
	CA  string `json:"ca"`
}

// Daemon is one program of a node. It is started again when it ends.
type Daemon struct {
	Name string   `json:"name"`
	Args []string `json:"args"` // the program first
}

// ContainerdSocket is where containerd listens, in every node.
const ContainerdSocket = "/run/containerd/containerd.sock"
