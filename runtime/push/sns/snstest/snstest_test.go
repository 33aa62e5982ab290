package snstest_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/xml"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/ens-operator/ens-operator/runtime/push/sns/snstest"
)

var now = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

// amazon is a fake with a client for it.
type amazon struct {
	*snstest.Server
	client *http.Client
	key    snstest.AccessKey
	app    string
}

func start(t *testing.T, platform string) amazon {
	t.Helper()
	server := snstest.Start(snstest.Options{Calm: true, Clock: clocktesting.NewFakePassiveClock(now), Logf: t.Logf})
	t.Cleanup(server.Close)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: server.RootCAs()}}
	t.Cleanup(transport.CloseIdleConnections)
	return amazon{
		Server: server, client: &http.Client{Transport: transport}, key: server.AccessKey(), app: server.AddApplication(platform, "mail"),
	}
}

// form is a request with the API's version.
func form(pairs ...string) url.Values {
	values := url.Values{"Version": {"2010-03-31"}}
	for i := 0; i < len(pairs); i += 2 {
		values.Set(pairs[i], pairs[i+1])
	}
	return values
}

// signed makes a request with Amazon's own signer, as of a moment and for a region.
func (a amazon) signed(t *testing.T, values url.Values, region string, at time.Time) *http.Request {
	t.Helper()
	body := values.Encode()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, a.URL()+"/", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
	digest := sha256.Sum256([]byte(body))
	err = v4.NewSigner().SignHTTP(context.Background(), aws.Credentials{AccessKeyID: a.key.ID, SecretAccessKey: a.key.Secret},
		request, hex.EncodeToString(digest[:]), "sns", region, at)
	if err != nil {
		t.Fatal(err)
	}
	return request
}

// send returns the status, the code of an error, and the ARN of an endpoint.
func (a amazon) send(t *testing.T, request *http.Request) (int, string, string) {
	t.Helper()
	response, err := a.client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, _ := io.ReadAll(response.Body)
	var answer struct {
		Code string `xml:"Error>Code"`
		ARN  string `xml:"CreatePlatformEndpointResult>EndpointArn"`
	}
	if err := xml.Unmarshal(body, &answer); err != nil {
		t.Errorf("the answer is no XML: %v", err)
	}
	return response.StatusCode, answer.Code, answer.ARN
}

const token = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

func TestASignatureIsChecked(t *testing.T) {
	t.Parallel()
	a := start(t, snstest.APNs)
	create := form("Action", "CreatePlatformEndpoint", "PlatformApplicationArn", a.app, "Token", token)
	other := a
	other.key = snstest.NewAccessKey()
	stolen := a
	stolen.key.Secret = other.key.Secret
	tests := map[string]struct {
		from   amazon
		region string
		at     time.Time
		change func(*http.Request)
		code   string
	}{
		"a valid one":           {a, snstest.Region, now, nil, ""},
		"a little late":         {a, snstest.Region, now.Add(-4 * time.Minute), nil, ""},
		"too old":               {a, snstest.Region, now.Add(-6 * time.Minute), nil, "RequestExpired"},
		"from the future":       {a, snstest.Region, now.Add(6 * time.Minute), nil, "RequestExpired"},
		"another region":        {a, "us-east-1", now, nil, "SignatureDoesNotMatch"},
		"an unknown key":        {other, snstest.Region, now, nil, "InvalidClientTokenId"},
		"another secret":        {stolen, snstest.Region, now, nil, "SignatureDoesNotMatch"},
		"none":                  {a, snstest.Region, now, func(r *http.Request) { r.Header.Del("Authorization") }, "MissingAuthenticationToken"},
		"a bearer":              {a, snstest.Region, now, func(r *http.Request) { r.Header.Set("Authorization", "Bearer x") }, "IncompleteSignature"},
		"another body":          {a, snstest.Region, now, swap(create, "Token", strings.Repeat("ab", 32)), "SignatureDoesNotMatch"},
		"another type":          {a, snstest.Region, now, func(r *http.Request) { r.Header.Set("Content-Type", "application/x-www-form-urlencoded") }, "SignatureDoesNotMatch"},
		"an unsigned field":     {a, snstest.Region, now, func(r *http.Request) { r.Header.Set("X-Amz-Target", "x") }, "SignatureDoesNotMatch"},
		"a session of somebody": {a, snstest.Region, now, func(r *http.Request) { r.Header.Set("X-Amz-Security-Token", "x") }, "InvalidClientTokenId"},
		"another date":          {a, snstest.Region, now, func(r *http.Request) { r.Header.Set("X-Amz-Date", "20261120T120001Z") }, "SignatureDoesNotMatch"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			request := test.from.signed(t, create, test.region, test.at)
			if test.change != nil {
				test.change(request)
			}
			status, code, _ := a.send(t, request)
			if code != test.code || (status == http.StatusOK) != (code == "") {
				t.Errorf("answered %d %s, want %q", status, code, test.code)
			}
		})
	}
}

