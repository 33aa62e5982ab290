package server_test

import (
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/ens-operator/ens-operator/hack/runtimetest"
	"github.com/ens-operator/ens-operator/runtime/config"
	"github.com/ens-operator/ens-operator/runtime/ews/ewstest"
	"github.com/ens-operator/ens-operator/runtime/push"
)

// ens2 logs in the original's layout, everything.
func ens2(c *config.Config) {
	c.Logging = config.Logging{Format: config.LogENS2, Level: config.LogDebug}
}

// ens2Line is the original's layout (L-01): the activity id, level, logger and message are found in it.
var ens2Line = regexp.MustCompile(`^20\d\d/\d\d/\d\d \d\d:\d\d:\d\d\.\d{3}\t[^\t]+\t([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})\t\[0000000-0000000\]\t\(\d+\)\t(Debug|Info|Warn|Error)\t([A-Za-z0-9.]+)\t(User Id:\[.*)$`)

// logLine is one line of the original's layout.
type logLine struct{ activity, level, logger, message string }

func (l logLine) String() string { return l.level + " " + l.logger + " " + l.message }

// parseENS2 splits a log, and fails the test where a line has not the layout.
func parseENS2(t *testing.T, log string) (lines []logLine) {
	t.Helper()
	for text := range strings.Lines(log) {
		match := ens2Line.FindStringSubmatch(strings.TrimSuffix(text, "\n"))
		if match == nil {
			t.Fatalf("a line has not the layout: %q", text)
		}
		lines = append(lines, logLine{match[1], match[2], match[3], match[4]})
	}
	return lines
}

// row is a row of the catalogue as it must be found: level, logger and message, in which {u} is the user and {s} a
// subscription id.
type row struct{ level, logger, message string }

const (
	controller = "MailNotificationService.Controllers.EnsController."
	business   = "MailNotificationService.BusinessImpl."
)

// pattern is what a row's line looks like. Messages begin with the user.
func (r row) pattern(user string) *regexp.Regexp {
	message := strings.NewReplacer(`\{u\}`, user, `\{s\}`, `[A-Za-z0-9+/=]+`, `\{n\}`, `\d+`, `\{url\}`, `https://[^\]?]+`, `\{\*\}`, `[^\]]*`).
		Replace(regexp.QuoteMeta(r.message))
	return regexp.MustCompile(`^` + r.level + ` ` + regexp.QuoteMeta(r.logger) + ` User Id:\[` + user + `\]  ` + message + `$`)
}

// together returns the activity id under which all rows are logged in this order, empty if there is none, and the row that
// came last under the id that got furthest.
func together(rows []row, lines []logLine, user string) (activity string, missing row) {
	reached, furthest := map[string]int{}, 0
	for _, line := range lines {
		n := reached[line.activity]
		if n < len(rows) && rows[n].pattern(user).MatchString(line.String()) {
			reached[line.activity]++
			furthest = max(furthest, n+1)
		}
		if reached[line.activity] == len(rows) {
			return line.activity, row{}
		}
	}
	return "", rows[furthest]
}

func join(lines []logLine) string {
	var b strings.Builder
	for _, line := range lines {
		fmt.Fprintln(&b, line.activity, line)
	}
	return b.String()
}

// awaitLines waits until all these lines have been logged.
func awaitLines(t *testing.T, logs *buffer, wanted ...string) {
	t.Helper()
	runtimetest.Eventually(t, func() string {
		lines := parseENS2(t, logs.String())
		for _, text := range wanted {
			if !slices.ContainsFunc(lines, func(l logLine) bool { return l.String() == text }) {
				return fmt.Sprintf("the log has no line\n%s\nin\n%s", text, join(lines))
			}
		}
		return ""
	})
}

// leg is a part of a journey and the rows that it logs, in this order, all with one activity id.
type leg struct {
	name string
	do   func(t *testing.T)
	rows []row
}

