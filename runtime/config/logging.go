package config

import (
	"errors"
	"log/slog"
)

// Logging is what is logged, and how.
type Logging struct {
	// Format is json or ens2.
	Format LogFormat `json:"format,omitempty"`
	// Level is the least severe level that is logged.
	Level LogLevel `json:"level,omitempty"`
}

// LogFormat is what a line of the log looks like.
type LogFormat string

// The formats.
const (
	LogJSON LogFormat = "json"
	// LogENS2 is the original's layout on premises, with its messages (L-01).
	LogENS2 LogFormat = "ens2"
)

// LogLevel is a severity, as of the original (L-06).
type LogLevel string

// The levels.
const (
	LogDebug LogLevel = "debug"
	LogInfo  LogLevel = "info"
	LogWarn  LogLevel = "warn"
	LogError LogLevel = "error"
)

var slogLevels = map[LogLevel]slog.Level{
	LogDebug: slog.LevelDebug, LogInfo: slog.LevelInfo, LogWarn: slog.LevelWarn, LogError: slog.LevelError,
}

// Slog is the level in the words of log/slog; info for one that is not known.
func (l LogLevel) Slog() slog.Level { return slogLevels[l] }

// Effective returns l with a value for everything that is not set.
func (l Logging) Effective() Logging {
	setDefault(&l.Format, LogJSON)
	setDefault(&l.Level, LogInfo)
	return l
}

// Validate finds what is wrong with l, as Config.Validate does.
func (l Logging) Validate() error {
	var f findings
	f.logging(l.Effective())
	return errors.Join(f...)
}

func (f *findings) logging(l Logging) {
	f.oneOf("logging.format", string(l.Format), string(LogJSON), string(LogENS2))
	f.oneOf("logging.level", string(l.Level), string(LogDebug), string(LogInfo), string(LogWarn), string(LogError))
}
