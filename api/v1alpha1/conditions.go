package v1alpha1

// The conditions of all kinds. Ready, and all others unless they say otherwise, are True when all is well, False when
// something failed, and Unknown while the operator is at work or waits.
const (
	// ConditionReady sums up all others.
	ConditionReady = "Ready"

	// ConditionReconciling is True while the operator is on the way to what the spec asks for, else absent.
	ConditionReconciling = "Reconciling"

	// ConditionStalled is True while a failure lasts that the operator cannot overcome by trying again, else absent.
	ConditionStalled = "Stalled"

	// ConditionReferencesResolved says whether every object that the spec names exists and can be used.
	ConditionReferencesResolved = "ReferencesResolved"
)

// ConditionAccepted of an EwsEndpoint or PushProvider says whether the operator may let tenants use what the spec says.
const ConditionAccepted = "Accepted"

// ConditionDelivering of a PushProvider says whether the service accepts what the pods of its tenants push; Unknown until one
// has tried. It is no part of Ready while it may be the service's own outage.
const ConditionDelivering = "Delivering"

// Reasons of Delivering.
const (
	// ReasonDelivering: notifications are accepted.
	ReasonDelivering = "Delivering"
	// ReasonUntried: no pod has pushed anything with the present credential yet that would tell.
	ReasonUntried = "Untried"
	// ReasonFailing: the service is out of order or cannot be reached; notifications wait and are pushed later.
	ReasonFailing = "Failing"
	// ReasonRefused: the service refuses everything; replace the credential or correct what the message names.
	ReasonRefused = "Refused"
)

// The conditions of an EwsEndpoint.
const (
	// ConditionReachable says whether the operator reaches the server and finds what answers like EWS. It is no part of
	// Ready.
	ConditionReachable = "Reachable"

	// ConditionPinned says whether the certificate that the server shows is one that is accepted.
	ConditionPinned = "Pinned"
)

// The conditions of an EnsTenant.
const (
	// ConditionProvisioned says whether everything is in place but the running pods: references, Secrets, database,
	// certificate, configuration and workload objects.
	ConditionProvisioned = "Provisioned"

	// ConditionAvailable says whether enough pods serve.
	ConditionAvailable = "Available"

	// ConditionSecretsReady says whether the tenant's keys and API token are there and can be used.
	ConditionSecretsReady = "SecretsReady"

	// ConditionDatabaseReady says whether the tenant's schema and roles are there in the version that is needed.
	ConditionDatabaseReady = "DatabaseReady"

	// ConditionAPITokenRotated says whether the API token that was replaced last is out of use. It is absent until there was
	// a rotation, and no part of Ready: everything serves meanwhile.
	ConditionAPITokenRotated = "APITokenRotated"

	// ConditionHostnamesAccepted says whether no other tenant has one of the tenant's names.
	ConditionHostnamesAccepted = "HostnamesAccepted"

	// ConditionExposed says whether the HTTPRoute, Ingress or load balancer is in use. It is absent with exposure none. An
	// Ingress that waits for an address does not keep the tenant from being Ready: not all controllers tell one.
	ConditionExposed = "Exposed"

	// ConditionPaused is True while the annotation ens-operator.io/paused stops the operator, else absent. The others then
	// say what was found before.
	ConditionPaused = "Paused"

	// ConditionRuntimeUpToDate says whether the tenant's pods are of the runtime's image that it is to have. It is no part of
	// Ready: a tenant that waits for its turn serves with the image before.
	ConditionRuntimeUpToDate = "RuntimeUpToDate"

	// ConditionNextCertificateReady says whether the certificate that spec.tls.nextSecretName names could be used. It is
	// absent where none is named, and no part of Ready.
	ConditionNextCertificateReady = "NextCertificateReady"

	// ConditionTLSReady says whether the tenant's certificate is there, holds the tenant's names and has not expired.
	ConditionTLSReady = "TLSReady"
)

