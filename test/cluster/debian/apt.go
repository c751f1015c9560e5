package debian

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// apt runs apt-get on a directory of its own, in which nothing but the assumed packages is installed: so it
// finds all that an image needs, the same on every machine with the same lists of packages.
type apt struct {
	tmp string
	// lists is where lists of packages of our own are, if there are any (own).
	lists string
	own   bool
}

func newApt(tmp, lists string) (*apt, error) {
	a := &apt{tmp: tmp, lists: lists}
	if _, err := os.Stat(lists); err == nil {
		a.own = true
	}
	var status strings.Builder
	for name := range strings.FieldsSeq(assumed) {
		// The epoch makes it newer than whatever is asked for.
		fmt.Fprintf(&status, "Package: %s\nStatus: install ok installed\nArchitecture: all\nMulti-Arch: allowed\nVersion: 9999:1\nMaintainer: none\nDescription: none\n\n", name)
	}
	if err := os.MkdirAll(filepath.Join(tmp, "archives", "partial"), 0o755); err != nil {
		return nil, err
	}
	return a, os.WriteFile(filepath.Join(tmp, "status"), []byte(status.String()), 0o644)
}

// configure writes what apt is told beyond the machine's own configuration, which names its mirrors.
func (a *apt) configure() (file string, err error) {
	lines := []string{
		`#clear APT::Update::Post-Invoke;`, `#clear APT::Update::Post-Invoke-Success;`, // they tidy the machine's own caches
		`Dir::State::status "` + filepath.Join(a.tmp, "status") + `";`,
		`Dir::State::extended_states "` + filepath.Join(a.tmp, "extended_states") + `";`,
		`Dir::Cache "` + a.tmp + `";`, `Dir::Cache::archives "` + filepath.Join(a.tmp, "archives") + `";`,
		`Dir::Cache::pkgcache "";`, `Dir::Cache::srcpkgcache "";`,
		`Debug::NoLocking "true";`, `APT::Sandbox::User "root";`, `APT::Install-Recommends "false";`,
		`Acquire::Retries "3";`, `Acquire::http::Timeout "30";`, `Acquire::https::Timeout "30";`, `Acquire::Languages "none";`,
	}
	if a.own {
		lines = append(lines, `Dir::State::lists "`+a.lists+`";`)
	}
	file = filepath.Join(a.tmp, "apt.conf")
	return file, os.WriteFile(file, []byte(strings.Join(lines, "\n")+"\n"), 0o644)
}

func (a *apt) run(ctx context.Context, args ...string) (string, error) {
	file, err := a.configure()
	if err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, "apt-get", append([]string{"-c", file, "-qq", "-y"}, args...)...)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "DEBIAN_FRONTEND=noninteractive")
	var out, said strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("apt-get %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(said.String()))
	}
	return out.String(), nil
}

// machineLists is where Debian's apt keeps the machine's lists of packages.
const machineLists = "/var/lib/apt/lists"

// fingerprint changes with the lists of packages.
func (a *apt) fingerprint() string {
	dir := machineLists
	if a.own {
		dir = a.lists
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		return err.Error()
	}
	var all strings.Builder
	for _, f := range files {
		if info, err := f.Info(); err == nil && strings.Contains(f.Name(), "_Packages") {
			fmt.Fprintln(&all, f.Name(), info.Size(), info.ModTime().UnixNano())
		}
	}
	return all.String()
}

// versions tells the packages apart from others: a line for each, with its version and its digest.
func (a *apt) versions(ctx context.Context, packages []string) (string, error) {
	out, err := a.run(ctx, append([]string{"install", "--print-uris"}, packages...)...)
	if err != nil {
		return "", err
	}
	var key strings.Builder
	for line := range strings.Lines(out) {
		_, rest, _ := strings.Cut(line, " ") // whichever mirror
		key.WriteString(rest)
	}
	if key.Len() == 0 {
		return "", fmt.Errorf("apt-get would download nothing for %s", strings.Join(packages, " "))
	}
	return key.String(), nil
}

// download gets the packages and all that they need, as files.
func (a *apt) download(ctx context.Context, packages []string) ([]string, error) {
	if _, err := a.run(ctx, append([]string{"install", "--download-only"}, packages...)...); err != nil {
		return nil, err
	}
	return filepath.Glob(filepath.Join(a.tmp, "archives", "*.deb"))
}

// update gets lists of packages of our own; the machine's stay as they are. Another process may do the same:
// each fills a directory that nobody else sees, and the last one's stays.
func (a *apt) update(ctx context.Context) error {
	kept := a.lists
	a.lists, a.own = filepath.Join(a.tmp, "lists"), true
	if err := os.MkdirAll(filepath.Join(a.lists, "partial"), 0o755); err != nil {
		return err
	}
	if _, err := a.run(ctx, "update"); err != nil {
		return err
	}
	if err := os.RemoveAll(kept); err != nil {
		return err
	}
	if err := os.Rename(a.lists, kept); err == nil {
		a.lists = kept
	}
	return nil
}
