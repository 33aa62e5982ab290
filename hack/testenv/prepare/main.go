// Command prepare gets everything that tests and the demo run against, so that no test has to wait for it, and prints
// where it is. What it does is said on standard error.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/ens-operator/ens-operator/hack/testenv"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := prepare(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "prepare:", err)
		os.Exit(1)
	}
}

func prepare(ctx context.Context) error {
	postgres, err := testenv.PostgresPrograms(ctx, os.Stderr)
	if err != nil {
		return err
	}
	fmt.Println("Postgres:  ", postgres)
	pgbouncer, err := testenv.PgBouncer(ctx, os.Stderr)
	if errors.Is(err, testenv.ErrNoPgBouncer) {
		pgbouncer, err = "not there, so the test with it is skipped: "+err.Error(), nil
	}
	if err != nil {
		return err
	}
	fmt.Println("PgBouncer: ", pgbouncer)
	openssl, err := testenv.OpenSSL(ctx, os.Stderr)
	if err != nil {
		return err
	}
	fmt.Println("OpenSSL:   ", openssl)
	kubernetes, err := testenv.Assets(ctx, os.Stderr)
	if err != nil {
		return err
	}
	fmt.Println("Kubernetes:", kubernetes)
	helm, err := testenv.Helm(ctx, os.Stderr)
	if err != nil {
		return err
	}
	fmt.Println("Helm:      ", helm)
	return nil
}
