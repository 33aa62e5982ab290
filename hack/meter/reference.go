package meter

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"fmt"
	"runtime"
	"syscall"
	"testing"
	"time"
)

// referenceBits is the size of the keys of Boxer's users.
const referenceBits = 2048

// Reference is how much CPU time one private operation of RSA-2048 takes on this machine right now, by Go's benchmark. What
// programs take is told in this unit (R), because machines differ, and so does one machine from hour to hour. It is CPU time
// as theirs is: who shares the machine lets the clock run on, but not that.
func Reference() (time.Duration, error) {
	key, err := rsa.GenerateKey(rand.Reader, referenceBits)
	if err != nil {
		return 0, fmt.Errorf("making the reference key: %w", err)
	}
	hash := sha256.Sum256(nil)
	var took time.Duration
	result := testing.Benchmark(func(b *testing.B) {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		began := threadTime()
		for range b.N {
			if _, failed := rsa.SignPKCS1v15(nil, key, crypto.SHA256, hash[:]); failed != nil {
				err = failed
			}
		}
		took = (threadTime() - began) / time.Duration(b.N) // that of the last and longest round stays
	})
	if err != nil || result.N == 0 {
		return 0, fmt.Errorf("measuring the reference: %w", err)
	}
	return took, nil
}

// threadTime is the CPU time of this thread, user and system.
func threadTime() time.Duration {
	const rusageThread = 1
	var usage syscall.Rusage
	_ = syscall.Getrusage(rusageThread, &usage) // cannot fail with these arguments
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// keyRounds is how many benchmarks of key generation are taken together: how long one key takes is a matter of luck.
const keyRounds = 5

// KeyGeneration is how much CPU time it takes to make a key pair of RSA-2048, by Go's benchmark: what bounds how fast new
// users can be let in once no pair is in stock.
func KeyGeneration() (time.Duration, error) {
	var took time.Duration
	var made int
	var err error
	for range keyRounds {
		result := testing.Benchmark(func(b *testing.B) {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			began := threadTime()
			for range b.N {
				if _, failed := rsa.GenerateKey(rand.Reader, referenceBits); failed != nil {
					err = failed
				}
			}
			took += threadTime() - began
			made += b.N
		})
		if err != nil || result.N == 0 {
			return 0, fmt.Errorf("measuring the generation of keys: %w", err)
		}
	}
	return took / time.Duration(made), nil
}
