package v1alpha1

// CNSProvider is the Cloud Notification Service of VMware for one platform: make one PushProvider for each. It is
// experimental: the service is not described in public.
//
// +kubebuilder:validation:XValidation:rule="!has(self.platform) || self.platform != 'Android' || !has(self.environment)",message="environment is for iPhones only"
type CNSProvider struct {
	// platform is whose phones are served. In effect unless set: iOS.
	// +optional
	Platform CNSPlatform `json:"platform,omitempty"`

	// appIDs are the apps that are served. In effect unless set: all.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=32
	AppIDs []AppID `json:"appIDs,omitempty"`

	// environment is where the device tokens of iPhones come from. In effect unless set: Production.
	// +optional
	Environment APNsEnvironment `json:"environment,omitempty"`

	// signingCertificate is the certificate that requests are signed with; the UEM console gives it out.
	// +required
	SigningCertificate PKCS12Certificate `json:"signingCertificate"`

	// mutualTLS shows a client certificate to the service. In effect unless set: none is shown.
	// +optional
	MutualTLS *CNSMutualTLS `json:"mutualTLS,omitempty"`

	// publicKeySHA256 are fingerprints of public keys (SHA-256 of the SubjectPublicKeyInfo), one of which must be that of
	// the service's certificate. Name two to replace a key without a gap. In effect unless set: none is pinned, and the
	// certificate is verified by its authority alone, as it is in any case.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=32
	PublicKeySHA256 []Fingerprint `json:"publicKeySHA256,omitempty"`

	// url replaces the address of the service; its path is what is signed. In effect unless set:
	// https://cns.awmdm.com/nws/notify/apns.
	// +optional
	// +kubebuilder:validation:XValidation:rule="self.matches('^https://[^/]+/.')",message="must hold the path too, because it is what is signed"
	URL HTTPSURL `json:"url,omitempty"`
}

// CNSPlatform is whose phones a CNS provider serves.
//
// +kubebuilder:validation:Enum=iOS;Android
type CNSPlatform string

// The platforms of CNS.
const (
	CNSPlatformIOS     CNSPlatform = "iOS"
	CNSPlatformAndroid CNSPlatform = "Android"
)

// CNSMutualTLS is the client certificate that the service is shown.
type CNSMutualTLS struct {
	// certificate is another certificate than the one that signs. In effect unless set: the one that signs.
	// +optional
	Certificate *PKCS12Certificate `json:"certificate,omitempty"`
}

// PKCS12Certificate is a certificate with its private key as a PKCS #12 file (.pfx, .p12).
type PKCS12Certificate struct {
	// pfxSecretRef names the file.
	// +required
	PFXSecretRef SecretKeyReference `json:"pfxSecretRef"`

	// passwordSecretRef names its password.
	// +required
	PasswordSecretRef SecretKeyReference `json:"passwordSecretRef"`
}
