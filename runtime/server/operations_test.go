package server_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/ens-operator/ens-operator/hack/runtimetest"
	"github.com/ens-operator/ens-operator/runtime/config"
	"github.com/ens-operator/ens-operator/runtime/ews/ewstest"
	"github.com/ens-operator/ens-operator/runtime/protocol/boxertest"
	"github.com/ens-operator/ens-operator/runtime/push"
	"github.com/ens-operator/ens-operator/runtime/push/apns/apnstest"
	"github.com/ens-operator/ens-operator/runtime/store/storetest"
)

func TestAChangedTokenCountsWithoutARestart(t *testing.T) {
	t.Parallel()
	x := runtimetest.New(t, runtimetest.Options{})
	x.Start(t)
	phone := x.Phone(alice, push.IOS)
	if answer, err := phone.PublicKey(t.Context()); err != nil || answer.Code != 3 {
		t.Fatalf("the first token is answered %d: %v", answer.Code, err)
	}
	sum := sha256.Sum256([]byte("the-next-token"))
	x.Write(t, config.APITokenHashesFile, []byte(hex.EncodeToString(sum[:])+"\n"))
	runtimetest.Eventually(t, func() string {
		answer, err := phone.PublicKey(t.Context())
		if err != nil {
			return err.Error()
		}
		if answer.Status != http.StatusUnauthorized {
			return "the old token is still accepted"
		}
		return ""
	})
	phone.APIToken = "the-next-token"
	if answer, err := phone.PublicKey(t.Context()); err != nil || answer.Code != 3 {
		t.Errorf("the next token is answered %d: %v", answer.Code, err)
	}
}

func TestWhileTwoTokensAreValidItIsKnownWhoUsesWhich(t *testing.T) {
	t.Parallel()
	x := runtimetest.New(t, runtimetest.Options{})
	x.Start(t)
	used := func(phone *boxertest.Phone) string {
		t.Helper()
		return storetest.Value[string](t, x.Schema, `SELECT coalesce(api_token, '') FROM devices WHERE device_id = $1`, phone.DeviceID)
	}
	late, early := x.Phone(alice, push.IOS), x.Phone(alice, push.Android)
	runtimetest.MustRegister(t, late, 7)
	heard(t, x, "OK")
	waitFresh(t, late)
	if got := used(late); got != "" {
		t.Errorf("while there is one token, that a phone uses %q is on record", got)
	}
	tokens := config.APITokens{{SHA256: sha256.Sum256([]byte("the-next-token"))}, {SHA256: sha256.Sum256([]byte(x.APIToken)), Expires: time.Now().Add(time.Hour)}}
	x.Write(t, config.APITokenHashesFile, []byte(tokens.String()))
	early.APIToken = "the-next-token"
	runtimetest.Eventually(t, func() string {
		answer, err := early.PublicKey(t.Context())
		if err != nil {
			return err.Error()
		}
		if answer.Status == http.StatusUnauthorized {
			return "the next token is not accepted"
		}
		return ""
	})
	runtimetest.MustRegister(t, early, 6)
	if answer, err := late.Status(t.Context()); err != nil || answer.Code != 17 {
		t.Fatalf("status is answered %d: %v", answer.Code, err)
	}
	if got, want := used(early), tokens[0].ID(); got != want {
		t.Errorf("the phone with the next token is on record with %q, want %q", got, want)
	}
	if got, want := used(late), tokens[1].ID(); got != want {
		t.Errorf("the phone with the token before is on record with %q, want %q", got, want)
	}
	late.APIToken = "the-next-token"
	if answer, err := late.Status(t.Context()); err != nil || answer.Code != 17 {
		t.Fatalf("status is answered %d: %v", answer.Code, err)
	}
	if got, want := used(late), tokens[0].ID(); got != want {
		t.Errorf("the phone that has changed is on record with %q, want %q", got, want)
	}
}

func TestAnInvalidConfigurationLeavesTheLastGoodOneInForce(t *testing.T) {
	t.Parallel()
	x := runtimetest.New(t, runtimetest.Options{})
	replica := x.Start(t)
	x.Write(t, config.FileName, []byte("endpoints: [{url: 'http://not-https'}]"))
	runtimetest.Eventually(t, func() string {
		if !strings.Contains(get(t, "http://"+replica.Metrics+"/metrics"), "ens_config_valid 0") {
			return "the metric does not say that the configuration was refused"
		}
		return ""
	})
	runtimetest.MustRegister(t, x.Phone(alice, push.IOS), 7)
}

