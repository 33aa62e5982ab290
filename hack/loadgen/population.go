package main

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/url"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ens-operator/ens-operator/hack/loadgen/exchange"
	"github.com/ens-operator/ens-operator/runtime/credential"
	"github.com/ens-operator/ens-operator/runtime/push"
	"github.com/ens-operator/ens-operator/runtime/secret"
	"github.com/ens-operator/ens-operator/runtime/store"
)

// population are users with a device and a subscription each, as registrations leave them. Making them by registrations
// would take a key pair for each, 40 ms of CPU.
type population struct {
	size int
	// targets are the webhooks by mailbox number.
	targets []exchange.Target
}

// deviceToken is the token of a mailbox's phone. It tells the mailbox.
func deviceToken(mailbox exchange.Mailbox) string {
	sum := sha256.Sum256([]byte(mailbox.Address()))
	binary.BigEndian.PutUint64(sum[:], uint64(mailbox))
	return hex.EncodeToString(sum[:])
}

// mailboxOf is the mailbox whose phone has the token.
func mailboxOf(token string) exchange.Mailbox {
	raw, err := hex.DecodeString(token)
	if err != nil || len(raw) != sha256.Size {
		return 0
	}
	return exchange.Mailbox(binary.BigEndian.Uint64(raw))
}

// sealedUser is what is secret about a user, made ready for the database and for Exchange.
type sealedUser struct {
	sealed credential.Sealed
	target exchange.Target
}

// sealUsers makes the webhooks of some users with all cores, those behind a mailbox: generation and user id are the mailbox's
// number.
func sealUsers(ring *credential.Keyring, base string, behind exchange.Mailbox, count int) ([]sealedUser, error) {
	users := make([]sealedUser, count)
	workers := runtime.GOMAXPROCS(0)
	failures := make([]error, workers)
	var group sync.WaitGroup
	for w := range workers {
		group.Go(func() {
			for i := w; i < count; i += workers {
				if users[i], failures[w] = seal(ring, base, behind+exchange.Mailbox(i+1)); failures[w] != nil {
					return
				}
			}
		})
	}
	group.Wait()
	for _, err := range failures {
		if err != nil {
			return nil, fmt.Errorf("sealing the users' credentials: %w", err)
		}
	}
	return users, nil
}

func seal(ring *credential.Keyring, base string, mailbox exchange.Mailbox) (sealedUser, error) {
	c := credential.Credential{
		AuthType: credential.Basic, Username: secret.FromString(mailbox.Address()), Password: secret.FromString(mailbox.Password()),
	}
	sealed, err := ring.SealIntoURL(base, int64(mailbox), int64(mailbox), c, secret.Value{})
	if err != nil {
		return sealedUser{}, err
	}
	address, err := url.Parse(sealed.URL.RevealString())
	if err != nil {
		return sealedUser{}, err
	}
	return sealedUser{sealed: sealed, target: exchange.Target(address.RequestURI())}, nil
}

// fillAtOnce is how many users are made at once: with a million, what is secret about all of them would take gigabytes.
const fillAtOnce = 20_000

