package credentials

import (
	"bytes"
	"errors"
	"regexp"
)

var (
	// accessKeyID is the form of an IAM user's access key id. Those of sessions begin with ASIA and soon expire.
	accessKeyID     = regexp.MustCompile(`^AKIA[A-Z0-9]{12,124}$`)
	secretAccessKey = regexp.MustCompile(`^[A-Za-z0-9/+=]{40,128}$`)
)

// ParseAccessKeyID reads the access key id of an IAM user of Amazon. Space around it is no part of it.
func ParseAccessKeyID(data []byte) (string, error) {
	id := bytes.TrimSpace(data)
	if !accessKeyID.Match(id) {
		return "", errors.New("want the access key id of an IAM user: 16 or more capital letters and digits that begin with AKIA")
	}
	return string(id), nil
}

// CheckSecretAccessKey judges the form of a secret access key of Amazon. Space around it is no part of it.
func CheckSecretAccessKey(data []byte) error {
	if !secretAccessKey.Match(bytes.TrimSpace(data)) {
		return errors.New("want a secret access key: 40 or more letters, digits, slashes and plus signs")
	}
	return nil
}
