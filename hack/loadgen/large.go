package main

import (
	"context"
	"errors"
	"io"
)

func large(context.Context, settings, io.Writer) (*report, error) { return nil, errors.New("not yet") }
func aging(context.Context, settings, io.Writer) (*report, error) { return nil, errors.New("not yet") }