// Reasons of several conditions.
const (
	// ReasonPending: the operator has not looked at the object yet.
	ReasonPending = "Pending"
	// ReasonReady: all is well.
	ReasonReady = "Ready"
	// ReasonProgressing: the operator is at work or waits for something that comes without anybody's help.
	ReasonProgressing = "Progressing"
	// ReasonDeleting: the object is being deleted.
	ReasonDeleting = "Deleting"
	// ReasonNotOwned: an object of the name that the operator needs belongs to somebody else; rename or remove it.
	ReasonNotOwned = "NotOwned"
	// ReasonError: something failed that is tried again.
	ReasonError = "Error"
)

// Reasons of ReferencesResolved and Accepted.
const (
	// ReasonResolved: everything that is named exists and can be used.
	ReasonResolved = "Resolved"
	// ReasonAccepted: the operator may let tenants use the object.
	ReasonAccepted = "Accepted"
	// ReasonNotFound: an object that is named does not exist; create it or correct the name.
	ReasonNotFound = "NotFound"
	// ReasonKeyNotFound: a Secret or ConfigMap that is named lacks the key that is named.
	ReasonKeyNotFound = "KeyNotFound"
	// ReasonInvalid: a Secret or ConfigMap that is named holds something else than what is needed, two EwsEndpoints
	// have the same address, or a setting is one that the runtime refuses; the message names it.
	ReasonInvalid = "Invalid"
	// ReasonNotReady: an EwsEndpoint or PushProvider that is named is not ready; see its own conditions.
	ReasonNotReady = "NotReady"
	// ReasonLoopbackRefused: an address leads to the loopback or the local link, which only an operator that was
	// started with --allow-loopback permits.
	ReasonLoopbackRefused = "LoopbackRefused"
	// ReasonExpired: a certificate has expired.
	ReasonExpired = "Expired"
)

// Reasons of Reachable.
const (
	// ReasonReachable: the server answers like EWS.
	ReasonReachable = "Reachable"
	// ReasonUnexpectedAnswer: something answers that does not look like EWS, e.g. because the path is wrong.
	ReasonUnexpectedAnswer = "UnexpectedAnswer"
	// ReasonMethodsNotOffered: the server offers none of the authentication methods that are allowed.
	ReasonMethodsNotOffered = "MethodsNotOffered"
)

// Reasons of Pinned.
const (
	// ReasonPinned: the server's certificate is one that is accepted.
	ReasonPinned = "Pinned"
	// ReasonOtherCertificate: the server shows a certificate that is not accepted; compare it on the server itself and
	// accept it, or find out who is in between.
	ReasonOtherCertificate = "OtherCertificate"
)

// Reasons of SecretsReady.
const (
	// ReasonKeysLost: the Secret with the tenant's keys is gone while its data are there. Restore it from a backup;
	// new keys could not read the data.
	ReasonKeysLost = "KeysLost"
	// ReasonTokenLost: the Secret with the API token is gone while phones use the token. Restore it from a backup, or
	// have a new token made as the message says.
	ReasonTokenLost = "TokenLost"
)

// Reasons of APITokenRotated.
const (
	// ReasonRotated: only the new token is valid.
	ReasonRotated = "Rotated"
	// ReasonPreviousTokenInUse: the token before is still valid, and devices use it; the message says how many and until
	// when.
	ReasonPreviousTokenInUse = "PreviousTokenInUse"
	// ReasonPreviousTokenUnused: the token before is still valid, and no device uses it any more.
	ReasonPreviousTokenUnused = "PreviousTokenUnused"
)

// Reasons of DatabaseReady.
const (
	// ReasonForeignSchema: a schema of the tenant's name belongs to another tenant or program, or another role owns it. It
	// is left alone.
	ReasonForeignSchema = "ForeignSchema"
	// ReasonNewerSchema: a newer operator has migrated the schema; upgrade this operator. The schema is left alone.
	ReasonNewerSchema = "NewerSchema"
	// ReasonUnreachable: the database does not answer; tried again.
	ReasonUnreachable = "Unreachable"
)

