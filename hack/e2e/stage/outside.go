package stage

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/ens-operator/ens-operator/hack/testenv"
	"github.com/ens-operator/ens-operator/runtime/ews/ewstest"
	"github.com/ens-operator/ens-operator/runtime/ews/segtest"
	"github.com/ens-operator/ens-operator/runtime/push/apns/apnstest"
	"github.com/ens-operator/ens-operator/runtime/push/fcm/fcmtest"
)

// Outside is what is outside of the cluster, on this machine: a real Postgres, and the project's strict fakes.
type Outside struct {
	// Postgres is a pair of a primary and a synchronous standby.
	Postgres *testenv.PostgresPair
	Database *testenv.Database
	Exchange *ewstest.Server
	// Gateway is a secure email gateway in front of Exchange.
	Gateway *segtest.Server
	APNs    *apnstest.Server
	APNsKey apnstest.Key
	FCM     *fcmtest.Server
	// FCMAccount is a service account's key file.
	FCMAccount []byte

	log *os.File
}

func (s *Stage) startOutside(ctx context.Context) error {
	o := &Outside{}
	s.Outside = o
	var err error
	if o.log, err = os.Create(filepath.Join(s.Folder, "outside.log")); err != nil {
		return err
	}
	if o.Postgres, err = testenv.StartPostgresPair(ctx, testenv.WithHost(s.Host)); err != nil {
		return fmt.Errorf("starting Postgres: %w", err)
	}
	if o.Database, err = o.Postgres.CreateDatabase(ctx, "ens"); err != nil {
		return err
	}
	anyPort := net.JoinHostPort(s.Host, "0")
	// With its real rules: a post that fails is tried again after 30 s and then after twice the time each, as long as
	// that does not exceed the status frequency.
	o.Exchange, err = ewstest.Start(ewstest.Options{
		Listen: anyPort, Logf: o.logf,
		DialCallback: func(ctx context.Context, _, address string) (net.Conn, error) { return s.Entry.Dial(ctx, address) },
	})
	if err != nil {
		return err
	}
	if o.Gateway, err = segtest.Start(segtest.Options{Exchange: o.Exchange, Listen: anyPort, Logf: o.logf}); err != nil {
		return err
	}
	o.APNs = apnstest.Start(apnstest.Options{Address: anyPort, Logf: o.logf})
	o.APNsKey = o.APNs.NewKey()
	o.FCM = fcmtest.Start(fcmtest.Options{Address: anyPort, Logf: o.logf})
	o.FCMAccount = o.FCM.ServiceAccountJSON()
	// Phones and Exchange trust the same authority.
	o.Exchange.TrustCallbacks(s.Entry.Roots)
	s.say("outside of the cluster: Postgres (primary and synchronous standby), Exchange (seed %d), a SEG (seed %d), APNs and FCM", o.Exchange.Seed, o.Gateway.Seed)
	return nil
}

// Ports are those of everything that pods talk to here, for network policies.
func (o *Outside) Ports() ([]string, error) {
	var ports []string
	database, err := pgx.ParseConfig(o.Database.URL)
	if err != nil {
		return nil, err
	}
	ports = append(ports, strconv.Itoa(int(database.Port)))
	for _, other := range database.Fallbacks {
		ports = append(ports, strconv.Itoa(int(other.Port)))
	}
	for _, address := range []string{o.Exchange.URL(), o.Gateway.URL(), o.APNs.URL(), o.FCM.URL()} {
		parsed, err := url.Parse(address)
		if err != nil {
			return nil, err
		}
		ports = append(ports, parsed.Port())
	}
	return ports, nil
}

// logf writes what the fakes say. None of them says a secret.
func (o *Outside) logf(format string, arguments ...any) {
	fmt.Fprintf(o.log, time.Now().UTC().Format(time.RFC3339Nano)+" "+format+"\n", arguments...)
}

func (o *Outside) close() error {
	if o.Gateway != nil {
		o.Gateway.Close()
	}
	if o.Exchange != nil {
		o.Exchange.Close()
	}
	if o.APNs != nil {
		o.APNs.Close()
	}
	if o.FCM != nil {
		o.FCM.Close()
	}
	var failed error
	if o.Postgres != nil {
		failed = o.Postgres.Stop()
	}
	if o.log != nil {
		failed = errors.Join(failed, o.log.Close())
	}
	return failed
}