// swap changes a value of the same length in the body after it was signed.
func swap(values url.Values, name, value string) func(*http.Request) {
	return func(r *http.Request) {
		changed := url.Values{}
		for known := range values {
			changed.Set(known, values.Get(known))
		}
		changed.Set(name, value)
		r.Body = io.NopCloser(bytes.NewBufferString(changed.Encode()))
	}
}

func TestAPublicationIsChecked(t *testing.T) {
	t.Parallel()
	a := start(t, snstest.APNs)
	send := func(t *testing.T, values url.Values) (int, string, string) {
		t.Helper()
		return a.send(t, a.signed(t, values, snstest.Region, now))
	}
	_, _, arn := send(t, form("Action", "CreatePlatformEndpoint", "PlatformApplicationArn", a.app, "Token", token))
	attribute := func(n, name, value string) []string {
		return []string{
			"MessageAttributes.entry." + n + ".Name", name, "MessageAttributes.entry." + n + ".Value.DataType", "String",
			"MessageAttributes.entry." + n + ".Value.StringValue", value,
		}
	}
	publish := func(message string, more ...string) url.Values {
		pairs := append([]string{"Action", "Publish", "TargetArn", arn, "Message", message, "MessageStructure", "json"}, more...)
		pairs = append(pairs, attribute("1", "AWS.SNS.MOBILE.APNS.PUSH_TYPE", "alert")...)
		return form(pairs...)
	}
	const good = `{"default":"x","APNS":"{\"aps\":{\"badge\":1}}"}`
	tests := map[string]struct {
		values url.Values
		code   string
	}{
		"a valid one":                  {publish(good), ""},
		"no JSON":                      {publish("x"), "InvalidParameter"},
		"no message":                   {publish(""), "InvalidParameter"},
		"no default":                   {publish(`{"APNS":"{}"}`), "InvalidParameter"},
		"another platform's":           {publish(`{"default":"x","GCM":"{}"}`), "InvalidParameter"},
		"an object instead of a text":  {publish(`{"default":"x","APNS":{"aps":{"badge":1}}}`), "InvalidParameter"},
		"a payload that Apple refuses": {publish(`{"default":"x","APNS":"{\"aps\":{}}"}`), "InvalidParameter"},
		"a large payload":              {publish(`{"default":"x","APNS":"{\"aps\":{\"badge\":1},\"x\":\"` + strings.Repeat("x", 4096) + `\"}"}`), "InvalidParameter"},
		"a very large message":         {publish(`{"default":"` + strings.Repeat("x", 256<<10) + `"}`), "InvalidParameter"},
		"another structure":            {publish(good, "MessageStructure", "xml"), "InvalidParameter"},
		"a topic too":                  {publish(good, "TopicArn", "arn:aws:sns:x"), "InvalidParameter"},
		"an unknown endpoint":          {publish(good, "TargetArn", arn+"0"), "NotFound"},
		"a misspelled attribute":       {publish(good, attribute("2", "AWS.SNS.MOBILE.APNS.PUSHTYPE", "alert")...), "ParameterValueInvalid"},
		"the sandbox's time to live":   {publish(good, attribute("2", "AWS.SNS.MOBILE.APNS_SANDBOX.TTL", "1")...), "ParameterValueInvalid"},
		"a negative time to live":      {publish(good, attribute("2", "AWS.SNS.MOBILE.APNS.TTL", "-1")...), "ParameterValueInvalid"},
		"another action":               {form("Action", "DeleteTopic"), "InvalidAction"},
		"another version":              {form("Action", "Publish", "Version", "2009-01-01"), "InvalidAction"},
		"a token that is none":         {form("Action", "CreatePlatformEndpoint", "PlatformApplicationArn", a.app, "Token", "xyz"), "InvalidParameter"},
		"an application that is none":  {form("Action", "CreatePlatformEndpoint", "PlatformApplicationArn", a.app+"x", "Token", token), "NotFound"},
		"a valid one once again":       {publish(good), ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			status, code, _ := send(t, test.values)
			if code != test.code || (status == http.StatusOK) != (code == "") {
				t.Errorf("answered %d %s, want %q", status, code, test.code)
			}
		})
	}
}
