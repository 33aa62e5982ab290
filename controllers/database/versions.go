package database

import (
	"context"
	"time"

	"github.com/ens-operator/ens-operator/runtime/store/migrations"
)

// Misfits are the tenant's replicas that cannot work with its schema, by what they say of themselves.
type Misfits struct {
	// TooOld are those that know no version that the schema is compatible with, and KnowsAtMost is what the oldest of them
	// knows.
	TooOld, KnowsAtMost int
	// TooNew are those that need a newer schema, and NeedsAtLeast is what the most demanding of them needs.
	TooNew, NeedsAtLeast int
}

// Misfits looks for replicas that cannot work with a schema in this state. Replicas that were not heard of lately do not
// count, nor those of versions before there was such a report.
func (s *Server) Misfits(ctx context.Context, names Names, state State, now time.Time) (Misfits, error) {
	if state.Version < migrations.ReportsVersion {
		return Misfits{}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	var found Misfits
	err := s.pool.AcquireFunc(ctx, func(c *poolConn) error {
		look := `
SELECT count(*) FILTER (WHERE knows_schema < $1), coalesce(min(knows_schema) FILTER (WHERE knows_schema < $1), 0),
       count(*) FILTER (WHERE needs_schema > $2), coalesce(max(needs_schema) FILTER (WHERE needs_schema > $2), 0)
FROM ` + quote(names.Schema) + `.instances WHERE seen_at >= $3`
		return c.Conn().QueryRow(ctx, look, once, state.Minimum, state.Version, now.Add(-instanceTTL)).
			Scan(&found.TooOld, &found.KnowsAtMost, &found.TooNew, &found.NeedsAtLeast)
	})
	return found, s.classify("looking at the versions of the replicas of schema "+names.Schema, err)
}
