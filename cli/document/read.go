// Package document reads Kubernetes objects from files, directories, addresses and the input, and writes
// them back with only that changed which was asked for: comments, order, unknown fields and, where an
// edit is small, every other byte stay.
package document

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// maxInput bounds what is read of one source, in bytes.
const maxInput = 256 << 20

// Source is one file, address or the input.
type Source struct {
	Name string
	Data []byte
}

// Read reads what name says: a file, every *.yaml, *.yml and *.json below a directory, an http(s)
// address, or - for in.
func Read(ctx context.Context, name string, in io.Reader) ([]Source, error) {
	switch {
	case name == "-":
		b, err := all("the input", in)
		return []Source{{"the input", b}}, err
	case strings.HasPrefix(name, "http://"), strings.HasPrefix(name, "https://"):
		b, err := fetch(ctx, name)
		return []Source{{name, b}}, err
	}
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		b, err := os.ReadFile(name)
		return []Source{{name, b}}, err
	}
	var found []Source
	err = filepath.WalkDir(name, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(p)) {
			return err
		}
		b, err := os.ReadFile(p)
		found = append(found, Source{p, b})
		return err
	})
	if err == nil && len(found) == 0 {
		err = fmt.Errorf("%s has no *.yaml, *.yml or *.json below it", name)
	}
	return found, err
}

func all(name string, r io.Reader) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxInput+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if len(b) > maxInput {
		return nil, fmt.Errorf("%s: more than %d MiB", name, maxInput>>20)
	}
	return b, nil
}

func fetch(ctx context.Context, address string) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, address, http.NoBody)
	if err != nil {
		return nil, err
	}
	client := &http.Client{Timeout: time.Minute}
	defer client.CloseIdleConnections()
	resp, err := client.Do(r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", address, resp.Status)
	}
	return all(address, resp.Body)
}

// split cuts a stream into documents, each with the line --- that begins it. Joined they are data again.
func split(data []byte) [][]byte {
	var docs [][]byte
	begin := 0
	for at := 0; at < len(data); {
		end := bytes.IndexByte(data[at:], '\n')
		if end < 0 {
			end = len(data) - at - 1
		}
		if at > begin && isSeparator(data[at:at+end+1]) {
			docs, begin = append(docs, data[begin:at]), at
		}
		at += end + 1
	}
	return append(docs, data[begin:])
}

// isSeparator: at the first column --- ends a document whatever was open (YAML 1.2.2, 9.1.4).
func isSeparator(line []byte) bool {
	rest, ok := bytes.CutPrefix(line, []byte("---"))
	return ok && (len(rest) == 0 || strings.IndexByte(" \t\r\n", rest[0]) >= 0)
}
