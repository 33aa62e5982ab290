package sns

import (
	"bytes"
	"errors"
	"net/http"
	"os"
	"regexp"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"github.com/ens-operator/ens-operator/runtime/push/internal/outbound"
)

const (
	// maxAttempts bounds the requests of one step of a push; what is still undelivered is tried again from the journal.
	maxAttempts = 4
	// renewBefore is how long before their end a role's credentials are renewed, so that none expires on its way.
	renewBefore = time.Minute
	// sessionName is what Amazon's logs call the sessions of a role.
	sessionName = "ens-runtime"
)

// accessKeyID is the form of an IAM user's access key id. One that begins with ASIA is of a session and would expire.
var accessKeyID = regexp.MustCompile(`^AKIA[A-Z0-9]{12,124}$`)

// secretAccessKey is the form of the secret half.
var secretAccessKey = regexp.MustCompile(`^[A-Za-z0-9/+=]{40,128}$`)

var (
	errAccessKeyID = errors.New("the access key id is not that of an IAM user: want 16 or more capital letters and digits " +
		"that begin with AKIA")
	errSecretAccessKey = errors.New("the secret access key is none: want 40 or more letters, digits, slashes and plus signs")
	errNoIdentityToken = errors.New("the web identity token cannot be read: the pod must have a token of its service account " +
		"where the configuration says")
)

// newCredentials returns what requests are signed with.
func newCredentials(o Options, region string, connection *http.Client) (aws.CredentialsProvider, error) {
	if o.Config.RoleARN != "" {
		client := sts.New(sts.Options{
			Region: region, BaseEndpoint: orNil(o.Config.STSURL), HTTPClient: connection, Retryer: newRetryer(o.Timeout),
		})
		role := stscreds.NewWebIdentityRoleProvider(client, o.Config.RoleARN, tokenFile(o.WebIdentityTokenFile),
			func(w *stscreds.WebIdentityRoleOptions) { w.RoleSessionName = sessionName })
		return aws.NewCredentialsCache(role, func(c *aws.CredentialsCacheOptions) { c.ExpiryWindow = renewBefore }), nil
	}
	id, key := bytes.TrimSpace(o.AccessKeyID.Reveal()), bytes.TrimSpace(o.SecretAccessKey.Reveal())
	switch {
	case !accessKeyID.Match(id):
		return nil, errAccessKeyID
	case !secretAccessKey.Match(key):
		return nil, errSecretAccessKey
	}
	return credentials.NewStaticCredentialsProvider(string(id), string(key), ""), nil
}

// tokenFile implements stscreds.IdentityTokenRetriever.
type tokenFile string

// GetIdentityToken implements stscreds.IdentityTokenRetriever.
func (f tokenFile) GetIdentityToken() ([]byte, error) {
	token, err := os.ReadFile(string(f))
	if err != nil || len(bytes.TrimSpace(token)) == 0 {
		return nil, errNoIdentityToken
	}
	return bytes.TrimSpace(token), nil
}

// retryer is the SDK's standard one, but heeds the Retry-After of what stands before Amazon's servers, and leaves it to
// the journal to come back where too much is asked.
type retryer struct {
	*retry.Standard
	// patience is how long a push may take.
	patience time.Duration
}

func newRetryer(timeout time.Duration) aws.RetryerV2 {
	return &retryer{
		Standard: retry.NewStandard(func(o *retry.StandardOptions) { o.MaxAttempts = maxAttempts }),
		patience: timeout,
	}
}

// IsErrorRetryable implements aws.Retryer. To wait for longer than the push may take is no use.
func (r *retryer) IsErrorRetryable(err error) bool {
	isThrottled := retry.IsErrorThrottles(retry.DefaultThrottles).IsErrorThrottle(err).Bool()
	return !isThrottled && !outbound.NeedsSomebody(err) && retryAfter(err) < r.patience && r.Standard.IsErrorRetryable(err)
}

// RetryDelay implements aws.Retryer.
func (r *retryer) RetryDelay(attempt int, err error) (time.Duration, error) {
	delay, failure := r.Standard.RetryDelay(attempt, err)
	return max(delay, retryAfter(err)), failure
}
