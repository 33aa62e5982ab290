package main

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ens-operator/ens-operator/api/v1alpha1"
	"github.com/ens-operator/ens-operator/runtime/push"
)

const (
	// rotationLimit bounds the rotations: the old password is closed three minutes after the new one at the earliest, and
	// files of Secrets reach pods within two.
	rotationLimit = 8 * time.Minute
	// registerEvery is the pause between two phones that register meanwhile.
	registerEvery = 2 * time.Second
	request       = "e2e"
)

// rotation asks for new keys, a new API token and a new database password at once, while phones register.
func rotation(ctx context.Context, t *theatre) error {
	return t.underTraffic(ctx, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, rotationLimit)
		defer cancel()
		began := time.Now()
		for _, name := range []string{v1alpha1.AnnotationRotateAPIToken, v1alpha1.AnnotationRotateKeys, v1alpha1.AnnotationRotateDatabasePassword} {
			if err := t.annotate(ctx, name, request); err != nil {
				return err
			}
		}
		registered := 0
		for {
			done, err := t.rotated(ctx)
			if err != nil {
				return err
			}
			user := t.tenant.NewUser(fmt.Sprintf("rotation%03d", registered), push.IOS)
			if err := user.Register(ctx); err != nil {
				return err
			}
			registered++
			if done {
				break
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("the rotations do not end: %w", ctx.Err())
			case <-time.After(registerEvery):
			}
		}
		t.say("keys, token and password are new after %.1f s; %d phones registered meanwhile", time.Since(began).Seconds(), registered)
		return t.takeNewToken(ctx)
	})
}

// rotated says whether all has been replaced. The old webhook key is needed until the phones have registered again.
func (t *theatre) rotated(ctx context.Context) (bool, error) {
	tenant := &v1alpha1.EnsTenant{}
	if err := t.Client.Get(ctx, client.ObjectKey{Namespace: namespace, Name: tenantName}, tenant); err != nil {
		return false, err
	}
	status := tenant.Status
	if status.Keys == nil || status.Keys.Request != request || status.APIToken == nil || status.APIToken.Request != request ||
		status.Database == nil || status.Database.PasswordRequest != request {
		return false, nil
	}
	keys := apimeta.FindStatusCondition(status.Conditions, v1alpha1.ConditionKeysRotated)
	return keys != nil && (keys.Reason == v1alpha1.ReasonOlderWebhookKeyInUse || keys.Reason == v1alpha1.ReasonRotated) &&
		apimeta.IsStatusConditionTrue(status.Conditions, v1alpha1.ConditionDatabasePasswordReplaced), nil
}

// takeNewToken has new phones carry the new token, as the UEM console does, and one of them register with it.
func (t *theatre) takeNewToken(ctx context.Context) error {
	boxer := &corev1.Secret{}
	if err := t.Client.Get(ctx, client.ObjectKey{Namespace: namespace, Name: tenantName + "-boxer"}, boxer); err != nil {
		return err
	}
	token := string(boxer.Data["ENSAPIToken"])
	if token == t.tenant.APIToken {
		return fmt.Errorf("the Secret for the console still has the token before")
	}
	t.tenant.APIToken = token
	if err := t.tenant.NewUser("rotated", push.IOS).Register(ctx); err != nil {
		return fmt.Errorf("with the new token: %w", err)
	}
	t.say("a phone has registered with the new token")
	return nil
}
