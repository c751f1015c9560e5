package identity

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/tulle-mesh/tulle/internal/certify"
)

const (
	usedFile        = "used-tokens"
	defaultRemember = 100_000
)

// usedTokens remembers tokens until they expire, over restarts too: a line per use, "expiry id key",
// is on disk before a certificate is given out. Expired lines go when the file is opened, and when
// they are the larger part of it.
type usedTokens struct {
	path string // "" for memory alone
	max  int
	now  func() time.Time

	mu    sync.Mutex // guards the rest
	file  *os.File   // nil for memory alone
	lines int
	used  map[string]use
}

type use struct {
	expires int64 // Unix seconds
	key     [sha256.Size]byte
}

func openUsed(cfg JoinConfig, now func() time.Time) (*usedTokens, error) {
	u := &usedTokens{max: cfg.Remember, now: now, used: map[string]use{}}
	if u.max == 0 {
		u.max = defaultRemember
	}
	if cfg.Dir == "" {
		return u, nil
	}
	u.path = filepath.Join(cfg.Dir, usedFile)
	data, err := readPrivate(u.path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err := u.parse(data); err != nil {
		return nil, fmt.Errorf("%s: %w", u.path, err)
	}
	if err := u.compact(); err != nil {
		return nil, err
	}
	return u, nil
}

// parse reads the file's lines. The last one may be torn: its certificate was never given out.
func (u *usedTokens) parse(data []byte) error {
	whole := data[:bytes.LastIndexByte(data, '\n')+1]
	n := 0
	for line := range bytes.Lines(whole) {
		n++
		f := bytes.Fields(line)
		if len(f) != 3 {
			return fmt.Errorf("line %d: want expiry, id and key", n)
		}
		expires, err := strconv.ParseInt(string(f[0]), 10, 64)
		if err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
		var key [sha256.Size]byte
		if len(f[2]) != 2*len(key) {
			return fmt.Errorf("line %d: want a key of %d digits", n, 2*len(key))
		}
		if _, err := hex.Decode(key[:], f[2]); err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
		u.used[string(f[1])] = use{expires, key}
	}
	return nil
}

// redeem gives token id to key, unless another key has it.
func (u *usedTokens) redeem(id string, expires time.Time, key [sha256.Size]byte) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if had, ok := u.used[id]; ok {
		if had.key == key {
			return nil
		}
		return certify.Refuse(certify.ReusedToken, "it was used before: a join token is for one proxy, once")
	}
	if len(u.used) >= u.max {
		u.forget()
		if len(u.used) >= u.max {
			return certify.Refuse(certify.Busy, "%d used tokens are remembered", len(u.used))
		}
	}
	n := use{expires.Unix(), key}
	if err := u.append(id, n); err != nil {
		return fmt.Errorf("remember a used token: %w", err)
	}
	u.used[id] = n
	return nil
}

func (u *usedTokens) append(id string, n use) error {
	if u.path == "" {
		return nil
	}
	if u.file == nil || u.lines > 2*len(u.used)+1000 {
		if err := u.compact(); err != nil {
			return err
		}
	}
	_, err := u.file.WriteString(n.line(id))
	if err = errors.Join(err, u.file.Sync()); err != nil {
		// The file may end with half a line now: the next use writes it anew.
		err = errors.Join(err, u.file.Close())
		u.file = nil
		return err
	}
	u.lines++
	return nil
}

func (n use) line(id string) string {
	return fmt.Sprintf("%d %s %x\n", n.expires, id, n.key)
}

// forget drops what has expired.
func (u *usedTokens) forget() {
	now := u.now().Unix()
	maps.DeleteFunc(u.used, func(_ string, n use) bool { return n.expires < now })
}

// compact writes the file anew with what has not expired, and opens it for appending.
func (u *usedTokens) compact() error {
	u.forget()
	if u.file != nil {
		if err := u.file.Close(); err != nil {
			return err
		}
		u.file = nil
	}
	var buf bytes.Buffer
	for _, id := range slices.Sorted(maps.Keys(u.used)) {
		buf.WriteString(u.used[id].line(id))
	}
	if err := writeAtomic(u.path, buf.Bytes(), 0o600); err != nil {
		return err
	}
	f, err := os.OpenFile(u.path, os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	u.file, u.lines = f, len(u.used)
	return nil
}

func (u *usedTokens) close() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.file == nil {
		return nil
	}
	f := u.file
	u.file = nil
	return f.Close()
}

// validTokenID accepts what fits into a line of the file and says something.
func validTokenID(id string) bool {
	if len(id) < 16 || len(id) > 64 {
		return false
	}
	for _, c := range []byte(id) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '_':
		default:
			return false
		}
	}
	return true
}
