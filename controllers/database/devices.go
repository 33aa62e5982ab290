package database

import (
	"context"
)

// DevicesWithoutToken counts the tenant's living devices that have not called with the API token of this id yet.
func (s *Server) DevicesWithoutToken(ctx context.Context, names Names, tokenID string) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	var devices int
	err := s.pool.AcquireFunc(ctx, func(c *poolConn) error {
		count := `SELECT count(*) FROM ` + quote(names.Schema) + `.devices WHERE retired_at IS NULL AND api_token IS DISTINCT FROM $1`
		return c.Conn().QueryRow(ctx, count, once, tokenID).Scan(&devices)
	})
	return devices, s.classify("counting the devices of schema "+names.Schema, err)
}
