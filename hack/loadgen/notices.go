package main

import (
	"encoding/json"
	"time"

	"github.com/ens-operator/ens-operator/runtime/push"
	"github.com/ens-operator/ens-operator/runtime/push/apns/apnstest"
	"github.com/ens-operator/ens-operator/runtime/push/fcm/fcmtest"
	"github.com/ens-operator/ens-operator/runtime/push/sns/snstest"
)

// acceptedByApple is accepted in Apple's words.
func (l *ledger) acceptedByApple(token string, pushed apnstest.Notification) {
	n := notice{device: deviceOf(token), received: pushed.Received, nudge: pushed.APS.ContentAvailable != 0}
	if n.alert = pushed.APS.Alert != nil; n.alert {
		var content struct {
			ENS push.Reference `json:"ens"`
		}
		_ = json.Unmarshal(pushed.Payload, &content) // the fake has read it already
		n.title, n.messageID = pushed.APS.Alert.Title, content.ENS.MessageID
	}
	l.accepted(n)
}

// acceptedByGoogle is accepted in Google's words.
func (l *ledger) acceptedByGoogle(token string, m fcmtest.Message) {
	var reference push.Reference
	_ = json.Unmarshal([]byte(m.Data["ens"]), &reference) // what cannot be read is about no mail
	l.accepted(notice{
		device: deviceOf(token), received: time.Now(), alert: m.Data["title"] != "", title: m.Data["title"], messageID: reference.MessageID,
		nudge: reference.Event == push.EventResubscribe,
	})
}

// acceptedByAmazon is accepted by one who passes it on to Apple or Google.
func (l *ledger) acceptedByAmazon(token string, n snstest.Notification) {
	if n.Google != nil {
		l.acceptedByGoogle(token, *n.Google)
		return
	}
	n.Apple.Received = time.Now()
	l.acceptedByApple(token, *n.Apple)
}
