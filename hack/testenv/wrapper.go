package testenv

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
)

// A Wrapper is a module of the checkout that pins a program of somebody else's, to be built from Go modules because it
// cannot be had ready-made everywhere.
type Wrapper struct {
	// Name is the program's.
	Name string
	// Module is the module's folder; relative to the checkout's root, or absolute.
	Module string
	// Package is what is built, as the go command is told it.
	Package string
	// Tags and LinkerFlags are further arguments of the go command; empty for none.
	Tags, LinkerFlags string
}

// keyLength is how many hex digits tell builds of a program apart.
const keyLength = 16

// Program returns where the program is: in the user's cache, built the first time, which takes minutes and is told on
// progress. Another version, another Go or another file in the module is another build.
func (w Wrapper) Program(ctx context.Context, progress io.Writer) (string, error) {
	root, err := RepositoryRoot()
	if err != nil {
		return "", err
	}
	if !filepath.IsAbs(w.Module) {
		w.Module = filepath.Join(root, w.Module)
	}
	key, err := w.key()
	if err != nil {
		return "", fmt.Errorf("looking at what %s is built from: %w", w.Name, err)
	}
	cache, err := cacheFolder()
	if err != nil {
		return "", err
	}
	folder := filepath.Join(cache, "built")
	const private = 0o700
	if err := os.MkdirAll(folder, private); err != nil {
		return "", fmt.Errorf("making the cache folder: %w", err)
	}
	program := filepath.Join(folder, w.Name+"-"+key)
	unlock, err := lock(ctx, program+".lock", progress, "another process to build "+w.Name)
	if err != nil {
		return "", err
	}
	defer unlock()
	if executable(program) {
		return program, nil
	}
	making := program + ".making" // an earlier one is left over: we have the lock
	if err := w.build(ctx, making, progress); err != nil {
		return "", errors.Join(err, os.RemoveAll(making))
	}
	if err := os.Rename(making, program); err != nil {
		return "", fmt.Errorf("putting %s into the cache: %w", w.Name, err)
	}
	return program, nil
}

// build compiles the program into a file.
func (w Wrapper) build(ctx context.Context, file string, progress io.Writer) (err error) {
	environment, err := buildEnvironment()
	if err != nil {
		return err
	}
	watch := startWatch(progress, "building "+w.Name)
	defer func() { watch.done(err) }()
	command := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-mod=readonly",
		"-tags="+w.Tags, "-ldflags="+w.LinkerFlags, "-o", file, w.Package)
	command.Dir, command.Env = w.Module, environment
	if output, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("building %s: %w\n%s", w.Name, err, output)
	}
	return nil
}

// key is a digest of everything that the program depends on.
func (w Wrapper) key() (string, error) {
	sum := sha256.New()
	fmt.Fprintf(sum, "%s\x00%s\x00%s\x00%s\x00", runtime.Version(), w.Package, w.Tags, w.LinkerFlags)
	err := filepath.WalkDir(w.Module, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		fmt.Fprintf(sum, "%s\x00%d\x00%s", path[len(w.Module):], len(content), content)
		return nil
	})
	return hex.EncodeToString(sum.Sum(nil))[:keyLength], err
}