// Reasons of TLSReady.
const (
	// ReasonCertManagerMissing: cert-manager is not installed in the cluster.
	ReasonCertManagerMissing = "CertManagerMissing"
	// ReasonCertificateNotReady: cert-manager has not issued the certificate; see the Certificate's own conditions.
	ReasonCertificateNotReady = "CertificateNotReady"
	// ReasonNameMismatch: the certificate does not hold one of the tenant's host names.
	ReasonNameMismatch = "NameMismatch"
	// ReasonTerminatedElsewhere: the tenant needs no certificate.
	ReasonTerminatedElsewhere = "TerminatedElsewhere"
	// ReasonExpiresSoon: the certificate is good, and should have been renewed by now; the message says until when it
	// holds.
	ReasonExpiresSoon = "ExpiresSoon"
)

// ReasonHostnameConflict of HostnamesAccepted: another tenant has one of the names; the message says which. What
// runs goes on running, and nothing is changed until one of the two gives the name up.
const ReasonHostnameConflict = "HostnameConflict"

// Reasons of Exposed.
const (
	// ReasonExposed: what exposes the tenant is in use.
	ReasonExposed = "Exposed"
	// ReasonGatewayAPIMissing: the cluster does not know HTTPRoutes.
	ReasonGatewayAPIMissing = "GatewayAPIMissing"
	// ReasonNotAccepted: a Gateway does not take the HTTPRoute; the message says which and why.
	ReasonNotAccepted = "NotAccepted"
)

// Reasons of RuntimeUpToDate.
const (
	// ReasonUpToDate: the pods are of the operator's image.
	ReasonUpToDate = "UpToDate"
	// ReasonOwnImage: the spec names the image.
	ReasonOwnImage = "OwnImage"
	// ReasonWaitingForTurn: the operator's image is another one, and other tenants' pods are replaced first.
	ReasonWaitingForTurn = "WaitingForTurn"
	// ReasonHeldBack: the operator's image is another one, and no tenant gets it because it failed with one; the message
	// says which.
	ReasonHeldBack = "HeldBack"
	// ReasonRollingOut: the pods are being replaced by those of the operator's image.
	ReasonRollingOut = "RollingOut"
	// ReasonRolloutFailed: the pods of the operator's image do not become ready. No other tenant gets it meanwhile.
	ReasonRolloutFailed = "RolloutFailed"
)

// ReasonKeyUnchanged of NextCertificateReady: the next certificate has the key of the present one.
const ReasonKeyUnchanged = "KeyUnchanged"

// ReasonPaused of Paused: the annotation asks for it.
const ReasonPaused = "Paused"

// Reasons of Available.
const (
	// ReasonAvailable: enough pods serve.
	ReasonAvailable = "Available"
	// ReasonUnavailable: too few pods serve; see the Deployment and its pods.
	ReasonUnavailable = "Unavailable"
	// ReasonScaledToZero: the spec asks for no pods, so nobody is notified.
	ReasonScaledToZero = "ScaledToZero"
)

// AnnotationAcceptCertificate on an EwsEndpoint with trustOnFirstUse accepts the certificate with this SHA-256 fingerprint
// when the server shows it.
const AnnotationAcceptCertificate = GroupName + "/accept-certificate"

// AnnotationRotateAPIToken on an EnsTenant has the operator make a new API token, once for each value: any text that names
// the request, e.g. a date or a ticket. What was carried out stands in status.apiToken.request.
const AnnotationRotateAPIToken = GroupName + "/rotate-api-token"

// AnnotationPaused on an EnsTenant, with the value "true", stops all changes to its objects until it is taken away. A
// deletion is carried out all the same.
const AnnotationPaused = GroupName + "/paused"

// AnnotationAbandonDatabase on an EnsTenant that is being deleted, with the value "true", has the operator give up the
// tenant's schema and roles, for a database that will not come back. They stay in the database, if that still exists.
const AnnotationAbandonDatabase = GroupName + "/abandon-database"
