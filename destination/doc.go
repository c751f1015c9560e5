// Package destination tells proxies what controller/state knows, each over one stream.
//
// A stream holds subjects: the targets that its proxy subscribed to, and the inbound policy of its
// own workload. For each there is at most one version under way: the next one leaves when the proxy
// acknowledged or refused it, and is then the newest, so that a slow reader is never given a backlog
// and never costs memory. What leaves is the change since the acknowledged version, or the whole
// when that is too old; it is encoded once per (table, version, base) and its bytes are shared by
// all streams that stand on the same version.
//
// Every few seconds each stream gets the digest of what its subjects were sent, over the rows of the
// state table. Who a proxy is comes from its certificate alone; the name in its hello only chooses
// among that identity's own workloads.
package destination
