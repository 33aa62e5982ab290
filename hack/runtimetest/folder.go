package runtimetest

import (
	"os"
	"path/filepath"
	"testing"
)

// WithOwnFolder returns the tenant with a copy of its configuration folder: what is mounted there reaches only the
// replicas that are launched from it, as a changed Secret reaches the pods at different times.
func (x *Tenant) WithOwnFolder(t testing.TB) *Tenant {
	t.Helper()
	own := *x
	own.Folder = t.TempDir()
	if err := os.CopyFS(own.Folder, os.DirFS(x.Folder)); err != nil {
		t.Fatal(err)
	}
	return &own
}

// Remove takes a file out of the configuration folder and returns what was in it.
func (x *Tenant) Remove(t testing.TB, name string) []byte {
	t.Helper()
	path := filepath.Join(x.Folder, name)
	content, err := os.ReadFile(path)
	if err == nil {
		err = os.Remove(path)
	}
	if err != nil {
		t.Fatal(err)
	}
	return content
}
