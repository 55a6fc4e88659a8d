package badgerstore

import (
	"fmt"
	"log/slog"
	"strings"
)

// logger hands Badger's own log lines to slog. Badger is chatty: its info goes
// to debug.
type logger struct{ l *slog.Logger }

func line(format string, args []any) slog.Attr {
	return slog.String("text", strings.TrimSpace(fmt.Sprintf(format, args...)))
}

func (l logger) Errorf(f string, a ...any)   { l.l.Error("badger", line(f, a)) }
func (l logger) Warningf(f string, a ...any) { l.l.Warn("badger", line(f, a)) }
func (l logger) Infof(f string, a ...any)    { l.l.Debug("badger", line(f, a)) }
func (l logger) Debugf(string, ...any)       {}
