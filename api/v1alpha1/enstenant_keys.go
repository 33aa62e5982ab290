package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// ConditionKeysRotated of an EnsTenant says whether the keys that were replaced last are out of use and gone. It is absent
// until there was a rotation, and no part of Ready: everything serves meanwhile.
const ConditionKeysRotated = "KeysRotated"

// Reasons of KeysRotated beside Rotated, KeysLost and Progressing.
const (
	// ReasonReplicasLackKeys: not all replicas have the new keys, so nobody seals or signs with them yet.
	ReasonReplicasLackKeys = "ReplicasLackKeys"
	// ReasonSealedUnderOlderKey: rows are sealed under an older key-encryption key; the replicas seal them anew.
	ReasonSealedUnderOlderKey = "SealedUnderOlderKey"
	// ReasonOlderKeyMounted: an older key is not needed any more, and goes when no pod mounts it.
	ReasonOlderKeyMounted = "OlderKeyMounted"
	// ReasonOlderWebhookKeyInUse: Exchange holds URLs that an older webhook key signed; it is needed until their phones
	// have registered again.
	ReasonOlderWebhookKeyInUse = "OlderWebhookKeyInUse"
)

// AnnotationRotateKeys on an EnsTenant has the operator make new keys, once for each value: any text that names the
// request, e.g. a date or a ticket. What was carried out stands in status.keys.request.
const AnnotationRotateKeys = GroupName + "/rotate-keys"

// TenantEncryption is how the keys are kept that the tenant's data are sealed under.
type TenantEncryption struct {
	// secretName names a Secret of yours that holds the key-encryption keys under kek-<number>, each 32 random bytes in
	// base64. The highest number counts. The operator never writes it. To rotate, add a number; the condition KeysRotated
	// says when an older one may go.
	// +required
	SecretName ResourceName `json:"secretName"`
}

// KeysStatus tells of the rotation of a tenant's keys, and nothing of the keys.
type KeysStatus struct {
	// rotatedAt is when the operator last made keys on request.
	// +optional
	RotatedAt *metav1.Time `json:"rotatedAt,omitempty"`

	// request is the value of the annotation ens-operator.io/rotate-keys that was last carried out.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	Request string `json:"request,omitempty"`

	// kek is the number of the newest key-encryption key.
	// +optional
	KEK int32 `json:"kek,omitempty"`

	// oldestKEK is the number of the oldest that something may be sealed under.
	// +optional
	OldestKEK int32 `json:"oldestKEK,omitempty"`

	// webhookKey is the number of the newest webhook key.
	// +optional
	WebhookKey int32 `json:"webhookKey,omitempty"`

	// oldestWebhookKey is the number of the oldest that may have signed URLs that Exchange holds.
	// +optional
	OldestWebhookKey int32 `json:"oldestWebhookKey,omitempty"`

	// sealedUnderOlder is how many rows are sealed under an older key-encryption key, while there is one.
	// +optional
	SealedUnderOlder *int32 `json:"sealedUnderOlder,omitempty"`

	// signedWithOlder is how many subscriptions have a URL that an older webhook key signed, while there is one.
	// +optional
	SignedWithOlder *int32 `json:"signedWithOlder,omitempty"`
}
