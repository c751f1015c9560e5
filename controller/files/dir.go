package files

import (
	"errors"
	"fmt"
	"hash/maphash"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/tulle-mesh/tulle/controller/state"
	"github.com/tulle-mesh/tulle/controller/status"
)

// dir is what was read of the directory. It belongs to the Reflector's goroutine.
type dir struct {
	root        string
	trustDomain string
	seed        maphash.Seed
	files       map[string]*file // by path below root
	applied     map[status.Object]object
}

// file is one file as it was last read.
type file struct {
	size    int64
	mod     time.Time
	hash    uint64
	last    content  // of the last bytes, good or not
	objects []object // the last good ones
	ever    bool     // it was good once
	reports []status.Report
}

// maxFile bounds what is read of one file.
const maxFile = 64 << 20

func newDir(root, trustDomain string) *dir {
	return &dir{
		root: root, trustDomain: trustDomain, seed: maphash.MakeSeed(),
		files: make(map[string]*file), applied: make(map[status.Object]object),
	}
}

// look is what one look at the directory found.
type look struct {
	changed  bool
	complete bool // every file has been good at least once
	reports  []status.Report
}

// read looks at the directory. With all, every file is read; else those whose size or time differ
// and those in suspects, by path. When the directory itself cannot be listed, everything stays.
func (d *dir) read(all bool, suspects map[string]bool) look {
	var l look
	seen := make(map[string]bool)
	err := filepath.WalkDir(d.root, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if e.IsDir() {
			if path != d.root && strings.HasPrefix(e.Name(), ".") {
				return filepath.SkipDir // ..data of a mounted ConfigMap is reached by its links
			}
			return nil
		}
		if !wanted(e.Name()) {
			return nil
		}
		rel, _ := filepath.Rel(d.root, path)
		seen[rel] = true
		if d.readFile(rel, all || suspects[path]) {
			l.changed = true
		}
		return nil
	})
	if err != nil {
		l.reports = append(l.reports, status.Report{
			Severity: status.Broken, File: d.root, Message: unwrapPath(err).Error(),
		})
	} else {
		for rel := range d.files {
			if !seen[rel] {
				delete(d.files, rel)
				l.changed = true
			}
		}
	}
	l.complete = err == nil
	for _, f := range d.files {
		l.complete = l.complete && f.ever
		l.reports = append(l.reports, f.reports...)
	}
	return l
}

// list is the directory and those below it that are read.
func (d *dir) list() []string {
	dirs := []string{d.root}
	_ = filepath.WalkDir(d.root, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return nil //nolint:nilerr // read says what is wrong; what can be watched is
		}
		switch {
		case !e.IsDir() || path == d.root:
			return nil
		case strings.HasPrefix(e.Name(), "."):
			return filepath.SkipDir
		}
		dirs = append(dirs, path)
		return nil
	})
	return dirs
}

func wanted(name string) bool {
	ext := filepath.Ext(name)
	return !strings.HasPrefix(name, ".") && (ext == ".yaml" || ext == ".yml" || ext == ".json")
}

// readFile brings one file up to date and reports whether it differs.
func (d *dir) readFile(rel string, force bool) bool {
	f := d.files[rel]
	if f == nil {
		f = &file{}
		d.files[rel] = f
		force = true
	}
	info, err := os.Stat(filepath.Join(d.root, rel)) // follows links, as a mounted ConfigMap has them
	if err == nil && !force && info.Size() == f.size && info.ModTime().Equal(f.mod) {
		return false
	}
	if err == nil && info.Size() > maxFile {
		err = fmt.Errorf("%d bytes: want at most %d", info.Size(), maxFile)
	}
	var data []byte
	if err == nil {
		f.size, f.mod = info.Size(), info.ModTime()
		data, err = os.ReadFile(filepath.Join(d.root, rel))
	}
	if err != nil {
		f.hash, f.size = 0, -1
		f.reports = []status.Report{{Severity: status.Broken, File: rel, Message: unwrapPath(err).Error()}}
		return false
	}
	hash := maphash.Bytes(d.seed, data)
	if hash == f.hash {
		return false
	}
	f.hash = hash
	c := parse(rel, d.trustDomain, data, f.last)
	f.last = c
	f.reports = c.reports
	if c.broken {
		return false
	}
	f.objects, f.ever = c.objects, true
	return true
}

// unwrapPath takes the path from a file system's error: the report has it.
func unwrapPath(err error) error {
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		return p.Err
	}
	return err
}

// wantedObjects are the objects of all files; the first by path wins.
func (d *dir) wantedObjects() (map[status.Object]object, []status.Report) {
	var reports []status.Report
	objects := make(map[status.Object]object)
	owner := make(map[status.Object]string)
	for _, rel := range slices.Sorted(maps.Keys(d.files)) {
		for _, o := range d.files[rel].objects {
			if first, twice := owner[o.id]; twice {
				reports = append(reports, status.Report{
					Object: o.id, Severity: status.Ignored, File: rel, Line: o.line,
					Message: "is in " + first + " already, which holds",
				})
				continue
			}
			owner[o.id], objects[o.id] = rel, o
		}
	}
	return objects, reports
}

// apply puts what changed into the store, as one transaction.
func (d *dir) apply(s *state.Store) []status.Report {
	want, reports := d.wantedObjects()
	s.Apply(func(x *state.Tx) {
		for id, o := range d.applied {
			if _, stays := want[id]; !stays {
				o.remove(x)
			}
		}
		for id, o := range want {
			if d.applied[id].row != o.row {
				o.put(x)
			}
		}
	})
	d.applied = want
	return reports
}
