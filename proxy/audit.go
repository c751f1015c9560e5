package proxy

import "github.com/tulle-mesh/tulle/proxy/balance"

// auditRows is how many rows a worker looks at in one turn: under 0.1 ms, whatever is asked for at once.
const auditRows = 256

// auditTries is how often a walk begins anew because endpoints moved meanwhile.
const auditTries = 4

// said is one worker's answer to a digest: what it has, whether that is of the version asked for, and
// whether it holds the target at all.
type said struct {
	have uint64
	at   bool
	held bool
}

// audit is a digest on its way through a target's rows.
type audit struct {
	t       *target
	version uint64 // of what is walked
	told    said   // what was put in, by the digest kept with each change
	walk    balance.Walk
	tries   int
	done    func(said)
}

// audit answers with what the balancer really holds, or, where that changes faster than it can be
// looked at, with what was put in: told. One audit of a target is under way at a time.
func (s *shard) audit(t *target, told said, done func(said)) {
	if t.audited {
		done(told)
		return
	}
	t.audited = true
	s.audits = append(s.audits, &audit{t: t, version: t.version, told: told, walk: t.bal.Walk(), done: done})
	if len(s.audits) == 1 {
		s.w.Soon((*auditor)(s))
	}
}

// auditor goes on with a shard's audits.
type auditor shard

// Run implements loop.Task.
func (a *auditor) Run() {
	s := (*shard)(a)
	for left := auditRows; len(s.audits) > 0 && left > 0; {
		looked, ended := s.audits[0].step(left)
		left -= max(looked, 1)
		if ended {
			s.audits[0].t.audited = false
			copy(s.audits, s.audits[1:])
			s.audits[len(s.audits)-1] = nil
			s.audits = s.audits[:len(s.audits)-1]
		}
	}
	if len(s.audits) > 0 {
		s.w.Soon(a)
	}
}

// step looks at n rows at most, and answers when those were the last.
func (a *audit) step(n int) (looked int, ended bool) {
	if !a.walk.Valid() {
		if a.tries++; a.t.gone || a.t.version != a.version || a.tries == auditTries {
			a.done(a.told)
			return 0, true
		}
		a.walk = a.t.bal.Walk()
	}
	looked, ended = a.walk.Step(n)
	if ended {
		a.told.have = a.walk.Digest()
		a.done(a.told)
	}
	return looked, ended
}
