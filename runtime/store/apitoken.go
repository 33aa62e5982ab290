package store

import (
	"context"
	"crypto/sha256"
)

// NoteAPIToken remembers with which API token a device calls, by the token's id. It is no error if there is no such device.
func (s *Store) NoteAPIToken(ctx context.Context, hash [sha256.Size]byte, deviceID, tokenID string) error {
	const note = `UPDATE devices d SET api_token = $3 FROM users u
WHERE u.user_hash = $1 AND d.user_id = u.id AND d.device_id = $2 AND d.api_token IS DISTINCT FROM $3`
	return s.exec(ctx, "recording which API token the device uses", note, hash[:], deviceID, tokenID)
}
