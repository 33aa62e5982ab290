package database

import (
	"context"
	"encoding/json"

	"github.com/jackc/pgx/v5"

	"github.com/ens-operator/ens-operator/runtime/push/standing"
)

// A tenant's runtime writes into its own schema as it likes, so what is read there has bounds.
const (
	// standingSince is the schema version since which replicas say how their push providers fare.
	standingSince = 6
	// maxReplicas is more than a tenant has.
	maxReplicas = 100
	// maxStanding is the longest report in bytes that is read: 64 providers of some 250 bytes.
	maxStanding = 16 << 10
)

// readStanding reads what replicas say that were heard of in the last ten minutes, as long as the runtime itself counts them.
// What cannot be read says nothing.
func readStanding(ctx context.Context, conn *pgx.Conn, schema string, state *State) error {
	if state.Version < standingSince {
		return nil
	}
	find := `SELECT push_providers FROM ` + quote(schema) + `.instances
WHERE seen_at >= now() - interval '10 minutes' AND octet_length(push_providers::text) <= $1 ORDER BY seen_at DESC LIMIT $2`
	rows, err := conn.Query(ctx, find, once, maxStanding, maxReplicas)
	if err != nil {
		return err
	}
	var said []byte
	_, err = pgx.ForEachRow(rows, []any{&said}, func() error {
		var reports []standing.Report
		if json.Unmarshal(said, &reports) == nil {
			state.Providers = append(state.Providers, reports...)
		}
		return nil
	})
	return err
}
