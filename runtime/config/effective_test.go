package config_test

import (
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/ens-operator/ens-operator/runtime/config"
)

func TestEffectiveFillsInWhatIsNotSet(t *testing.T) {
	t.Parallel()
	c := sample().Effective()
	facts := map[string]struct{ got, want any }{
		"the admin listener is on loopback":       {c.Server.Admin, "127.0.0.1:8081"},
		"the drain delay is 10 s":                 {c.Server.DrainDelay(), 10 * time.Second},
		"without Effective it is 10 s as well":    {config.Server{}.DrainDelay(), 10 * time.Second},
		"both base paths of the original":         {c.Server.BasePaths, []string{"/MailNotificationService/api/ens", "/api/ens"}},
		"the heartbeat of the original":           {c.Notifications.StatusFrequency(), 15 * time.Minute},
		"a mailbox has to be proved":              {c.MailboxProof, config.ProofRequired},
		"everything may be shown":                 {c.Notifications.PolicyCeiling, int32(0)},
		"loopback stays closed":                   {c.AllowLoopback, false},
		"the lease of the protocol":               {c.Callback.Lease(), 90 * time.Second},
		"20 devices a user":                       {c.Limits.MaxDevicesPerUser, int32(20)},
		"Basic authentication":                    {c.Endpoints[0].AuthenticationMethods, []config.AuthenticationMethod{config.AuthBasic}},
		"requests to Exchange are bounded":        {c.Endpoints[0].Timeout(), 30 * time.Second},
		"pushes are bounded":                      {c.PushProviders[0].Timeout(), 20 * time.Second},
		"the user agent of the original":          {c.Endpoints[1].UserAgent, "MailNotificationService/v2 (ExchangeServicesClient/15.00.0913.015)"},
		"the environment type":                    {c.Server.EnvironmentType, "OnPrem"},
		"500 key pairs in advance":                {c.KeyPool.Size, int32(500)},
		"more below 250":                          {c.KeyPool.RefillBelow, int32(250)},
		"looked after every minute":               {c.KeyPool.RefillIntervalSeconds, int32(60)},
		"an unchanged count is not sent":          {c.Notifications.UnchangedBadges, config.UnchangedSuppress},
		"the log is JSON, without what is detail": {c.Logging, config.Logging{Format: config.LogJSON, Level: config.LogInfo}},
	}
	for name, fact := range facts {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if !reflect.DeepEqual(fact.got, fact.want) {
				t.Errorf("got %v, want %v", fact.got, fact.want)
			}
		})
	}
}

func TestEffectiveKeepsWhatIsSet(t *testing.T) {
	t.Parallel()
	c := sample()
	c.Server.DrainDelaySeconds = new(int32(0))
	c.Server.BasePaths = []string{"/zebra", "/api/ens"}
	c.Notifications.StatusFrequencyMinutes = 5
	c.MailboxProof = config.ProofFirstUse
	c.Endpoints[0].TimeoutSeconds = 7
	got := c.Effective()
	if got.Server.DrainDelay() != 0 || got.Notifications.StatusFrequency() != 5*time.Minute ||
		got.MailboxProof != config.ProofFirstUse || got.Endpoints[0].Timeout() != 7*time.Second {
		t.Errorf("a value was replaced: %+v", got)
	}
	if want := []string{"/MailNotificationService/api/ens", "/api/ens", "/zebra"}; !slices.Equal(got.Server.BasePaths, want) {
		t.Errorf("got base paths %q, want %q", got.Server.BasePaths, want)
	}
}

func TestEffectiveChangesNothingTwiceAndNotItsOrigin(t *testing.T) {
	t.Parallel()
	c := sample()
	c.Server.BasePaths = []string{"/zebra", "/ant"}
	once := c.Effective()
	if twice := once.Effective(); !reflect.DeepEqual(once, twice) {
		t.Errorf("once %+v, twice %+v", once, twice)
	}
	want := sample()
	want.Server.BasePaths = []string{"/zebra", "/ant"}
	if !reflect.DeepEqual(c, want) {
		t.Errorf("the origin became %+v", c)
	}
}