func get(t *testing.T, address string) string {
	t.Helper()
	response, err := http.Get(address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

func TestAKeyIsNotReplacedUnderItsNumber(t *testing.T) {
	t.Parallel()
	x := runtimetest.New(t, runtimetest.Options{})
	replica := x.Start(t)
	runtimetest.MustRegister(t, x.Phone(alice, push.IOS), 7)
	heard(t, x, "OK")
	x.Write(t, filepath.Join(config.KeysFolder, "kek-1"), config.NewKeyFiles()["kek-1"])
	runtimetest.Eventually(t, func() string {
		if !strings.Contains(get(t, "http://"+replica.Metrics+"/metrics"), "ens_config_valid 0") {
			return "the metric does not say that the key was refused"
		}
		return ""
	})
	s := x.Exchange.Subscriptions()[0]
	if c := x.Exchange.Post(runtimetest.Context(t), s.URL, heartbeat(t, x, s)); c.Reply != "OK" {
		t.Errorf("the subscription's post is answered %d %q", c.Status, c.Reply)
	}
}

func TestACredentialFileThatIsNoKeyIsRefusedAsTheConfigurationIs(t *testing.T) {
	t.Parallel()
	x := runtimetest.New(t, runtimetest.Options{})
	replica := x.Start(t)
	x.Write(t, filepath.Join(config.PushFolder, x.Config.PushProviders[0].Name, config.APNsKeyFile), []byte("no key"))
	runtimetest.Eventually(t, func() string {
		if !strings.Contains(get(t, "http://"+replica.Metrics+"/metrics"), "ens_config_valid 0") {
			return "the metric does not say that the credential was refused"
		}
		return ""
	})
}

func TestAChangedDatabasePasswordCountsWithoutARestart(t *testing.T) {
	t.Parallel()
	x := runtimetest.New(t, runtimetest.Options{})
	x.Start(t)
	phone := x.Phone(alice, push.IOS)
	runtimetest.MustRegister(t, phone, 7)
	u, err := url.Parse(x.Schema.URL.RevealString())
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword(u.User.Username(), "the-next-password")
	superuser, err := pgx.Connect(t.Context(), x.Schema.Database.SuperuserURL)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = superuser.Close(t.Context()) }()
	for _, statement := range []string{
		"ALTER ROLE " + pgx.Identifier{u.User.Username()}.Sanitize() + " PASSWORD 'the-next-password'",
		"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '" + u.User.Username() + "'",
	} {
		if _, err := superuser.Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	x.Write(t, config.DatabaseURLFile, []byte(u.String()))
	runtimetest.Eventually(t, func() string {
		answer, err := phone.Status(t.Context())
		if err != nil || answer.Status != http.StatusOK {
			return fmt.Sprintf("status is answered %d/%d: %v", answer.Status, answer.Code, err)
		}
		return ""
	})
}

func TestTheAdministrationPortTellsNoSecret(t *testing.T) {
	t.Parallel()
	x := runtimetest.New(t, runtimetest.Options{})
	replica := x.Start(t)
	status := get(t, "http://"+replica.Admin+"/status")
	for _, want := range []string{`"tenant":"test/acme"`, `"configValid":true`, `"notReady":""`, `"keks":[1]`} {
		if !strings.Contains(status, want) {
			t.Errorf("the status lacks %s: %s", want, status)
		}
	}
	if strings.Contains(status, x.APIToken) || strings.Contains(status, "postgres://") {
		t.Errorf("the status tells a secret: %s", status)
	}
}

func TestTheRuntimeServesTLSWithARenewedCertificate(t *testing.T) {
	t.Parallel()
	x := runtimetest.New(t, runtimetest.Options{Configure: func(c *config.Config) { c.Server.TLS = true }})
	first := writeCertificate(t, x)
	replica := x.Launch(t)
	alive := func(roots *x509.CertPool) error {
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: "ens.example.com"}}}
		response, err := client.Get("https://" + replica.Address + "/api/ens/alive")
		if err != nil {
			return err
		}
		return response.Body.Close()
	}
	if err := alive(first); err != nil {
		t.Fatal(err)
	}
	second := writeCertificate(t, x)
	runtimetest.Eventually(t, func() string {
		if err := alive(second); err != nil {
			return err.Error()
		}
		return ""
	})
}

// writeCertificate mounts a fresh certificate for ens.example.com and returns the pool that trusts it.
func writeCertificate(t *testing.T, x *runtimetest.Tenant) *x509.CertPool {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ens.example.com"}, DNSNames: []string{"ens.example.com"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	x.Write(t, config.TLSKeyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}))
	x.Write(t, config.TLSCertificateFile, certificate)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(certificate)
	return roots
}

