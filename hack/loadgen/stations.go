package main

import (
	"fmt"
	"net/http"
	"slices"

	"github.com/ens-operator/ens-operator/hack/loadgen/exchange"
	"github.com/ens-operator/ens-operator/runtime/config"
	"github.com/ens-operator/ens-operator/runtime/credential"
	"github.com/ens-operator/ens-operator/runtime/ews/segtest"
	"github.com/ens-operator/ens-operator/runtime/push/fcm/fcmtest"
	"github.com/ens-operator/ens-operator/runtime/push/sns/snstest"
	"github.com/ens-operator/ens-operator/runtime/secret"
)

// stations are what the ways of the set variants lead through, beside Exchange and Apple.
type stations struct {
	oauth, ntlm *exchange.Server
	// gateways stand before the common Exchange; naming is the one that names each device in its answers.
	gateway, naming *segtest.Server
	google          *fcmtest.Server
	amazon          *snstest.Server
	application     string
}

// startStations starts them if there are ways. What has been started is returned with an error, too, to be closed.
func (x *scene) startStations(s settings, of exchange.Options) (*stations, error) {
	if len(s.arrangement.ways) == 0 {
		return nil, nil //nolint:nilnil // there are none
	}
	t := &stations{}
	var err error
	of.Scheme = exchange.OAuth
	if t.oauth, err = exchange.Start(of); err != nil {
		return t, err
	}
	of.Scheme = exchange.NTLM
	if t.ntlm, err = exchange.Start(of); err != nil {
		return t, err
	}
	if t.gateway, err = segtest.Start(segtest.Options{Exchange: x.exchange, Calm: true}); err != nil {
		return t, err
	}
	if t.naming, err = segtest.Start(segtest.Options{Exchange: x.exchange, Calm: true, NameDevices: true}); err != nil {
		return t, err
	}
	silent := func(string, ...any) {}
	t.google = fcmtest.Start(fcmtest.Options{Calm: true, MaxDelay: s.providerDelay, Logf: silent, Observe: x.ledger.acceptedByGoogle, Clock: x.clock})
	t.amazon = snstest.Start(snstest.Options{Calm: true, MaxDelay: s.providerDelay, Logf: silent, Observe: x.ledger.acceptedByAmazon, Clock: x.clock})
	t.application = t.amazon.AddApplication(snstest.APNs, amazonApp)
	return t, nil
}

// issue makes a credential that is an access token.
func (t *stations) issue(m exchange.Mailbox) (credential.Credential, error) {
	token, expires, err := t.oauth.IssueToken(m)
	return credential.Credential{AuthType: credential.OAuth, Token: secret.FromString(token), Expires: expires}, err
}

// configure adds them to a configuration, and the providers' files to those of the folder.
func (t *stations) configure(c *config.Config, files map[string][]byte) {
	if t == nil {
		return
	}
	endpoint := func(name, url, fingerprint string, method config.AuthenticationMethod) config.Endpoint {
		e := c.Endpoints[0]
		e.Name, e.URL, e.Pinning = name, url, config.Pinning{SHA256: []string{fingerprint}}
		e.AuthenticationMethods = []config.AuthenticationMethod{method}
		return e
	}
	gateway := func(name string, g *segtest.Server) config.Endpoint {
		e := endpoint(name, g.URL(), g.Fingerprint(), config.AuthBasic)
		e.SecureEmailGateway = &config.SecureEmailGateway{}
		return e
	}
	c.Endpoints = append(c.Endpoints,
		endpoint(oauthName, t.oauth.URL(), t.oauth.Fingerprint(), config.AuthOAuth), endpoint(ntlmName, t.ntlm.URL(), t.ntlm.Fingerprint(), config.AuthNTLM),
		gateway(gatewayName, t.gateway), gateway(namingName, t.naming))
	c.PushProviders = append(c.PushProviders,
		config.PushProvider{Name: googleName, CABundle: true, FCM: &config.FCM{
			ProjectID: t.google.Project(), AppIDs: []string{topic}, URL: t.google.URL(), TokenURL: t.google.TokenURL(),
		}},
		config.PushProvider{Name: amazonName, CABundle: true, SNS: &config.SNS{ApplicationARN: t.application, AppIDs: []string{amazonApp}, URL: t.amazon.URL()}})
	key := t.amazon.AccessKey()
	for name, content := range map[string][]byte{
		googleName + "/" + config.FCMServiceAccountFile:  t.google.ServiceAccountJSON(),
		googleName + "/" + config.CABundleFile:           t.google.CertificatePEM(),
		amazonName + "/" + config.SNSAccessKeyIDFile:     []byte(key.ID),
		amazonName + "/" + config.SNSSecretAccessKeyFile: []byte(key.Secret),
		amazonName + "/" + config.CABundleFile:           t.amazon.CertificatePEM(),
	} {
		files[config.PushFolder+"/"+name] = content
	}
}

