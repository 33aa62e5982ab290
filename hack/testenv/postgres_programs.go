package testenv

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// OldestPostgres is the oldest major version the project supports.
const OldestPostgres = 15

// ErrNoPostgres is returned if no Postgres of a supported version is installed.
var ErrNoPostgres = errors.New("no Postgres server found")

// PostgresPlaces says where to look for the server's programs.
type PostgresPlaces struct {
	// Path is a list of folders as in $PATH. Postgres' programs in it are taken, else what a pg_config in it tells.
	Path string
	// Globs are patterns of folders that packages install into; the newest version among them is taken.
	Globs []string
}

// DefaultPostgresPlaces are $PATH and the folders that the packages of Debian, Red Hat and Homebrew use.
func DefaultPostgresPlaces() PostgresPlaces {
	return PostgresPlaces{
		Path: os.Getenv("PATH"),
		Globs: []string{
			"/usr/lib/postgresql/*/bin",
			"/usr/pgsql-*/bin",
			"/opt/homebrew/opt/postgresql@*/bin",
			"/usr/local/opt/postgresql@*/bin",
		},
	}
}

// PostgresPrograms returns the folder with postgres and initdb. If there are none, and we are root on a system with
// apt-get, it installs Debian's package without the server that comes up with it, and says so on progress; else the
// error wraps ErrNoPostgres and says what to install.
func PostgresPrograms(ctx context.Context, progress io.Writer) (string, error) {
	places := DefaultPostgresPlaces()
	folder, err := places.Find(ctx)
	if !errors.Is(err, ErrNoPostgres) {
		return folder, err
	}
	if installErr := installPostgres(ctx, places, progress); installErr != nil {
		return "", errors.Join(err, installErr)
	}
	return places.Find(ctx)
}

// Find returns the folder with postgres and initdb, of version OldestPostgres at least. The error wraps ErrNoPostgres
// and names what was found and is too old.
func (p PostgresPlaces) Find(ctx context.Context) (string, error) {
	var tooOld []string
	for _, candidates := range [][]string{p.inPath(), p.fromConfig(ctx), p.installed()} {
		best, folder := 0, ""
		for _, candidate := range candidates {
			version, err := postgresVersion(ctx, candidate)
			switch {
			case err != nil: // not a server: only client programs, or a link that leads nowhere
			case version < OldestPostgres:
				tooOld = append(tooOld, fmt.Sprintf("%s has version %d", candidate, version))
			case version > best:
				best, folder = version, candidate
			}
		}
		if best > 0 {
			return folder, nil
		}
	}
	if len(tooOld) > 0 {
		return "", fmt.Errorf("%w of version %d or newer: %s", ErrNoPostgres, OldestPostgres, strings.Join(tooOld, ", "))
	}
	return "", fmt.Errorf("%w (looked in PATH, asked pg_config, looked in %s)", ErrNoPostgres, strings.Join(p.Globs, ", "))
}

// inPath is the first folder in the path that holds postgres. A link to it is followed: initdb and the other programs
// lie beside the real one.
func (p PostgresPlaces) inPath() []string {
	program := p.lookUp("postgres")
	if program == "" {
		return nil
	}
	target, err := filepath.EvalSymlinks(program)
	if err != nil {
		return nil
	}
	return []string{filepath.Dir(target)}
}

// fromConfig asks pg_config, which client packages install as well.
func (p PostgresPlaces) fromConfig(ctx context.Context) []string {
	program := p.lookUp("pg_config")
	if program == "" {
		return nil
	}
	output, err := exec.CommandContext(ctx, program, "--bindir").Output()
	if err != nil {
		return nil
	}
	return []string{strings.TrimSpace(string(output))}
}

func (p PostgresPlaces) installed() []string {
	var folders []string
	for _, pattern := range p.Globs {
		found, err := filepath.Glob(pattern)
		if err != nil { // a malformed pattern matches nothing
			continue
		}
		folders = append(folders, found...)
	}
	slices.Sort(folders)
	return folders
}

// lookUp returns the first executable of that name in Path, or nothing.
func (p PostgresPlaces) lookUp(name string) string {
	for _, folder := range filepath.SplitList(p.Path) {
		if !filepath.IsAbs(folder) {
			continue // as exec.LookPath: never run what happens to lie in the working directory
		}
		if program := filepath.Join(folder, name); executable(program) {
			return program
		}
	}
	return ""
}

func executable(file string) bool {
	const byAnybody = 0o111
	info, err := os.Stat(file)
	return err == nil && info.Mode().IsRegular() && info.Mode().Perm()&byAnybody != 0
}

// versionPattern finds the major version in "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)".
var versionPattern = regexp.MustCompile(`\(PostgreSQL\) (\d+)`)

// postgresVersion is the major version of the server in folder, which must hold initdb too.
func postgresVersion(ctx context.Context, folder string) (int, error) {
	if !executable(filepath.Join(folder, "initdb")) {
		return 0, fmt.Errorf("%s has no initdb", folder)
	}
	output, err := exec.CommandContext(ctx, filepath.Join(folder, "postgres"), "--version").Output()
	if err != nil {
		return 0, fmt.Errorf("asking the Postgres in %s for its version: %w", folder, err)
	}
	match := versionPattern.FindSubmatch(output)
	if match == nil {
		return 0, fmt.Errorf("the Postgres in %s reports no version: %q", folder, output)
	}
	return strconv.Atoi(string(match[1]))
}
