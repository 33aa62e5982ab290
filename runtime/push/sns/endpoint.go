package sns

import (
	"context"
	"crypto/sha256"
	"errors"
	"regexp"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/aws-sdk-go-v2/service/sns/types"
	"k8s.io/utils/clock"
	"k8s.io/utils/lru"

	"github.com/ens-operator/ens-operator/runtime/config"
)

// maxKnown bounds the endpoints that are kept in mind: those of a large tenant's 100,000 phones, and of tokens that they had
// before. At some 300 bytes each they take 45 MB at most. An endpoint that was driven out is asked for again.
const maxKnown = 150_000

// endpoints knows the platform endpoints of devices.
//
// Their ARNs are not stored: CreatePlatformEndpoint returns the one that exists for a token, so asking again after a
// start costs one request per device, and what is in mind can neither outlive the device's token nor differ from what
// an administrator has done at Amazon.
//
// An endpoint may be disabled for two reasons, which look the same: its token died just now, or it died before and
// has come back with a new registration of the device. They are told apart by whether the endpoint has accepted a push
// of this process since the device registered: then it died since, else it is enabled and used (AWS, "Setting up an
// Amazon SNS platform endpoint").
type endpoints struct {
	client      *sns.Client
	application string
	// prefix is how the ARNs of the application's endpoints begin.
	prefix string
	clock  clock.PassiveClock
	// known holds endpoint by the SHA-256 of the token.
	known *lru.Cache
}

// endpoint is a device's.
type endpoint struct {
	arn string
	// lastAccepted is when it last accepted a push here, zero if it has not yet.
	lastAccepted time.Time
}

// diedSince says of an endpoint that is disabled whether its token has died since the device registered. However many
// pushes meet it, it stays dead until the device registers again.
func (e endpoint) diedSince(registered time.Time) bool {
	return !e.lastAccepted.IsZero() && !registered.After(e.lastAccepted)
}

func newEndpoints(client *sns.Client, arn string, application config.PlatformApplication, c clock.PassiveClock) *endpoints {
	return &endpoints{client: client, application: arn, prefix: application.EndpointPrefix(), clock: c, known: lru.New(maxKnown)}
}

// find returns the token's endpoint, which is made if there is none.
func (e *endpoints) find(ctx context.Context, token string) (endpoint, error) {
	key := sha256.Sum256([]byte(token))
	if found, ok := e.known.Get(key); ok {
		return found.(endpoint), nil
	}
	output, err := e.client.CreatePlatformEndpoint(ctx, &sns.CreatePlatformEndpointInput{PlatformApplicationArn: &e.application, Token: &token})
	var arn string
	if err != nil {
		if arn = e.existing(err); arn == "" {
			return endpoint{}, err
		}
	} else if output.EndpointArn != nil {
		arn = *output.EndpointArn
	}
	if !strings.HasPrefix(arn, e.prefix) {
		return endpoint{}, errForeignEndpoint
	}
	made := endpoint{arn: arn}
	e.known.Add(key, made)
	return made, nil
}

var errForeignEndpoint = errors.New("the answer names no endpoint of the platform application")

// alreadyExists is how Amazon says that the token has an endpoint with other attributes than were asked for; a disabled
// one and one with user data have such. Its ARN stands nowhere else.
var alreadyExists = regexp.MustCompile(`Endpoint (arn:aws[a-z-]*:sns:\S+) already exists with the same [Tt]oken`)

// existing returns the ARN that such an error names, or nothing.
func (e *endpoints) existing(err error) string {
	refused, ok := errors.AsType[*types.InvalidParameterException](err)
	if !ok {
		return ""
	}
	if parts := alreadyExists.FindStringSubmatch(refused.ErrorMessage()); parts != nil {
		return parts[1]
	}
	return ""
}

// accepted notes that an endpoint accepted a push.
func (e *endpoints) accepted(token string, used endpoint) {
	used.lastAccepted = e.clock.Now()
	e.known.Add(sha256.Sum256([]byte(token)), used)
}

// forget lets the endpoint be asked for again.
func (e *endpoints) forget(token string) { e.known.Remove(sha256.Sum256([]byte(token))) }

// enable brings an endpoint back that Amazon has disabled.
func (e *endpoints) enable(ctx context.Context, token string, target endpoint) error {
	_, err := e.client.SetEndpointAttributes(ctx, &sns.SetEndpointAttributesInput{
		EndpointArn: &target.arn, Attributes: map[string]string{"Enabled": "true", "Token": token},
	})
	return err
}
