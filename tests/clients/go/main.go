// Command clients runs the Go client suites, franz-go and segmentio/kafka-go, against BOOTSTRAP.
//
// It prints "ok NAME" or "FAIL NAME: why" for each check, and exits 0 or 1. ONLY=text runs the checks
// whose names hold the text.
package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

const checkLimit = 45 * time.Second

type check struct {
	name string
	run  func(context.Context) error
}

var bootstrap = os.Getenv("BOOTSTRAP")

// nodes is how many the cluster has: NODES, or 1.
func nodes() int {
	return number("NODES")
}

// replicationFactor is that of the topics that are made: REPLICATION_FACTOR, or 1.
func replicationFactor() int {
	return number("REPLICATION_FACTOR")
}

// number is what the variable says, or 1.
func number(variable string) int {
	count, err := strconv.Atoi(os.Getenv(variable))
	if err != nil {
		return 1
	}
	return count
}

func main() {
	if bootstrap == "" {
		fmt.Fprintln(os.Stderr, "BOOTSTRAP is not set")
		os.Exit(2)
	}
	failed, ran := 0, 0
	for _, each := range append(franzChecks(), segmentioChecks()...) {
		if !strings.Contains(each.name, os.Getenv("ONLY")) {
			continue
		}
		ran++
		if !passes(each) {
			failed++
		}
	}
	fmt.Printf("go: %d of %d checks failed\n", failed, ran)
	if failed > 0 {
		os.Exit(1)
	}
}

// notInTime is no verdict: what should have come has not come yet.
type notInTime string

func (what notInTime) Error() string {
	return "not within 20 s: " + string(what)
}

// passes says whether a check passes. While a node is restarted (RESTARTS=1), one that came to no
// verdict is tried twice more, with new topics and groups, and says so. What a check found to be
// wrong is wrong at once.
func passes(each check) bool {
	left := 0
	if os.Getenv("RESTARTS") == "1" {
		left = 2
	}
	for {
		started := time.Now()
		err := runLimited(each)
		if err == nil {
			fmt.Printf("ok go: %s (%.1f s)\n", each.name, time.Since(started).Seconds())
			return true
		}
		why := strings.Join(strings.Fields(err.Error()), " ")
		var late notInTime
		if left == 0 || !errors.As(err, &late) {
			fmt.Printf("FAIL go: %s: %s\n", each.name, why)
			return false
		}
		fmt.Printf("RETRIED go: %s: %s\n", each.name, why)
		left--
	}
}

func runLimited(each check) error {
	ctx, cancel := context.WithTimeout(context.Background(), checkLimit)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- each.run(ctx) }()
	select {
	case err := <-done:
		return err
	case <-time.After(checkLimit + time.Second):
		return fmt.Errorf("still running after %s", checkLimit)
	}
}

// unique returns a topic or group name that no other run uses.
func unique(name string) string {
	var random [6]byte
	if _, err := rand.Read(random[:]); err != nil {
		panic(err)
	}
	return name + "-" + hex.EncodeToString(random[:])
}

func expect(what string, actual, expected any) error {
	got, wanted := fmt.Sprintf("%q", actual), fmt.Sprintf("%q", expected)
	if got == wanted {
		return nil
	}
	return fmt.Errorf("%s: expected %.300s, got %.300s", what, wanted, got)
}

func eventually(ctx context.Context, what string, condition func() bool) error {
	deadline := time.Now().Add(20 * time.Second)
	for !condition() {
		if time.Now().After(deadline) || ctx.Err() != nil {
			return notInTime(what)
		}
		time.Sleep(50 * time.Millisecond)
	}
	return nil
}
