package segtest_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/ens-operator/ens-operator/runtime/ews/ewstest"
	"github.com/ens-operator/ens-operator/runtime/ews/segtest"
)

const (
	alice    = "alice@example.com"
	password = "alice's"
	phone    = "6C30D0304E7A4EE795494DEB0F465B72"
	tablet   = "A1B2C3D4E5F60718293A4B5C6D7E8F90"
)

const getInbox = `<soap:Envelope xmlns:soap="http://schemas.xmlsoap.org/soap/envelope/"` +
	` xmlns:m="http://schemas.microsoft.com/exchange/services/2006/messages" xmlns:t="http://schemas.microsoft.com/exchange/services/2006/types">` +
	`<soap:Body><m:GetFolder><m:FolderShape><t:BaseShape>IdOnly</t:BaseShape></m:FolderShape>` +
	`<m:FolderIds><t:DistinguishedFolderId Id="inbox"/></m:FolderIds></m:GetFolder></soap:Body></soap:Envelope>`

var basic = "Basic " + base64.StdEncoding.EncodeToString([]byte(alice+":"+password))

func start(t *testing.T, options segtest.Options) (*segtest.Server, *ewstest.Server) {
	t.Helper()
	exchange := ewstest.StartT(t, ewstest.Options{TrustedProxy: "kerberos"})
	exchange.AddMailbox(ewstest.Mailbox{Address: alice, Password: password})
	options.Exchange, options.TrustedProxy = exchange, "kerberos"
	gateway := segtest.StartT(t, options)
	gateway.SetCompliant(phone, true)
	gateway.SetCompliant(tablet, false)
	return gateway, exchange
}

// ask asks for the Inbox at a path, with headers, and returns what the answer says before its content.
func ask(t *testing.T, gateway *segtest.Server, path string, headers map[string]string) (status int, answer http.Header) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	url := strings.TrimSuffix(gateway.URL(), ewstest.Path) + path
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(getInbox))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "text/xml; charset=utf-8")
	for name, value := range headers {
		request.Header.Set(name, value)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(gateway.CertificatePEM())
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}
	t.Cleanup(transport.CloseIdleConnections)
	response, err := transport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	return response.StatusCode, response.Header
}

func TestCallsPassOrNot(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		path                   string
		device, devices, login string
		extra                  map[string]string
		status                 int
		forwarded              bool
	}{
		"for a compliant device":            {device: phone, devices: phone, status: 200, forwarded: true},
		"for a device in other letters":     {device: strings.ToLower(phone), devices: strings.ToLower(phone), status: 200, forwarded: true},
		"for two, of which one is":          {device: tablet, devices: tablet + "," + phone, status: 200, forwarded: true},
		"below the other context":           {path: "/ews/Exchange.asmx", device: phone, devices: phone, status: 200, forwarded: true},
		"for one that is not compliant":     {device: tablet, devices: tablet, status: 403},
		"for one that is unknown":           {device: "X", devices: "X", status: 400},
		"for nobody":                        {status: 400},
		"without the device":                {devices: phone, status: 400},
		"without the list":                  {device: phone, status: 400},
		"for a device that is not the list": {device: phone, devices: tablet + "," + phone, status: 400},
		"for a device twice":                {device: phone, devices: phone + "," + strings.ToLower(phone), status: 400},
		"with blanks in the list":           {device: phone, devices: phone + ", " + tablet, status: 400},
		"for something that is not EWS":     {path: "/owa/", device: phone, devices: phone, status: 404},
		"with a wrong password":             {device: phone, devices: phone, login: "Basic " + base64.StdEncoding.EncodeToString([]byte(alice+":x")), status: 401, forwarded: true},
		"by NTLM":                           {device: phone, devices: phone, login: "NTLM TlRMTVNTUAABAAAA", status: 401},
		"by a trust that is the gateway's own": {
			device: phone, devices: phone, login: "-", status: 401, forwarded: true,
			extra: map[string]string{ewstest.TrustedLoginHeader: "kerberos " + alice},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			gateway, exchange := start(t, segtest.Options{})
			headers := map[string]string{"Authorization": basic}
			if c.login != "" {
				headers["Authorization"] = c.login
			}
			if c.login == "-" {
				delete(headers, "Authorization")
			}
			if c.device != "" {
				headers[segtest.DeviceIDHeader] = c.device
			}
			if c.devices != "" {
				headers[segtest.DevicesHeader] = c.devices
			}
			maps.Copy(headers, c.extra)
			path := ewstest.Path
			if c.path != "" {
				path = c.path
			}
			status, answer := ask(t, gateway, path, headers)
			if status != c.status {
				t.Errorf("status %d, want %d", status, c.status)
			}
			transaction := answer.Get(segtest.TransactionHeader)
			requests := gateway.Requests()
			if uuid.Validate(transaction) != nil || len(requests) != 1 || requests[0].Transaction != transaction || requests[0].Status != c.status {
				t.Errorf("transaction %q, recorded %+v", transaction, requests)
			}
			for _, challenge := range answer.Values("WWW-Authenticate") {
				if !strings.HasPrefix(challenge, "Basic ") {
					t.Errorf("the challenge %q", challenge)
				}
			}
			if reached := len(exchange.Requests()) > 0; reached != c.forwarded || requests[0].Forwarded != c.forwarded {
				t.Errorf("Exchange was reached: %v, recorded %+v", reached, requests)
			}
		})
	}
}

func TestAGatewayMayHaveNoPoliciesOrNoProxy(t *testing.T) {
	t.Parallel()
	gateway, _ := start(t, segtest.Options{})
	headers := map[string]string{"Authorization": basic, segtest.DeviceIDHeader: phone, segtest.DevicesHeader: phone}
	want := func(status int) {
		t.Helper()
		if got, _ := ask(t, gateway, ewstest.Path, headers); got != status {
			t.Errorf("status %d, want %d", got, status)
		}
	}
	gateway.SetPolicyLoaded(false)
	want(http.StatusNoContent)
	gateway.SetPolicyLoaded(true)
	gateway.SetProxyEnabled(false)
	want(http.StatusNotFound)
	gateway.SetProxyEnabled(true)
	want(http.StatusOK)
	gateway.Forget(phone)
	want(http.StatusBadRequest)
}

func TestAnswersMayNameTheDevices(t *testing.T) {
	t.Parallel()
	gateway, _ := start(t, segtest.Options{NameDevices: true, Calm: true, DeviceIDHeader: "X-Device", DevicesHeader: "X-Devices"})
	_, answer := ask(t, gateway, ewstest.Path, map[string]string{"Authorization": basic, "X-Device": phone, "X-Devices": phone + "," + tablet + ",X"})
	if got := answer.Get("X-Devices"); got != phone+":200,"+tablet+":403,X:400" {
		t.Errorf("the answer says %q", got)
	}
}

func TestExchangeMayGetAnotherCertificate(t *testing.T) {
	t.Parallel()
	gateway, exchange := start(t, segtest.Options{})
	headers := map[string]string{"Authorization": basic, segtest.DeviceIDHeader: phone, segtest.DevicesHeader: phone}
	if _, err := exchange.NextCertificate(); err != nil {
		t.Fatal(err)
	}
	exchange.UseNextCertificate()
	if status, _ := ask(t, gateway, ewstest.Path, headers); status != http.StatusOK {
		t.Errorf("status %d, want %d", status, http.StatusOK)
	}
}

func TestAGatewayNeedsSomethingBehindIt(t *testing.T) {
	t.Parallel()
	if _, err := segtest.Start(segtest.Options{}); err == nil {
		t.Error("it was started")
	}
}
