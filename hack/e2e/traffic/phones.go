// Package traffic is what goes on while something is done to a cluster: users with phones, and a steady stream of mail for
// them, of which every one has to be shown once.
package traffic

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/ens-operator/ens-operator/runtime/ews/ewstest"
	"github.com/ens-operator/ens-operator/runtime/ews/segtest"
	"github.com/ens-operator/ens-operator/runtime/protocol/boxertest"
	"github.com/ens-operator/ens-operator/runtime/push"
	"github.com/ens-operator/ens-operator/runtime/push/apns/apnstest"
	"github.com/ens-operator/ens-operator/runtime/push/fcm/fcmtest"
)

const (
	// App is the mail app, on both platforms.
	App = "com.example.mail"
	// callLimit bounds one call of a phone, which may wait for Exchange.
	callLimit = 90 * time.Second
	// The contract's codes of success.
	codeKey, codeSubscribed, codeAlreadySubscribed = 3, 7, 6
)

// Tenant is what phones are told of a tenant, and the outside that its users have.
type Tenant struct {
	// BaseURL, APIToken, EWSURL and GatewayURL stand in the tenant's Secret for the UEM console: phones are told one of the
	// last two.
	BaseURL, APIToken, EWSURL, GatewayURL string
	// Dial leads to the tenant's host name, Roots trust its certificate.
	Dial  func(ctx context.Context, address string) (net.Conn, error)
	Roots *x509.CertPool

	Exchange *ewstest.Server
	// Gateway stands before Exchange, for the users that are told so.
	Gateway *segtest.Server
	APNs    *apnstest.Server
	FCM     *fcmtest.Server
}

// User is somebody with a mailbox and phones.
type User struct {
	Address string
	// Phones are an iPhone and maybe an Android phone.
	Phones []*boxertest.Phone

	throughGateway bool
}

// NewUser gives somebody a mailbox and phones, which do not register yet.
func (t *Tenant) NewUser(name string, platforms ...push.Platform) *User {
	user := &User{Address: name + "@example.com"}
	password := rand.Text()
	t.Exchange.AddMailbox(ewstest.Mailbox{Address: user.Address, Password: password, Name: name})
	client := t.client()
	for _, platform := range platforms {
		id := make([]byte, 32)
		_, _ = rand.Read(id) // it never fails
		phone := &boxertest.Phone{
			BaseURL: t.BaseURL, APIToken: t.APIToken, EWSURL: t.EWSURL, Client: client,
			Address: user.Address, Username: user.Address, Password: password,
			DeviceID: strings.ToUpper(hex.EncodeToString(id[:16])), DeviceToken: hex.EncodeToString(id),
			Platform: string(platform), AppID: App,
		}
		if platform == push.IOS {
			t.APNs.AddDevice(phone.DeviceToken, App)
		} else {
			t.FCM.AddDevice(phone.DeviceToken)
		}
		user.Phones = append(user.Phones, phone)
	}
	return user
}

// NewUserOfGateway is NewUser for somebody whose phones register through the gateway, which finds them compliant.
func (t *Tenant) NewUserOfGateway(name string, platforms ...push.Platform) *User {
	user := t.NewUser(name, platforms...)
	user.throughGateway = true
	for _, phone := range user.Phones {
		phone.EWSURL = t.GatewayURL
		t.Gateway.SetCompliant(phone.DeviceID, true)
	}
	return user
}

// client verifies the tenant's certificate under its host name, as phones do.
func (t *Tenant) client() *http.Client {
	return &http.Client{Timeout: callLimit, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: t.Roots, MinVersion: tls.VersionTLS12},
		DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
			return t.Dial(ctx, address)
		},
	}}
}

// Register registers all phones of a user.
func (u *User) Register(ctx context.Context) error {
	for _, phone := range u.Phones {
		if err := Register(ctx, phone); err != nil {
			return fmt.Errorf("%s, %s: %w", u.Address, phone.Platform, err)
		}
	}
	return nil
}

// Register registers a phone as the app does: the key first, then the credential encrypted under it.
func Register(ctx context.Context, phone *boxertest.Phone) error {
	answer, err := phone.PublicKey(ctx)
	if err != nil {
		return fmt.Errorf("getpublickey: %w", err)
	}
	if answer.Code != codeKey {
		return fmt.Errorf("getpublickey was answered %d/%d %s", answer.Status, answer.Code, answer.Message)
	}
	if answer, err = phone.Register(ctx); err != nil {
		return fmt.Errorf("registerdevicev2: %w", err)
	}
	if answer.Code != codeSubscribed && answer.Code != codeAlreadySubscribed {
		return fmt.Errorf("registerdevicev2 was answered %d/%d %s", answer.Status, answer.Code, answer.Message)
	}
	return nil
}
