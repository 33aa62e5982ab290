package cnstest_test

import (
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/smallstep/pkcs7"

	"github.com/ens-operator/ens-operator/runtime/pfx"
	"github.com/ens-operator/ens-operator/runtime/push/cns/cnstest"
	"github.com/ens-operator/ens-operator/runtime/secret"
)

const (
	phone = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
	mail  = `{"platform":"iOS","deviceToken":"` + phone + `","appId":"com.example.mail","environment":"production",` +
		`"apns":{"pushType":"alert","priority":10,"expiration":0,"payload":{"aps":{"badge":1}}}}`
)

// vmware is a fake with a client for it.
type vmware struct {
	*cnstest.Server
	client      *http.Client
	certificate tls.Certificate
}

func start(t *testing.T) vmware {
	t.Helper()
	server := cnstest.Start(cnstest.Options{Calm: true, Logf: t.Logf})
	t.Cleanup(server.Close)
	server.AddDevice(phone)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: server.RootCAs()}}
	t.Cleanup(transport.CloseIdleConnections)
	return vmware{Server: server, client: &http.Client{Transport: transport}, certificate: issued(t, server.Authority(), time.Now().Add(time.Hour))}
}

func issued(t *testing.T, authority *cnstest.Authority, notAfter time.Time) tls.Certificate {
	t.Helper()
	opened, err := pfx.Open(authority.PFX("CN", "s3cret", notAfter), secret.FromString("s3cret"))
	if err != nil {
		t.Fatal(err)
	}
	return opened
}

// signed makes an Authorization field.
func signed(t *testing.T, path string, detach bool, digest []int, certificates ...tls.Certificate) string {
	t.Helper()
	data, err := pkcs7.NewSignedData([]byte(path))
	if err != nil {
		t.Fatal(err)
	}
	data.SetDigestAlgorithm(digest)
	for _, certificate := range certificates {
		if err := data.AddSigner(certificate.Leaf, certificate.PrivateKey, pkcs7.SignerInfoConfig{}); err != nil {
			t.Fatal(err)
		}
	}
	if detach {
		data.Detach()
	}
	der, err := data.Finish()
	if err != nil {
		t.Fatal(err)
	}
	return "CMSURL`1 " + base64.StdEncoding.EncodeToString(der)
}

// send returns the status and the answer.
func (v vmware) send(t *testing.T, authorization, body string) (int, map[string]any) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, v.URL(), strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Authorization", authorization)
	response, err := v.client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	content, _ := io.ReadAll(response.Body)
	var answer map[string]any
	if err := json.Unmarshal(content, &answer); err != nil {
		t.Errorf("the answer is no JSON: %v", err)
	}
	return response.StatusCode, answer
}

func TestASignatureIsChecked(t *testing.T) {
	t.Parallel()
	v := start(t)
	sha256, sha1 := pkcs7.OIDDigestAlgorithmSHA256, pkcs7.OIDDigestAlgorithmSHA1
	good := signed(t, cnstest.Path, true, sha256, v.certificate)
	forged := v.certificate
	forged.Leaf = issued(t, v.Authority(), time.Now().Add(time.Hour)).Leaf
	selfMade := issued(t, cnstest.NewAuthority(), time.Now().Add(time.Hour))
	tests := map[string]struct {
		header string
		isGood bool
	}{
		"a valid one":              {good, true},
		"over another path":        {signed(t, "/nws/notify/gcm", true, sha256, v.certificate), false},
		"with the path in it":      {signed(t, cnstest.Path, false, sha256, v.certificate), false},
		"with SHA-1":               {signed(t, cnstest.Path, true, sha1, v.certificate), false},
		"by two":                   {signed(t, cnstest.Path, true, sha256, v.certificate, v.certificate), false},
		"by nobody":                {signed(t, cnstest.Path, true, sha256), false},
		"by a stranger":            {signed(t, cnstest.Path, true, sha256, selfMade), false},
		"by an expired one":        {signed(t, cnstest.Path, true, sha256, issued(t, v.Authority(), time.Now().Add(-time.Minute))), false},
		"by another's certificate": {signed(t, cnstest.Path, true, sha256, forged), false},
		"of another scheme":        {strings.Replace(good, "CMSURL`1", "CMSURL'1", 1), false},
		"that is no base64":        {good + "!", false},
		"that is cut short":        {good[:len(good)/2], false},
		"none":                     {"", false},
		"a valid one once again":   {good, true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			status, answer := v.send(t, test.header, mail)
			if test.isGood && (status != http.StatusOK || answer["status"] != "success" || answer["errorReason"] != nil) {
				t.Errorf("answered %d %v, want success", status, answer)
			}
			if !test.isGood && (status != http.StatusUnauthorized || answer["code"] != 2007.0) {
				t.Errorf("answered %d %v, want 401 with code 2007", status, answer)
			}
		})
	}
}

func TestARequestIsChecked(t *testing.T) {
	t.Parallel()
	v := start(t)
	authorization := signed(t, cnstest.Path, true, pkcs7.OIDDigestAlgorithmSHA256, v.certificate)
	with := func(old, text string) string { return strings.Replace(mail, old, text, 1) }
	android := `{"platform":"Android","deviceToken":"` + phone + `","fcm":{"data":{"title":"x"}}}`
	tests := map[string]struct {
		body   string
		status int
		says   string
	}{
		"for an iPhone":              {mail, http.StatusOK, "success"},
		"for an Android phone":       {android, http.StatusOK, "success"},
		"for a phone without app":    {with(phone, strings.Repeat("ab", 32)), http.StatusOK, "failure"},
		"no JSON":                    {"{", http.StatusBadRequest, ""},
		"an unknown field":           {with(`"appId"`, `"app"`), http.StatusBadRequest, ""},
		"an unknown platform":        {with("iOS", "Windows"), http.StatusBadRequest, ""},
		"no environment":             {with(`"environment":"production",`, ""), http.StatusBadRequest, ""},
		"no payload for Apple":       {strings.Replace(android, "Android", "iOS", 1), http.StatusBadRequest, ""},
		"what Apple refuses":         {with(`{"badge":1}`, "{}"), http.StatusBadRequest, ""},
		"what Google refuses":        {strings.Replace(android, `"title":"x"`, `"google.x":"y"`, 1), http.StatusBadRequest, ""},
		"a very large body":          {with(`{"badge":1}`, `{"badge":1,"x":"`+strings.Repeat("x", 70_000)+`"}`), http.StatusRequestEntityTooLarge, ""},
		"for an iPhone, once again":  {mail, http.StatusOK, "success"},
		"without a token":            {with(phone, ""), http.StatusBadRequest, ""},
		"a badge that is not shown":  {with(`"pushType":"alert"`, `"pushType":"background"`), http.StatusBadRequest, ""},
		"an Android with Apple's":    {with("iOS", "Android"), http.StatusBadRequest, ""},
		"two documents in one":       {mail + mail, http.StatusBadRequest, ""},
		"an Android's environment":   {strings.Replace(android, `"fcm"`, `"environment":"production","fcm"`, 1), http.StatusBadRequest, ""},
		"an environment that is not": {with("production", "development"), http.StatusBadRequest, ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			status, answer := v.send(t, authorization, test.body)
			if status != test.status || test.says != "" && answer["status"] != test.says {
				t.Errorf("answered %d %v, want %d %s", status, answer, test.status, test.says)
			}
		})
	}
}
