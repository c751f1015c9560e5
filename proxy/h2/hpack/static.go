package hpack

// staticCount is the number of entries of the static table.
const staticCount = 61

// staticPairs is the static table of RFC 7541, appendix A; index 1 comes first.
var staticPairs = [staticCount][2]string{
	{":authority", ""},
	{":method", "GET"},
	{":method", "POST"},
	{":path", "/"},
	{":path", "/index.html"},
	{":scheme", "http"},
	{":scheme", "https"},
	{":status", "200"},
	{":status", "204"},
	{":status", "206"},
	{":status", "304"},
	{":status", "400"},
	{":status", "404"},
	{":status", "500"},
	{"accept-charset", ""},
	{"accept-encoding", "gzip, deflate"},
	{"accept-language", ""},
	{"accept-ranges", ""},
	{"accept", ""},
	{"access-control-allow-origin", ""},
	{"age", ""},
	{"allow", ""},
	{"authorization", ""},
	{"cache-control", ""},
	{"content-disposition", ""},
	{"content-encoding", ""},
	{"content-language", ""},
	{"content-length", ""},
	{"content-location", ""},
	{"content-range", ""},
	{"content-type", ""},
	{"cookie", ""},
	{"date", ""},
	{"etag", ""},
	{"expect", ""},
	{"expires", ""},
	{"from", ""},
	{"host", ""},
	{"if-match", ""},
	{"if-modified-since", ""},
	{"if-none-match", ""},
	{"if-range", ""},
	{"if-unmodified-since", ""},
	{"last-modified", ""},
	{"link", ""},
	{"location", ""},
	{"max-forwards", ""},
	{"proxy-authenticate", ""},
	{"proxy-authorization", ""},
	{"range", ""},
	{"referer", ""},
	{"refresh", ""},
	{"retry-after", ""},
	{"server", ""},
	{"set-cookie", ""},
	{"strict-transport-security", ""},
	{"transfer-encoding", ""},
	{"user-agent", ""},
	{"vary", ""},
	{"via", ""},
	{"www-authenticate", ""},
}

type staticEntry struct{ name, value []byte }

// statics is the static table as the decoder hands it out and names finds an
// entry by name: the first of that name, by hash, linear probing.
type statics struct {
	entries [staticCount + 1]staticEntry
	names   [256]uint8
}

var static = makeStatics()

func makeStatics() *statics {
	s := &statics{}
	for i := range staticPairs {
		p := &staticPairs[i]
		s.entries[i+1] = staticEntry{[]byte(p[0]), []byte(p[1])}
		if i == 0 || staticPairs[i-1][0] != p[0] {
			slot := uint8(hash(0, s.entries[i+1].name))
			for s.names[slot] != 0 {
				slot++
			}
			s.names[slot] = uint8(i + 1)
		}
	}
	return s
}

// find returns the index of the first entry called name, whose hash is h; 0
// when there is none.
func (s *statics) find(name []byte, h uint32) int {
	for slot := uint8(h); ; slot++ {
		i := s.names[slot]
		if i == 0 {
			return 0
		}
		if string(s.entries[i].name) == string(name) {
			return int(i)
		}
	}
}

// findPair returns the index of (name, value), of which i is the first entry of
// that name; 0 when there is none.
func (s *statics) findPair(i int, value []byte) int {
	for j := i; j <= staticCount; j++ {
		if j > i && staticPairs[j-1][0] != staticPairs[i-1][0] {
			return 0
		}
		if string(s.entries[j].value) == string(value) {
			return j
		}
	}
	return 0
}
