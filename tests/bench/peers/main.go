// Loads for brokers that do not speak Kafka's protocol: values of one size to several streams, each
// acknowledged, many under way at once; and all of them read again from the start.
//
//	peers redis|nats|rabbitmq produce|consume|delete -address HOST:PORT -stream NAME [-streams 16]
//	      [-size 1024] [-count 100000]
//
// Prints one JSON object: records/s over all streams, and how many records there were.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"sync"
	"time"
)

type peer interface {
	// Sends count values, and returns once all are acknowledged.
	produce(stream string, count int, value []byte) error
	// Reads count values of so many bytes from the start.
	consume(stream string, count, size int) error
	// Makes the streams, or removes them.
	create(streams []string) error
	remove(streams []string) error
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

func connect(kind, address string) (peer, error) {
	switch kind {
	case "redis":
		return newRedis(address), nil
	case "nats":
		return newNats(address)
	case "rabbitmq":
		return newRabbit(address)
	}
	return nil, fmt.Errorf("%s: redis, nats and rabbitmq are known", kind)
}

// A text, so that nothing is gained by compressing zeros.
func value(size int) []byte {
	const words = "the quick brown fox jumps over the lazy dog; "
	text := make([]byte, size)
	for at := range text {
		text[at] = words[(at*7+at/45)%len(words)]
	}
	return text
}

func main() {
	if len(os.Args) < 3 {
		fail(fmt.Errorf("peers redis|nats|rabbitmq produce|consume|delete -address HOST:PORT ..."))
	}
	kind, what := os.Args[1], os.Args[2]
	flags := flag.NewFlagSet("peers", flag.ExitOnError)
	address := flags.String("address", "", "HOST:PORT")
	name := flags.String("stream", "load", "streams are called NAME-0, NAME-1 and so on")
	count := flags.Int("count", 100_000, "values, over all streams")
	size := flags.Int("size", 1024, "bytes of a value")
	number := flags.Int("streams", 16, "streams")
	_ = flags.Parse(os.Args[3:])
	peer, err := connect(kind, *address)
	if err != nil {
		fail(err)
	}
	var streams []string
	for at := range *number {
		streams = append(streams, fmt.Sprintf("%s-%d", *name, at))
	}
	each := *count / *number
	switch what {
	case "produce":
		err = peer.create(streams)
	case "delete":
		err = peer.remove(streams)
	case "consume":
	default:
		err = fmt.Errorf("%s: produce, consume and delete are known", what)
	}
	if err != nil {
		fail(err)
	}
	if what == "delete" {
		return
	}
	text := value(*size)
	failed := make([]error, len(streams))
	var all sync.WaitGroup
	began := time.Now()
	for at, stream := range streams {
		all.Add(1)
		go func() {
			defer all.Done()
			if what == "produce" {
				failed[at] = peer.produce(stream, each, text)
			} else {
				failed[at] = peer.consume(stream, each, *size)
			}
		}()
	}
	all.Wait()
	took := time.Since(began).Seconds()
	for _, err := range failed {
		if err != nil {
			fail(err)
		}
	}
	done := each * len(streams)
	told := map[string]any{"records": done, "records_per_s": float64(done) / took}
	_ = json.NewEncoder(os.Stdout).Encode(told)
}