// The rows are those of the section "Log catalogue" of the requirements.
var (
	askForKey = []row{
		{"Debug", controller + "GetPublicKey", "Processing Get Public key request for Userid[{u}]"},
		{"Debug", business + "GetPublicKeyBusiness.ProcessGetPublicKeyRequestAsync", "Key generated for user id [{u}]"},
		{"Debug", controller + "GetPublicKey", "Get Public Key request processed. HttpStatusCode:[OK] ResponseCode:[UpdateSuccess]"},
	}
	register = []row{
		{"Debug", controller + "RegisterDeviceV2", "Processing register device request for Userid[{u}]"},
		{"Debug", business + "RegisterDeviceBusiness.ProcessRegisterDeviceRequestAsyncV2", "Exchange version sent by boxer [2]"},
		{"Debug", business + "RegisterDeviceBusiness.ProcessRegisterDeviceRequestAsyncV2", "ForceSubscription : [True]"},
		{"Debug", business + "ExchangeServiceBusiness.GetExchangeServiceAsync", "Using client ewsurl, mailServerUrlMatched : False, deletedEWSUrl: False"},
		{"Debug", business + "ExchangeRetriesHandler.SubscribeForNotificationsAsync", "EWSUrl used to subscribe: [{url}]"},
		{"Debug", business + "ExchangeRetriesHandler.SubscribeForNotificationsAsync", "User subscribing with [Basic Auth]"},
		{"Info", business + "ExchangeRetriesHandler.SubscribeForNotificationsAsync", "User [{u}] subscribed with subscriptionId [{s}]"},
		{"Debug", controller + "RegisterDeviceV2", "Register device request processed. HttpStatusCode:[OK] ResponseCode:[UserSubscribed]"},
	}
	statusEvent = []row{
		{"Debug", business + "ExchangeNotificationParser.ScanEventNotificationAsync", "Received [StatusEvent] for subscription: [{s}]"},
		{"Debug", business + "PushNotificationBusiness.HandleExchangeEvents", "Status event received for user: [{u}]"},
	}
	newMail = []row{
		{"Debug", business + "ExchangeNotificationParser.ScanEventNotificationAsync", "Received [CreatedEvent] for subscription: [{s}]"},
		{"Debug", business + "SyncEmailExchangeBusiness.SyncEmailV2", "EWSUrl used to sync email: [{url}]"},
		{"Debug", business + "SyncEmailExchangeBusiness.SyncEmailV2", "Fetched email"},
		{"Info", business + "PushNotificationBusiness.HandleNewMailEvent", "Received new mail event for user [{u}] with BADGE count [1]"},
		{"Info", business + "NotificationsProcessor.AddNotificationToBatch", "About to Post Notification for user : [{u}] and Device Id : [{n}]"},
		{"Info", business + "CNSHelper.ComposeAPNSPushNotification", "Total unread count retrieved [1] for user [{u}]"},
		{"Debug", business + "CNSHelper.ComposeAPNSPushNotification", "Sending to :: User : [{u}], DeviceId : [{n}], DeviceLogId : [61F9BB13-863C-444C-A300-4F888383ACDD-534-0000000CE599EDE0], Message :  messageId: [{s}]"},
	}
	badge = []row{
		{"Debug", business + "ExchangeNotificationParser.ScanEventNotificationAsync", "Received [ModifiedEvent] for subscription: [{s}]"},
		{"Info", business + "PushNotificationBusiness.HandleMoveModifiedEventAsync", "-BADGE UPDATE- [0] previous BADGE count is [1] Received modified event for user [{u}]"},
		{"Info", business + "NotificationsProcessor.AddNotificationToBatch", "About to Post Notification for user : [{u}] and Device Id : [{n}]"},
		{"Info", business + "CNSHelper.ComposeAPNSPushNotification", "Total unread count retrieved [0] for user [{u}]"},
		{"Debug", business + "CNSHelper.ComposeAPNSPushNotification", "Sending to :: User : [{u}], DeviceId : [{n}], DeviceLogId : [{*}], Message :  messageId: []"},
	}
	countless = []row{
		{"Debug", business + "ExchangeNotificationParser.ScanEventNotificationAsync", "Received [ModifiedEvent] for subscription: [{s}]"},
		{"Debug", business + "UnreadCountExchangeBusiness.GetUnReadCountV2", "EWSUrl used to get unread count: [{url}]"},
		{"Info", business + "PushNotificationBusiness.HandleMoveModifiedEventAsync", "-BADGE UPDATE- [0] previous BADGE count is [0] Received modified event for user [{u}]"},
	}
	outdated = []row{
		{"Info", business + "ExchangeNotificationParser.ScanEventNotificationAsync", "This {s} is old subscription for user {u}, sending unsubscribe response"},
		{"Debug", business + "ExchangeNotificationParser.ScanEventNotificationAsync", "Sent Unsubscribe response to EWS successfully for subscriptionId: [{s}]"},
		{"Debug", business + "PushNotificationBusiness.ProcessPushNotificationV2Async", "ProcessNotificationResponse.IsUnSubscribeResponse is true"},
	}
	wrongToken = []row{
		{"Warn", business + "ApiKeyRepository.ValidateAsync", "ApiKey header present [True], Value Empty/Null: [False] API key dictionary has keys:[True] Key: [12341:fasdf]"},
		{"Debug", controller + "Unregister", "user Id [{u}] API token : [12341*********fasdf]"},
		{"Warn", controller + "Unregister", "Error Code:'23' Error message: 'UnAuthorizedRequest'"},
	}
	unregisterRows = []row{
		{"Debug", controller + "Unregister", "Processing Unregister request. UserId:[{u}]"},
		{"Debug", business + "UnregisterBusiness.ProcessUnregisterRequestAsync", "Device Unregistered for user:[{u}]"},
		{"Debug", controller + "Unregister", "Unregister request processed. HttpStatusCode:[OK] ResponseCode:[DeviceUnregisteredUserUnsubscribed]"},
	}
)

