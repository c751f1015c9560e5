package redirect

import (
	"errors"
	"fmt"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Apply writes the redirect into the network namespace that the caller's thread is in, at once or not at
// all, in place of an older one. It needs CAP_NET_ADMIN.
func Apply(cfg Config) error {
	if cfg.Inbound == 0 || cfg.Outbound == 0 || cfg.ProxyUID == 0 {
		return errors.New("the proxy's ports and its user are required, and the user is not root")
	}
	chains := plan(cfg)
	err := commit(func(c *nftables.Conn) { write(c, chains) })
	if err != nil {
		return explain(err, commit)
	}
	return readBack(chains)
}

// Remove takes the redirect away.
func Remove() error {
	if err := commit(remove); err != nil {
		return explain(err, commit)
	}
	return nil
}

// stands reports whether there is a redirect.
func stands() (bool, error) {
	c, err := nftables.New()
	if err != nil {
		return false, fmt.Errorf("netlink: %w", err)
	}
	tables, err := c.ListTablesOfFamily(nftables.TableFamilyINet)
	if err != nil {
		return false, explain(fmt.Errorf("list tables: %w", err), commit)
	}
	return slices.ContainsFunc(tables, func(t *nftables.Table) bool { return t.Name == Table }), nil
}

// commit runs one batch.
func commit(build func(*nftables.Conn)) error {
	c, err := nftables.New()
	if err != nil {
		return fmt.Errorf("netlink: %w", err)
	}
	build(c)
	if err := c.Flush(); err != nil {
		return fmt.Errorf("nftables: %w", err)
	}
	return nil
}

// readBack compares what the kernel has with what it was told.
func readBack(want []chain) error {
	c, err := nftables.New()
	if err != nil {
		return fmt.Errorf("netlink: %w", err)
	}
	t := &nftables.Table{Name: Table, Family: nftables.TableFamilyINet}
	for _, ch := range want {
		got, err := c.GetRules(t, &nftables.Chain{Name: ch.name, Table: t})
		if err != nil {
			return fmt.Errorf("read chain %s: %w", ch.name, err)
		}
		same := slices.EqualFunc(got, ch.rules, func(g *nftables.Rule, w rule) bool { return ends(g.Exprs) == ends(w.exprs()) })
		if !same {
			return fmt.Errorf("chain %s has %d rules, or others, where %d were written: something else writes to the table %s",
				ch.name, len(got), len(ch.rules), Table)
		}
	}
	return nil
}

// ends says what a rule comes to and by how many steps.
func ends(all []expr.Any) string {
	last := ""
	if len(all) > 0 {
		last = fmt.Sprintf("%T", all[len(all)-1])
	}
	return fmt.Sprint(len(all), last)
}

// stage is a part of what the kernel must have, and what it is called.
type stage struct {
	module string
	build  func(*nftables.Conn)
}

// stages try one part after the other, each in a table that does not outlive the batch.
func stages() []stage {
	scratch := &nftables.Table{Name: Table + "-probe", Family: nftables.TableFamilyINet}
	try := func(build func(*nftables.Conn)) func(*nftables.Conn) {
		return func(c *nftables.Conn) {
			c.AddTable(scratch)
			build(c)
			c.DelTable(scratch)
		}
	}
	nat := func(c *nftables.Conn) *nftables.Chain {
		return c.AddChain(&nftables.Chain{
			Name: "nat", Table: scratch, Type: nftables.ChainTypeNAT, Hooknum: nftables.ChainHookOutput, Priority: nftables.ChainPriorityNATDest,
		})
	}
	return []stage{
		{"nf_tables (CONFIG_NF_TABLES, CONFIG_NF_TABLES_INET)", try(func(*nftables.Conn) {})},
		{"nft_chain_nat (CONFIG_NFT_NAT)", try(func(c *nftables.Conn) { nat(c) })},
		{"nft_redir (CONFIG_NFT_REDIR)", try(func(c *nftables.Conn) {
			r := rule{to: 1}
			c.AddRule(&nftables.Rule{Table: scratch, Chain: nat(c), Exprs: r.exprs()})
		})},
	}
}

// explain says what to do about err: it names the kernel module that is missing (R13.3).
func explain(err error, try func(func(*nftables.Conn)) error) error {
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
		return fmt.Errorf("%w: tulle-init needs the capability NET_ADMIN (a Pod Security level or a policy may have taken it away)", err)
	}
	for _, s := range stages() {
		switch e := try(s.build); {
		case errors.Is(e, unix.ENOENT), errors.Is(e, unix.EOPNOTSUPP), errors.Is(e, unix.EPROTONOSUPPORT), errors.Is(e, unix.EAFNOSUPPORT), errors.Is(e, unix.EINVAL):
			return fmt.Errorf("%w: the node's kernel lacks the module %s: load it on the node (modprobe) or have the node's image load it", err, s.module)
		}
	}
	return err
}
