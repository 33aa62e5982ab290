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
	"github.com/ens-operator/ens-operator/runtime/store"
)

// population are users with a device and a subscription each, as registrations leave them. Making them by registrations
// would take a key pair for each, 40 ms of CPU.
type population struct {
	size int
	// targets are the webhooks by mailbox number.
	targets []exchange.Target
}

// device is one of a mailbox's, numbered from 0.
type device struct {
	of     exchange.Mailbox
	number int
}

// maxDevices is how many a mailbox may have at most: their numbers fit a byte of the token.
const maxDevices = 1 << 8

// token tells the device, in Apple's form.
func (d device) token() string {
	sum := sha256.Sum256([]byte(d.of.Address()))
	binary.BigEndian.PutUint64(sum[:], uint64(d.of)*maxDevices+uint64(d.number))
	return hex.EncodeToString(sum[:])
}

// registrationRest makes a token of Apple's form one of Google's, which has some 140 characters.
const registrationRest = ":APA91bHPRgkF3JUikC4ENAHEeMrd41Zxv3hVZjC9KtT8OvPVGJ-hQMRKRrZuJAEcl7B338qju59zJM"

// deviceOf is the device that has the token, of neither mailbox nor number if it is none of ours.
func deviceOf(token string) device {
	raw, err := hex.DecodeString(strings.TrimSuffix(token, registrationRest))
	if err != nil || len(raw) != sha256.Size {
		return device{}
	}
	at := binary.BigEndian.Uint64(raw)
	return device{of: exchange.Mailbox(at / maxDevices), number: int(at % maxDevices)}
}

// sealedUser is what is secret about a user, made ready for the database and for Exchange.
type sealedUser struct {
	sealed credential.Sealed
	target exchange.Target
}

// sealUsers makes the webhooks of some users with all cores, those behind a mailbox: generation and user id are the mailbox's
// number.
func sealUsers(ring *credential.Keyring, base string, behind exchange.Mailbox, count int, where layout) ([]sealedUser, error) {
	users := make([]sealedUser, count)
	workers := runtime.GOMAXPROCS(0)
	failures := make([]error, workers)
	var group sync.WaitGroup
	for w := range workers {
		group.Go(func() {
			for i := w; i < count; i += workers {
				if users[i], failures[w] = seal(ring, base, behind+exchange.Mailbox(i+1), where); failures[w] != nil {
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

func seal(ring *credential.Keyring, base string, mailbox exchange.Mailbox, where layout) (sealedUser, error) {
	c, dataKey, err := where.credential(mailbox)
	if err != nil {
		return sealedUser{}, err
	}
	sealed, err := ring.SealIntoURL(base, int64(mailbox), int64(mailbox), c, dataKey)
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
		users, err := sealUsers(ring, base, behind, count, where)
		if err != nil {
			return nil, err
		}
		sealed := func(m exchange.Mailbox) credential.Sealed { return users[m-behind-1].sealed }
		for _, t := range tables(sealed, pair, now, where) {
			of := t.mailboxes(behind, count)
			source := pgx.CopyFromSlice(len(of), func(i int) ([]any, error) { return t.row(of[i]), nil })
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
	// has says who has a row; nil if everybody does.
	has func(exchange.Mailbox) bool
}

// mailboxes are those of the count behind one that have a row.
func (t table) mailboxes(behind exchange.Mailbox, count int) []exchange.Mailbox {
	var of []exchange.Mailbox
	for m := behind + 1; m <= behind+exchange.Mailbox(count); m++ {
		if t.has == nil || t.has(m) {
			of = append(of, m)
		}
	}
	return of
}

// tables are the rows of users that registered a day ago and were heard of a moment ago.
func tables(sealed func(exchange.Mailbox) credential.Sealed, pair credential.KeyPair, now time.Time, where layout) []table {
	const day = 24 * time.Hour
	registered := now.Add(-day)
	all := []table{
		{name: "users", columns: strings.Fields("id user_hash key_id public_key private_key mailbox_id created_at registered_at"),
			row: func(m exchange.Mailbox) []any {
				hash, inbox := credential.HashAddress(m.Address()), sha256.Sum256([]byte(m.InboxID()))
				return []any{int64(m), hash[:], pair.ID, pair.Public, pair.Private, inbox[:], registered, registered}
			}},
		{name: "subscriptions", columns: strings.Fields("user_id generation state f_hash key_sealed subscription_id device_id endpoint auth_type " +
			"created_at promoted_at webhook_key blob updatable sequence"),
			row: func(m exchange.Mailbox) []any {
				of, way := sealed(m), where.of(m)
				return []any{int64(m), int64(m), string(store.Active), of.FillerHash[:], of.Key, m.SubscriptionID(), device{of: m}.id(), way.endpoint,
					int16(way.auth), registered, registered, of.WebhookKey, of.Blob, way.split, way.sequence()}
			}},
		{name: "user_state", columns: strings.Fields("user_id last_callback unread badged"),
			row: func(m exchange.Mailbox) []any { return []any{int64(m), now, int32(0), where.refs(m)} }},
		{name: "activity", columns: strings.Fields("id user_id at kind detail"),
			row: func(m exchange.Mailbox) []any {
				return []any{int64(m), int64(m), registered, string(store.ActivityRegistered), where.of(m).auth.String()}
			}},
	}
	for number := range where.mostDevices() {
		all = append(all, devices(number, registered, where))
	}
	return all
}

// devices are the rows of everybody's device with a number.
func devices(number int, registered time.Time, where layout) table {
	return table{
		name: "devices", has: func(m exchange.Mailbox) bool { return number < where.of(m).devices },
		columns: strings.Fields("ref user_id device_id platform token provider app_id push_environment policy sound badge locale " +
			"device_log_id sync_key app_version os_version registered_at secret_hash secret_used"),
		row: func(m exchange.Mailbox) []any {
			d, way := device{of: m, number: number}, where.of(m)
			hash := sha256.Sum256([]byte(m.InboxID() + "secret"))
			return []any{d.ref(), int64(m), d.id(), string(way.platform), way.token(d), way.provider, way.app, "production", int16(1), "default",
				true, "en-US", d.id()[:8], hex.EncodeToString(hash[:8]), "25.11.0", "19.1", registered, hash[:], true}
		},
	}
}

// ref is the device's number in the database: the mailbox's, and far behind all of them those of further devices.
func (d device) ref() int64 { return int64(d.of) + int64(d.number)<<32 }

// refs are those of a user's devices.
func (l layout) refs(m exchange.Mailbox) []int64 {
	var refs []int64
	for number := range l.of(m).devices {
		refs = append(refs, device{of: m, number: number}.ref())
	}
	return refs
}

// deviceIDBytes make an id as iOS has them: 32 digits.
const deviceIDBytes = 16

// id is the device's EAS id.
func (d device) id() string {
	about := base64.StdEncoding.EncodeToString([]byte(d.of.Address())) + strings.Repeat("+", d.number)
	sum := sha256.Sum256([]byte(about))
	return strings.ToUpper(hex.EncodeToString(sum[:deviceIDBytes]))
}
