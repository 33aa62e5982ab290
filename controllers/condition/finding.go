// Package condition turns what a reconciler found into the conditions of an object.
//
// kstatus, which Helm, Flux and others wait with, reads Ready, Reconciling, Stalled and observedGeneration; Argo CD's
// usual scripts take Ready=False for degraded. So Ready is False only for a failure and Unknown while the operator is
// at work or waits; Reconciling and Stalled are there only while they are true.
package condition

import (
	"cmp"
	"slices"
	"unicode/utf8"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ens-operator/ens-operator/api/v1alpha1"
)

// Finding is what a reconciler found out about one matter.
type Finding struct {
	Status  metav1.ConditionStatus
	Reason  string
	Message string
	// Stalled says that trying again will not help: somebody has to change something.
	Stalled bool
}

// OK says that all is well.
func OK(reason, message string) Finding {
	return Finding{Status: metav1.ConditionTrue, Reason: reason, Message: message}
}

// Waiting says that something is under way and needs nobody's help.
func Waiting(message string) Finding {
	return Finding{Status: metav1.ConditionUnknown, Reason: v1alpha1.ReasonProgressing, Message: message}
}

// Failed says that something is wrong that may right itself, or that the operator notices when it is put right.
func Failed(reason, message string) Finding {
	return Finding{Status: metav1.ConditionFalse, Reason: reason, Message: message}
}

// Stuck says that something is wrong that only a person can put right.
func Stuck(reason, message string) Finding {
	return Finding{Status: metav1.ConditionFalse, Reason: reason, Message: message, Stalled: true}
}

// Good reports whether all is well.
func (f Finding) Good() bool { return f.Status == metav1.ConditionTrue }

// Typed is a finding with the type of condition it becomes.
type Typed struct {
	Type string
	Finding
}

// Summarize is the worst of findings: a failure, else something that is waited for, else OK with the given words.
// Stalled failures go before others, since nothing moves until they are put right; of equals the first counts.
func Summarize(reason, message string, findings ...Finding) Finding {
	worst := OK(reason, message)
	for _, finding := range findings {
		if badness(finding) > badness(worst) {
			worst = finding
		}
	}
	return worst
}

func badness(f Finding) int {
	switch {
	case f.Stalled:
		return 3
	case f.Status == metav1.ConditionFalse:
		return 2
	case f.Status == metav1.ConditionUnknown:
		return 1
	default:
		return 0
	}
}

// Set brings conditions to what was found in the given generation at the time now, adds Reconciling or Stalled as the
// finding of Ready asks for, and leaves alone what nothing was found about.
func Set(conditions []metav1.Condition, generation int64, now metav1.Time, findings ...Typed) []metav1.Condition {
	conditions = slices.Clone(conditions)
	for _, finding := range findings {
		set(&conditions, generation, now, finding)
		if finding.Type == v1alpha1.ConditionReady {
			setProgress(&conditions, generation, now, finding.Finding)
		}
	}
	return conditions
}

func set(conditions *[]metav1.Condition, generation int64, now metav1.Time, finding Typed) {
	if old := meta.FindStatusCondition(*conditions, finding.Type); old != nil && old.LastTransitionTime.Unix() == 0 {
		// The CRD's default, which has no time of its own.
		meta.RemoveStatusCondition(conditions, finding.Type)
	}
	meta.SetStatusCondition(conditions, metav1.Condition{
		Type:               finding.Type,
		Status:             finding.Status,
		Reason:             cmp.Or(finding.Reason, v1alpha1.ReasonProgressing),
		Message:            shorten(finding.Message),
		ObservedGeneration: generation,
		LastTransitionTime: now,
	})
}

func setProgress(conditions *[]metav1.Condition, generation int64, now metav1.Time, ready Finding) {
	for abnormal, present := range map[string]bool{
		v1alpha1.ConditionReconciling: ready.Status == metav1.ConditionUnknown,
		v1alpha1.ConditionStalled:     ready.Stalled,
	} {
		if !present {
			meta.RemoveStatusCondition(conditions, abnormal)
			continue
		}
		set(conditions, generation, now, Typed{Type: abnormal, Finding: Finding{
			Status: metav1.ConditionTrue, Reason: ready.Reason, Message: ready.Message,
		}})
	}
}

// maxMessage is how many bytes the note of an Event may have: the API server refuses more. A condition could hold
// 32,768, but nobody reads them, and the Event says the same.
const maxMessage = 1024

// shorten cuts message between two characters if it is too long.
func shorten(message string) string {
	if len(message) <= maxMessage {
		return message
	}
	const mark = "…"
	end := maxMessage - len(mark)
	for end > 0 && !utf8.RuneStart(message[end]) {
		end--
	}
	return message[:end] + mark
}