// fill writes the population into the database. Nothing is kept but the webhooks.
func fill(ctx context.Context, pool *pgxpool.Pool, ring *credential.Keyring, base string, size int, where layout) (*population, error) {
	pair, err := ring.NewKeyPair() // the same for all: for the database one is as good as another
	if err != nil {
		return nil, err
	}
	now := time.Now()
	p := &population{size: size, targets: make([]exchange.Target, size+1)}
	for filled := 0; filled < size; filled += fillAtOnce {
		behind, count := exchange.Mailbox(filled), min(fillAtOnce, size-filled)
		users, err := sealUsers(ring, base, behind, count)
		if err != nil {
			return nil, err
		}
		sealed := func(m exchange.Mailbox) credential.Sealed { return users[m-behind-1].sealed }
		for _, t := range tables(sealed, pair, now, where) {
			source := pgx.CopyFromSlice(count, func(i int) ([]any, error) { return t.row(behind + exchange.Mailbox(i+1)), nil })
			if _, err := pool.CopyFrom(ctx, pgx.Identifier{t.name}, t.columns, source); err != nil {
				return nil, fmt.Errorf("filling the table %s: %w", t.name, err)
			}
		}
		for i, user := range users {
			p.targets[filled+i+1] = user.target
		}
	}
	for _, statement := range []string{
		`SELECT setval(pg_get_serial_sequence('users', 'id'), $1)`, `SELECT setval(pg_get_serial_sequence('devices', 'ref'), $1)`,
		`SELECT setval(pg_get_serial_sequence('activity', 'id'), $1)`, `SELECT setval('generations', $1)`,
	} {
		if _, err := pool.Exec(ctx, statement, size); err != nil {
			return nil, fmt.Errorf("setting the sequences: %w", err)
		}
	}
	if _, err := pool.Exec(ctx, `VACUUM ANALYZE`); err != nil {
		return nil, fmt.Errorf("letting Postgres look at the tables: %w", err)
	}
	return p, nil
}

// table is one table's content.
type table struct {
	name    string
	columns []string
	row     func(exchange.Mailbox) []any
}

// tables are the rows of users that registered a day ago and were heard of a moment ago.
func tables(sealed func(exchange.Mailbox) credential.Sealed, pair credential.KeyPair, now time.Time, where layout) []table {
	const day = 24 * time.Hour
	registered := now.Add(-day)
	return []table{
		{"users", strings.Fields("id user_hash key_id public_key private_key mailbox_id created_at registered_at"),
			func(m exchange.Mailbox) []any {
				hash, inbox := credential.HashAddress(m.Address()), sha256.Sum256([]byte(m.InboxID()))
				return []any{int64(m), hash[:], pair.ID, pair.Public, pair.Private, inbox[:], registered, registered}
			}},
		{"devices", strings.Fields("ref user_id device_id platform token provider app_id push_environment policy sound badge locale " +
			"device_log_id sync_key app_version os_version registered_at secret_hash secret_used"),
			func(m exchange.Mailbox) []any {
				hash := sha256.Sum256([]byte(m.InboxID() + "secret"))
				return []any{int64(m), int64(m), deviceID(m), string(push.IOS), deviceToken(m), where.provider(m), topic, "production", int16(1), "default",
					true, "en-US", deviceID(m)[:8], hex.EncodeToString(hash[:8]), "25.11.0", "19.1", registered, hash[:], true}
			}},
		{"subscriptions", strings.Fields("user_id generation state f_hash key_sealed subscription_id device_id endpoint auth_type created_at " +
			"promoted_at webhook_key"),
			func(m exchange.Mailbox) []any {
				of := sealed(m)
				return []any{int64(m), int64(m), string(store.Active), of.FillerHash[:], of.Key, m.SubscriptionID(), deviceID(m), where.endpoint(m),
					int16(credential.Basic), registered, registered, of.WebhookKey}
			}},
		{"user_state", strings.Fields("user_id last_callback unread badged"),
			func(m exchange.Mailbox) []any { return []any{int64(m), now, int32(0), []int64{int64(m)}} }},
		{"activity", strings.Fields("id user_id at kind detail"),
			func(m exchange.Mailbox) []any {
				return []any{int64(m), int64(m), registered, string(store.ActivityRegistered), credential.Basic.String()}
			}},
	}
}

// deviceIDBytes make an id as iOS has them: 32 digits.
const deviceIDBytes = 16

func deviceID(m exchange.Mailbox) string {
	sum := sha256.Sum256([]byte(base64.StdEncoding.EncodeToString([]byte(m.Address()))))
	return strings.ToUpper(hex.EncodeToString(sum[:deviceIDBytes]))
}
