package server

import "strings"

// callName takes the base path off a request's path and returns the call's name in lower case. Paths are compared
// without case (P-03), and a trailing slash is allowed.
func callName(path string, basePaths []string) (name string, found bool) {
	path = strings.TrimSuffix(strings.ToLower(path), "/")
	for _, base := range basePaths {
		rest, based := strings.CutPrefix(path, strings.TrimSuffix(strings.ToLower(base), "/"))
		name, found := strings.CutPrefix(rest, "/")
		if based && found && name != "" && !strings.Contains(name, "/") {
			return name, true
		}
	}
	return "", false
}
