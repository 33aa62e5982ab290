package v1alpha1

// SNSProvider is one platform application of Amazon's Simple Notification Service: make one PushProvider for each.
//
// The access key or the role needs the rights sns:CreatePlatformEndpoint, sns:SetEndpointAttributes and sns:Publish for
// the application and its endpoints.
type SNSProvider struct {
	// platformApplicationARN names the application. It says whom it is for, APNS, APNS_SANDBOX or GCM, and in which
	// region it is, e.g. arn:aws:sns:eu-central-1:123456789012:app/APNS/mail.
	// +required
	PlatformApplicationARN PlatformApplicationARN `json:"platformApplicationARN"`

	// appIDs are the apps that are served. In effect unless set: all.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=32
	AppIDs []AppID `json:"appIDs,omitempty"`

	// credentials are what is signed in with.
	// +required
	Credentials SNSCredentials `json:"credentials"`

	// url replaces Amazon's SNS server, for a VPC endpoint, a relay or a test: scheme, host and port, without a path.
	// +optional
	// +kubebuilder:validation:XValidation:rule="self.matches('^https://[^/]*/?$')",message="must hold scheme, host and port only, without a path"
	URL HTTPSURL `json:"url,omitempty"`

	// stsURL replaces Amazon's Security Token Service, where the role of a web identity is taken.
	// +optional
	// +kubebuilder:validation:XValidation:rule="self.matches('^https://[^/]*/?$')",message="must hold scheme, host and port only, without a path"
	STSURL HTTPSURL `json:"stsURL,omitempty"`
}

// PlatformApplicationARN is the name of an SNS platform application for APNS, APNS_SANDBOX or GCM.
//
// +kubebuilder:validation:MinLength=1
// +kubebuilder:validation:MaxLength=400
// +kubebuilder:validation:XValidation:rule="self.matches('^arn:aws[a-z-]{0,20}:sns:[a-z]{2}[a-z0-9-]{1,30}:[0-9]{12}:app/(APNS|APNS_SANDBOX|GCM)/[A-Za-z0-9_.-]{1,256}$')",message="must be the ARN of a platform application for APNS, APNS_SANDBOX or GCM, e.g. arn:aws:sns:eu-central-1:123456789012:app/APNS/mail"
type PlatformApplicationARN string

// SNSCredentials are what Amazon is signed in to with: exactly one of accessKey and webIdentity.
//
// +kubebuilder:validation:XValidation:rule="[has(self.accessKey), has(self.webIdentity)].filter(x, x).size() == 1",message="SNS needs exactly one of accessKey and webIdentity"
type SNSCredentials struct {
	// accessKey is the access key of an IAM user.
	// +optional
	AccessKey *SNSAccessKey `json:"accessKey,omitempty"`

	// webIdentity is an IAM role that the tenant's service account may take.
	// +optional
	WebIdentity *SNSWebIdentity `json:"webIdentity,omitempty"`
}

// SNSAccessKey is the access key of an IAM user.
type SNSAccessKey struct {
	// accessKeyIDSecretRef names the access key id (AKIA…).
	// +required
	AccessKeyIDSecretRef SecretKeyReference `json:"accessKeyIDSecretRef"`

	// secretAccessKeySecretRef names the secret access key.
	// +required
	SecretAccessKeySecretRef SecretKeyReference `json:"secretAccessKeySecretRef"`
}

// SNSWebIdentity is an IAM role that trusts the cluster's issuer of service account tokens. The pods show Amazon a token
// of the tenant's service account, which bears the tenant's name, for the audience sts.amazonaws.com.
type SNSWebIdentity struct {
	// roleARN names the role, e.g. arn:aws:iam::123456789012:role/ens.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=600
	// +kubebuilder:validation:XValidation:rule="self.matches('^arn:aws[a-z-]{0,20}:iam::[0-9]{12}:role/[A-Za-z0-9_+=,.@/-]{1,512}$')",message="must be the ARN of an IAM role, e.g. arn:aws:iam::123456789012:role/ens"
	RoleARN string `json:"roleARN"`
}
