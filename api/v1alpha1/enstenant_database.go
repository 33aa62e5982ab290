package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TenantDatabase is a Postgres database of the tenant's own.
//
// +kubebuilder:validation:XValidation:rule="!has(self.runtimePort) || has(self.runtimeHost)",message="runtimePort is the port of runtimeHost: set both, or neither"
type TenantDatabase struct {
	// secretName names a Secret with the connection string under the key url or uri, as in the app Secret of a
	// CloudNativePG cluster. Its role must be allowed to make a schema, and must not be shared with other tenants.
	// Under ca.crt may be the authorities that the server is verified against. A changed Secret is taken up.
	// +required
	SecretName ResourceName `json:"secretName"`

	// runtimeHost is where the pods reach the database, if not where the connection string says: a PgBouncer.
	// +optional
	RuntimeHost Hostname `json:"runtimeHost,omitempty"`

	// runtimePort is the port there. In effect unless set: that of the connection string.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	RuntimePort int32 `json:"runtimePort,omitempty"`
}

// DatabaseStatus is where a tenant's data are.
type DatabaseStatus struct {
	// schema is the name of the tenant's schema.
	// +optional
	// +kubebuilder:validation:MaxLength=63
	Schema string `json:"schema,omitempty"`

	// version is the version of the schema.
	// +optional
	Version int32 `json:"version,omitempty"`

	// role is the role that the pods are to log in as.
	// +optional
	// +kubebuilder:validation:MaxLength=63
	Role string `json:"role,omitempty"`

	// passwordReplacedAt is when the password was made, unless it is the first.
	// +optional
	PasswordReplacedAt *metav1.Time `json:"passwordReplacedAt,omitempty"`

	// passwordRequest is the value of the annotation ens-operator.io/rotate-database-password that was last carried out.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	PasswordRequest string `json:"passwordRequest,omitempty"`
}

// AnnotationRotateDatabasePassword on an EnsTenant has the operator make a new password for the database, once for each
// value: any text that names the request, e.g. a date or a ticket. What was carried out stands in
// status.database.passwordRequest. It has no effect in a database of the tenant's own.
const AnnotationRotateDatabasePassword = GroupName + "/rotate-database-password"

// ConditionDatabasePasswordReplaced of an EnsTenant says whether the database password that was replaced last is out of
// use. It is absent until there was a change of passwords, and no part of Ready: everything serves meanwhile.
const ConditionDatabasePasswordReplaced = "DatabasePasswordReplaced"

// Reasons of DatabasePasswordReplaced.
const (
	// ReasonReplaced: only the new password is valid.
	ReasonReplaced = "Replaced"
	// ReasonPreviousPasswordInUse: the password before is still valid; the message says what is waited for.
	ReasonPreviousPasswordInUse = "PreviousPasswordInUse"
	// ReasonNotOurs: the tenant's database is its own, and so is the password.
	ReasonNotOurs = "NotOurs"
)

// Reasons of Ready that tell which side to upgrade.
const (
	// ReasonRuntimeTooOld: pods do not become ready because their image is too old for the schema.
	ReasonRuntimeTooOld = "RuntimeTooOld"
	// ReasonOperatorTooOld: pods do not become ready because their image needs a newer schema than this operator makes.
	ReasonOperatorTooOld = "OperatorTooOld"
)

// More reasons of DatabaseReady.
const (
	// ReasonSharedRole: the role in the tenant's own connection string is another tenant's, too, or its search_path is set
	// to something else; give the tenant a role and database of its own.
	ReasonSharedRole = "SharedRole"
	// ReasonUntrustedServer: the server's certificate is not accepted; put its authority beside the connection string.
	ReasonUntrustedServer = "UntrustedServer"
	// ReasonSchemaGone: the tenant's own database has no schema of it any more, or is another one. Restore the data.
	ReasonSchemaGone = "SchemaGone"
)
