package config

import (
	"errors"
	"regexp"
)

// SNS is Amazon's Simple Notification Service, with one platform application of it. It signs in with the access key in
// push/<name>/access-key-id and push/<name>/secret-access-key, or, with RoleARN, takes that role with the token in
// push/<name>/web-identity-token.
type SNS struct {
	// ApplicationARN names the platform application; see ParsePlatformApplication.
	ApplicationARN string `json:"applicationARN"`
	// AppIDs are the apps that are served; empty serves all.
	AppIDs []string `json:"appIDs,omitempty"`
	// RoleARN is the IAM role that is taken with a web identity token; empty uses an access key.
	RoleARN string `json:"roleARN,omitempty"`
	// URL and STSURL replace Amazon's servers (scheme and host), for VPC endpoints and tests.
	URL    string `json:"url,omitempty"`
	STSURL string `json:"stsURL,omitempty"`
}

// The platforms of platform applications, as their ARNs spell them.
const (
	SNSPlatformAPNs        = "APNS"
	SNSPlatformAPNsSandbox = "APNS_SANDBOX"
	SNSPlatformFCM         = "GCM"
)

// PlatformApplication is what the ARN of an SNS platform application says.
type PlatformApplication struct {
	// Partition is aws, or another for China and governments; Region where the application is; Account whose it is.
	Partition, Region, Account string
	// Platform is one of the constants above, Name what the account calls the application.
	Platform, Name string
}

var (
	platformApplication = regexp.MustCompile(`^arn:(aws[a-z-]{0,20}):sns:([a-z]{2}[a-z0-9-]{1,30}):([0-9]{12}):app/(APNS|APNS_SANDBOX|GCM)/([A-Za-z0-9_.-]{1,256})$`)
	roleARN             = regexp.MustCompile(`^arn:aws[a-z-]{0,20}:iam::[0-9]{12}:role/[A-Za-z0-9_+=,.@/-]{1,512}$`)
)

var errPlatformApplication = errors.New("want the ARN of an SNS platform application for APNS, APNS_SANDBOX or GCM, " +
	"e.g. arn:aws:sns:eu-central-1:123456789012:app/APNS/mail")

// ParsePlatformApplication reads the ARN of a platform application for APNS, APNS_SANDBOX or GCM:
// arn:<partition>:sns:<region>:<account>:app/<platform>/<name>.
func ParsePlatformApplication(arn string) (PlatformApplication, error) {
	parts := platformApplication.FindStringSubmatch(arn)
	if parts == nil {
		return PlatformApplication{}, errPlatformApplication
	}
	return PlatformApplication{Partition: parts[1], Region: parts[2], Account: parts[3], Platform: parts[4], Name: parts[5]}, nil
}

// IsApple says whether the application's devices are Apple's.
func (a PlatformApplication) IsApple() bool { return a.Platform != SNSPlatformFCM }

// Environment is where the tokens of an application for Apple's devices come from; empty for others.
func (a PlatformApplication) Environment() PushEnvironment {
	switch a.Platform {
	case SNSPlatformAPNs:
		return PushProduction
	case SNSPlatformAPNsSandbox:
		return PushSandbox
	default:
		return ""
	}
}

// EndpointPrefix is how the ARNs of the application's endpoints begin.
func (a PlatformApplication) EndpointPrefix() string {
	return "arn:" + a.Partition + ":sns:" + a.Region + ":" + a.Account + ":endpoint/" + a.Platform + "/" + a.Name + "/"
}

func (f *findings) sns(field string, s SNS) {
	if _, err := ParsePlatformApplication(s.ApplicationARN); err != nil {
		f.add(field+".applicationARN", "%v", err)
	}
	f.appIDs(field+".appIDs", s.AppIDs, "the id of an app")
	if s.RoleARN != "" {
		f.matches(field+".roleARN", s.RoleARN, roleARN, "the ARN of an IAM role")
	}
	if s.URL != "" {
		f.serverURL(field+".url", s.URL)
	}
	if s.STSURL != "" {
		f.serverURL(field+".stsURL", s.STSURL)
	}
}