func TestAJourneyIsLoggedAsTheOriginalLoggedIt(t *testing.T) {
	t.Parallel()
	logs := &buffer{}
	x := runtimetest.New(t, runtimetest.Options{LogTo: logs, Configure: ens2, Exchange: ewstest.Options{Calm: true}})
	x.Start(t)
	ctx := runtimetest.Context(t)
	phone := x.Phone(alice, push.IOS)
	phone.Extra = map[string]any{"deviceLogId": "61F9BB13-863C-444C-A300-4F888383ACDD-534-0000000CE599EDE0", "forceSubscription": true}
	var first ewstest.Subscription
	var item string
	badgeIs := func(t *testing.T, want int) {
		runtimetest.Eventually(t, func() string {
			if got := x.APNs.Screen(phone.DeviceToken).Badge; got != want {
				return fmt.Sprintf("the badge is %d", got)
			}
			return ""
		})
	}
	legs := []leg{
		{"getpublickey", func(t *testing.T) {
			if answer, err := phone.PublicKey(ctx); err != nil || answer.Code != 3 {
				t.Fatalf("answered %d: %v", answer.Code, err)
			}
		}, askForKey},
		{"register", func(t *testing.T) {
			if answer, err := phone.Register(ctx); err != nil || answer.Code != 7 {
				t.Fatalf("answered %d: %v", answer.Code, err)
			}
			heard(t, x, "OK")
			first = x.Exchange.Subscriptions()[0]
		}, register},
		{"status event", func(*testing.T) { x.Exchange.Heartbeat(alice) }, statusEvent},
		{"new mail with badge", func(t *testing.T) {
			item = deliver(t, x, lunch)
			badgeIs(t, 1)
		}, newMail},
		{"badge update", func(t *testing.T) {
			if err := x.Exchange.MarkRead(item); err != nil {
				t.Fatal(err)
			}
			badgeIs(t, 0)
		}, badge},
		{"an event without a count", func(t *testing.T) {
			if c := x.Exchange.Post(ctx, first.URL, post(first.ID, folderChanged)); c.Reply != "OK" {
				t.Fatalf("answered %d %q", c.Status, c.Reply)
			}
		}, countless},
		{"outdated subscription", func(t *testing.T) {
			if answer, err := phone.Register(ctx); err != nil || answer.Code != 7 {
				t.Fatalf("answered %d: %v", answer.Code, err)
			}
			if c := x.Exchange.Post(ctx, first.URL, post(first.ID, folderChanged)); c.Reply != "Unsubscribe" {
				t.Fatalf("answered %d %q", c.Status, c.Reply)
			}
		}, outdated},
		{"wrong token", func(t *testing.T) {
			wrong := *phone
			wrong.APIToken = "12341abcdefghijklmnfasdf"
			if answer, err := wrong.Unregister(ctx); err != nil || answer.Status != http.StatusUnauthorized {
				t.Fatalf("answered %d: %v", answer.Status, err)
			}
		}, wrongToken},
		{"unregister", func(t *testing.T) { unregister(t, phone, 24) }, unregisterRows},
	}
	from := 0
	for _, leg := range legs {
		leg.do(t)
		var activity string
		runtimetest.Eventually(t, func() string { // a line may be written after the answer that it is about
			lines := parseENS2(t, logs.String())
			found, missing := together(leg.rows, lines[from:], phone.UserID())
			if found == "" {
				return fmt.Sprintf("%s: under no activity id the log has %q:\n%s", leg.name, missing, join(lines[from:]))
			}
			activity, from = found, len(lines)
			return ""
		})
		if leg.name == "new mail with badge" {
			activityReachesExchange(t, x, activity)
		}
	}
}