// addDevices lets providers know everybody's devices, each the one that it is of, and the gateways that they are compliant.
func (x *scene) addDevices(users int) {
	for m := exchange.Mailbox(1); int(m) <= users; m++ {
		way := x.layout.of(m)
		for number := range way.devices {
			d := device{of: m, number: number}
			switch way.provider {
			case providerName:
				x.apns.AddDevice(way.token(d), way.app)
			case named(providerName, true):
				x.others.apns.AddDevice(way.token(d), way.app)
			case googleName:
				x.stations.google.AddDevice(way.token(d))
			} // Amazon learns of a device by its first notification
			switch way.endpoint {
			case gatewayName:
				x.stations.gateway.SetCompliant(d.id(), true)
			case namingName:
				x.stations.naming.SetCompliant(d.id(), true)
			}
		}
	}
}

func (t *stations) close() {
	if t == nil {
		return
	}
	for _, gateway := range []*segtest.Server{t.gateway, t.naming} {
		if gateway != nil {
			gateway.Close()
		}
	}
	for _, server := range []*exchange.Server{t.oauth, t.ntlm} {
		if server != nil {
			server.Close()
		}
	}
	if t.google != nil {
		t.google.Close()
	}
	if t.amazon != nil {
		t.amazon.Close()
	}
}

// exchanges are all simulated Exchange servers.
func (x *scene) exchanges() []*exchange.Server {
	all := []*exchange.Server{x.exchange}
	if x.others != nil {
		all = append(all, x.others.exchange)
	}
	if x.stations != nil {
		all = append(all, x.stations.oauth, x.stations.ntlm)
	}
	return all
}

// requests is how many Exchange was sent, refused how many of them not as was asked, problem why the last was.
func (x *scene) requests() (answered, refused int64, problem string) {
	for _, server := range x.exchanges() {
		a, r := server.Requests()
		answered, refused = answered+a, refused+r
		if r > 0 {
			problem = server.Problem()
		}
	}
	return answered, refused, problem
}

// faultless is an error if a gateway, Google or Amazon has refused anything: they were to be asked only for what is right.
func (t *stations) faultless() error {
	for name, gateway := range map[string]*segtest.Server{gatewayName: t.gateway, namingName: t.naming} {
		calls := gateway.Requests()
		if at := slices.IndexFunc(calls, func(r segtest.Request) bool { return r.Status != http.StatusOK }); at >= 0 {
			return fmt.Errorf("the gateway %s has answered %d", name, calls[at].Status)
		}
	}
	if s := t.google.Stats(); s.Accepted != s.Requests || s.Logins != s.LoginRequests {
		return fmt.Errorf("the simulated FCM has taken %d of %d messages and %d of %d logins", s.Accepted, s.Requests, s.Logins, s.LoginRequests)
	}
	if s := t.amazon.Stats(); s.Accepted+s.Created != s.Requests {
		return fmt.Errorf("the simulated SNS has taken %d notifications and made %d endpoints at %d requests", s.Accepted, s.Created, s.Requests)
	}
	return nil
}
