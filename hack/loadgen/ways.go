package main

import (
	"crypto/rand"

	"github.com/ens-operator/ens-operator/hack/loadgen/exchange"
	"github.com/ens-operator/ens-operator/runtime/config"
	"github.com/ens-operator/ens-operator/runtime/credential"
	"github.com/ens-operator/ens-operator/runtime/push"
	"github.com/ens-operator/ens-operator/runtime/secret"
)

// way is how a user's mail gets to the phones: how it is fetched, and who takes the notifications.
type way struct {
	name               string
	endpoint, provider string
	platform           push.Platform
	// app is the phone's: by it a registration finds the provider, so no two of a platform's have the same.
	app  string
	auth credential.AuthType
	// split says that the phone sent the credential by rsa-split.
	split   bool
	devices int
	// goal is the most CPU that a mail may take, in R; none if 0.
	goal float64
	// twice says that a device's first notification is measured for itself: the provider is asked for more then.
	twice bool
}

// common is the way of everybody where nothing else is said.
var common = way{name: "basic", endpoint: endpointName, provider: providerName, platform: push.IOS, app: topic, auth: credential.Basic, devices: 1, goal: goalMail}

// The names of the further endpoints and providers.
const (
	oauthName   = endpointName + "-oauth"
	ntlmName    = endpointName + "-ntlm"
	gatewayName = endpointName + "-gateway"
	namingName  = endpointName + "-gateway-naming"
	googleName  = "google"
	amazonName  = "amazon"
	amazonApp   = topic + ".amazon"
)

// goalSplit is the most CPU of a mail by OAuth and rsa-split, in R.
const goalSplit = 0.40

// allWays are those that are measured beside one another, the common one first.
func allWays() []way {
	with := func(name string, change func(*way)) way {
		w := common
		w.name, w.goal = name, 0
		change(&w)
		return w
	}
	return []way{
		common,
		with("oauth-split", func(w *way) { w.endpoint, w.auth, w.split, w.goal = oauthName, credential.OAuth, true, goalSplit }),
		with("ntlm", func(w *way) { w.endpoint = ntlmName }),
		with("gateway", func(w *way) { w.endpoint = gatewayName }),
		with("gateway-two", func(w *way) { w.endpoint, w.devices = gatewayName, 2 }),      //nolint:mnd // as it says
		with("gateway-two-named", func(w *way) { w.endpoint, w.devices = namingName, 2 }), //nolint:mnd // as it says
		with("fcm", func(w *way) { w.provider, w.platform = googleName, push.Android }),
		with("sns", func(w *way) { w.provider, w.app, w.twice = amazonName, amazonApp, true }),
	}
}

// sequence is the number of the credential that the phone has sent, as phones count that send others later.
func (w way) sequence() int64 {
	if w.split {
		return 1
	}
	return 0
}

// token is a device's, in the form of its platform.
func (w way) token(d device) string {
	if w.platform == push.Android {
		return d.token() + registrationRest
	}
	return d.token()
}

// layout says which way each user's mail goes.
type layout struct {
	// two puts half of the users at another endpoint and half of each at another provider.
	two bool
	// ways are those of as many users each, one after the other; the common one if there are none.
	ways []way
	each int
	// issue makes an access token of a user that has none but that.
	issue func(exchange.Mailbox) (credential.Credential, error)
}

func (l layout) of(m exchange.Mailbox) way {
	if len(l.ways) > 0 {
		return l.ways[(int(m)-1)/l.each]
	}
	w := common
	w.endpoint, w.provider = named(endpointName, l.otherEndpoint(m)), named(providerName, l.otherProvider(m))
	return w
}

func (l layout) mostDevices() int {
	most := 1
	for _, w := range l.ways {
		most = max(most, w.devices)
	}
	return most
}

// credential is what a user's phone has registered with, and the data key that came with it, if one did.
func (l layout) credential(m exchange.Mailbox) (c credential.Credential, dataKey secret.Value, err error) {
	w := l.of(m)
	if w.split {
		key := make([]byte, config.KeySize)
		_, _ = rand.Read(key) // never fails
		dataKey = secret.New(key)
	}
	if w.auth.HasToken() {
		c, err = l.issue(m)
		return c, dataKey, err
	}
	return credential.Credential{
		AuthType: w.auth, Username: secret.FromString(m.Address()), Password: secret.FromString(m.Password()),
	}, dataKey, nil
}