// activityReachesExchange: the third column is what Exchange's own logs are searched by (E-18).
func activityReachesExchange(t *testing.T, x *runtimetest.Tenant, activity string) {
	t.Helper()
	var operations []string
	for _, request := range x.Exchange.Requests() {
		if request.ClientRequestID == activity {
			operations = append(operations, request.Operation)
		}
		if request.ClientRequestID == "" {
			t.Errorf("%s was asked of Exchange without an id", request.Operation)
		}
	}
	if !slices.Contains(operations, "GetItem") {
		t.Errorf("with the id %s Exchange was asked %v, want GetItem", activity, operations)
	}
}

func TestNothingThatAPhoneSendsCanForgeALine(t *testing.T) {
	t.Parallel()
	const hostile = "x]\r\n2019/11/05 09:39:56.608\tA3\t9f08ed6d-0726-430c-8440-9c396443c7ca\t[0000000-0000000]\t(1)\tError\tForged\tUser Id:[evil]  forged\u2028\u202e\x1b[2K"
	logs := &buffer{}
	x := runtimetest.New(t, runtimetest.Options{LogTo: logs, Configure: ens2})
	x.Start(t)
	phone := x.Phone(alice, push.IOS)
	runtimetest.MustRegister(t, phone, 7)
	userID, deviceID := phone.UserID(), phone.DeviceID
	// Brackets are allowed in a deviceLogId, control characters are not.
	phone.Extra = map[string]any{"deviceLogId": "x], Message :  messageId: [forged", "forceSubscription": true}
	if answer, err := phone.Register(t.Context()); err != nil || answer.Code != 7 {
		t.Fatalf("answered %d: %v", answer.Code, err)
	}
	deliver(t, x, ewstest.Mail{FromName: "forged", Subject: "a\tb"})
	if _, err := x.APNs.Wait(runtimetest.Context(t), phone.DeviceToken, 1); err != nil {
		t.Fatal(err)
	}
	for _, field := range []string{"userId", "deviceId", "deviceLogId", "ewsUrl", "locale", "exchangeVersion"} {
		body := map[string]any{
			"userId": userID, "deviceId": deviceID, "deviceToken": phone.DeviceToken, "platform": "iOS", "credentials": "AAAA",
		}
		body[field] = hostile
		for _, call := range []string{"getpublickey", "registerdevicev2", "unregister", "status", "updatedevicetoken", "alive"} {
			request := phone
			if field == "userId" {
				request = new(*phone)
				request.APIToken = "a wrong token, which has the user named"
			}
			if _, err := request.Call(t.Context(), call, body); err != nil {
				t.Fatal(err)
			}
		}
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, x.Front.URL+runtimetest.BasePath+"/unregister?a=%0Aforged", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("User-Agent", "forged\ttab")
	request.Header.Set("ApiToken", "for\tged-and-long-enough\tto-be-shown")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()

	seen := map[string]bool{}
	for _, line := range parseENS2(t, logs.String()) {
		seen[line.logger] = true
		if line.logger == "Forged" || strings.HasPrefix(line.message, "User Id:[evil]") || strings.Contains(line.message, "messageId: [forged") {
			t.Errorf("forged: %s", line)
		}
	}
	for _, logger := range []string{business + "ApiKeyRepository.ValidateAsync", business + "CNSHelper.ComposeAPNSPushNotification"} {
		if !seen[logger] {
			t.Errorf("nothing of %s was logged: the test shows nothing", logger)
		}
	}
}

func TestFormatAndLevelAreReloaded(t *testing.T) {
	t.Parallel()
	logs := &buffer{}
	x := runtimetest.New(t, runtimetest.Options{LogTo: logs})
	x.Start(t)
	if !strings.HasPrefix(logs.String(), `{"time":`) {
		t.Fatalf("unless said otherwise JSON is logged, got %q", logs.String())
	}
	ens2(&x.Config)
	x.WriteConfig(t)
	phone := x.Phone(alice, push.IOS)
	runtimetest.Eventually(t, func() string {
		if _, err := phone.Status(t.Context()); err != nil {
			return err.Error()
		}
		if !strings.Contains(logs.String(), "\tInfo\tEnsOperator.Runtime\tUser Id:["+phone.UserID()+"]  Request processed call=[status]") {
			return "the changed format is not in force"
		}
		return ""
	})
	x.Write(t, config.APITokenHashesFile, []byte("no hash"))
	runtimetest.Eventually(t, func() string {
		if !strings.Contains(logs.String(), "\tError\tMailNotificationService.ProviderImpl.ApiTokensDataHandler.ApiTokensAsync\tUser Id:[ ] Error While loading the api tokens Exception [") {
			return "that the tokens cannot be loaded is not logged as the original did"
		}
		return ""
	})
}