func TestADatabaseThatIsAwayCostsOnlyTime(t *testing.T) {
	t.Parallel()
	x := runtimetest.New(t, runtimetest.Options{Exchange: ewstest.Options{Compression: 60}}) // the first retry after 0.5 s
	replica := x.Start(t)
	phone := x.Phone(alice, push.IOS)
	runtimetest.MustRegister(t, phone, 7)
	heard(t, x, "OK")

	if _, err := x.Schema.Looking.Exec(t.Context(), `ALTER TABLE subscriptions RENAME TO away`); err != nil {
		t.Fatal(err)
	}
	deliver(t, x, lunch)
	_, err := x.Exchange.WaitCallback(runtimetest.Context(t), func(c ewstest.Callback) bool { return c.Status == http.StatusServiceUnavailable })
	if err != nil {
		t.Fatalf("Exchange was not answered 503: %v", err)
	}
	if body := get(t, "http://"+replica.Metrics+"/readyz"); body != "ok\n" {
		t.Errorf("readiness depends on the database: %s", body)
	}
	answer, err := phone.Status(t.Context())
	wantAnswer(t, answer, err, http.StatusInternalServerError, 4, "database")
	if _, err := x.Schema.Looking.Exec(t.Context(), `ALTER TABLE away RENAME TO subscriptions`); err != nil {
		t.Fatal(err)
	}
	if _, err := x.APNs.Wait(runtimetest.Context(t), phone.DeviceToken, 1); err != nil {
		t.Errorf("the mail was lost: %v", err)
	}
}

func TestAPasswordThatExchangeRefusesStillTellsThatThereIsMail(t *testing.T) {
	t.Parallel()
	x := runtimetest.New(t, runtimetest.Options{})
	x.Start(t)
	phone := x.Phone(alice, push.IOS)
	runtimetest.MustRegister(t, phone, 7)
	heard(t, x, "OK")
	x.Exchange.AddMailbox(ewstest.Mailbox{Address: alice, Password: "changed-at-the-desk"})
	deliver(t, x, lunch)
	got, err := x.APNs.Wait(runtimetest.Context(t), phone.DeviceToken, 1)
	if err != nil {
		t.Fatal(err)
	}
	if alert := got[0].APS.Alert; alert == nil || alert.Title != "New message" || alert.Subtitle != "" {
		t.Errorf("shown is %+v", alert)
	}
}

func TestADeadTokenRetiresItsDeviceAlone(t *testing.T) {
	t.Parallel()
	x := runtimetest.New(t, runtimetest.Options{})
	x.Start(t)
	dead, living := x.Phone(alice, push.IOS), x.Phone(alice, push.Android)
	runtimetest.MustRegister(t, dead, 7)
	heard(t, x, "OK")
	waitFresh(t, dead)
	runtimetest.MustRegister(t, living, 6)
	x.APNs.Unregister(dead.DeviceToken, time.Now().Add(time.Hour))
	deliver(t, x, lunch)
	if _, err := x.FCM.Wait(runtimetest.Context(t), living.DeviceToken, 1); err != nil {
		t.Fatal(err)
	}
	runtimetest.Eventually(t, func() string {
		answer, err := dead.Status(t.Context())
		if err != nil {
			return err.Error()
		}
		if answer.Code != 30 {
			return "the device with the dead token still counts as registered"
		}
		return ""
	})
}

func TestAProviderThatFailsForAWhileIsTriedAgain(t *testing.T) {
	t.Parallel()
	x := runtimetest.New(t, runtimetest.Options{Configure: func(c *config.Config) { c.PushProviders[0].TimeoutSeconds = 1 }})
	x.Start(t)
	iphone, android := x.Phone(alice, push.IOS), x.Phone(alice, push.Android)
	runtimetest.MustRegister(t, iphone, 7)
	heard(t, x, "OK")
	waitFresh(t, iphone)
	runtimetest.MustRegister(t, android, 6)

	mended := make(chan struct{})
	x.APNs.OnRequest(func(apnstest.Request) *apnstest.Fault {
		select {
		case <-mended:
			return nil
		default:
			return &apnstest.Fault{Status: http.StatusServiceUnavailable, Reason: "ServiceUnavailable"}
		}
	})
	deliver(t, x, lunch)
	if _, err := x.FCM.Wait(runtimetest.Context(t), android.DeviceToken, 1); err != nil {
		t.Fatalf("a failing APNs holds up FCM: %v", err)
	}
	close(mended)
	if _, err := x.APNs.Wait(runtimetest.Context(t), iphone.DeviceToken, 1); err != nil {
		t.Fatal(err)
	}
	runtimetest.Eventually(t, func() string {
		var owed int
		if err := x.Schema.Looking.QueryRow(t.Context(), `SELECT count(*) FROM pending WHERE done_at IS NULL`).Scan(&owed); err != nil {
			return err.Error()
		}
		if owed > 0 {
			return "the journal still owes something"
		}
		return ""
	})
	if n := len(x.FCM.Messages(android.DeviceToken)); n != 1 {
		t.Errorf("the Android phone was told %d times", n)
	}
}
